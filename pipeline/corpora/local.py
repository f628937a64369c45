"""Which files a source reads on this machine, and what is in them: the part of a corpus's id that no config holds.

Standard library only: the Snakefile asks each time it is read, also in every job of a cluster. So files are hashed
once, and their hashes kept until their size or times change.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import read_json, write_json

FRESH = 2_000_000_000
"""Nanoseconds: the hash of a file changed so lately is not kept, since another change may bear the same time."""

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")
"""What may be the name of a data set of the hub: `owner/name`, or the name alone of a few old ones."""


def paths_of(pattern: str) -> list[str]:
    """Return the files that a glob names, sorted; a file that is linked to is read once, under its shortest name.

    `*`, `?` and `[...]` match within a name, not its leading dot, `**` any depth of folders; a leading `~` is the home
    folder. A name with brackets that is there as it is written, such as `[v1]`, is taken as it is.

    Raises
    ------
    UserError
        When nothing matches, or the glob is a folder's name.
    """
    path = os.path.expanduser(pattern)
    if os.path.isdir(path):
        raise UserError(f"path: {pattern!r} is a folder: write which files in it, such as {path.rstrip('/')}/**/*.txt")
    names = [name for name in path.split("/") if name]
    found = [path] if os.path.isfile(path) else _matches("/" if path.startswith("/") else "", names)
    first: dict[tuple[int, ...] | str, str] = {}
    for name in sorted(set(found), key=lambda name: (name.count("/"), name)):
        if os.path.isfile(name):
            stat = os.stat(name)
            first.setdefault((stat.st_dev, stat.st_ino) if stat.st_ino else os.path.realpath(name), name)
    if not first:
        hint = "; [ and ] stand for a set of characters: write [[] for a bracket" if "[" in path else ""
        where = "" if path.startswith("/") else f" in {os.getcwd()}"
        raise UserError(f"path: no file matches {pattern!r}{where}{hint}")
    return sorted(first.values())


def _matches(folder: str, names: list[str]) -> list[str]:
    """Return the paths in a folder that match the parts of a glob, some of them twice."""
    if not names:
        return []
    name, *rest = names
    if name == "**":
        return [path for inner in _folders(folder) for path in _matches(inner, rest or ["*"])]
    literal = os.path.join(folder, name)
    if not any(mark in name for mark in "*?[") or ("*" not in name and "?" not in name and os.path.lexists(literal)):
        found = [literal]
    else:
        shown = [entry for entry in _entries(folder) if name.startswith(".") or not entry.startswith(".")]
        found = [os.path.join(folder, entry) for entry in shown if fnmatchcase(entry, name)]
    return [path for inner in found if os.path.isdir(inner) for path in _matches(inner, rest)] if rest else found


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))
    except OSError as error:
        raise UserError(f"the folder {folder or '.'} can't be read ({error.strerror or error})") from error


def _folders(folder: str) -> Iterator[str]:
    """Yield a folder and all below it, those without a leading dot, each once however it is linked."""
    seen: set[str] = set()
    waiting = deque([folder])
    while waiting:
        path = waiting.popleft()
        real = os.path.realpath(path or ".")
        if real not in seen:
            seen.add(real)
            yield path
            names = [os.path.join(path, name) for name in _entries(path) if not name.startswith(".")]
            waiting += [name for name in names if os.path.isdir(name)]


def files_of(source: Mapping[str, Any]) -> list[str] | None:
    """Return the files of this machine that a source reads; None for a source that reads none.

    Raises
    ------
    UserError
        When it should read some and there are none.
    """
    if source.get("kind") == "files":
        return paths_of(source["path"])
    if source.get("kind") != "hub":
        return None
    name = source["name"]
    if os.path.isdir(name):
        inner = [os.path.join(path, entry) for path in _folders(name) for entry in _entries(path) if entry[0] != "."]
        return sorted(path for path in inner if os.path.isfile(path))
    if os.path.isfile(name):
        raise UserError(f"name: {name!r} is a file: kind hub reads a folder of files; for a file use kind files")
    if not HUB_NAME.fullmatch(name):
        raise UserError(f"name: there is no folder {name!r}, and a data set of the hub is named owner/name")
    return None


class Hashes:
    """The sha256 of files, kept in a JSON file from one reading of the Snakefile to the next.

    A file is hashed again when its size or one of its times is another.

    Parameters
    ----------
    path : str or Path, optional
        The JSON file; without it nothing is kept.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path else None
        self._kept: dict[str, list[Any]] | None = None
        self._changed = False

    def __call__(self, file: str) -> str:
        """Return the sha256 of a file.

        Raises
        ------
        UserError
            When it can't be read.
        """
        if self._kept is None:
            self._kept = self._read()
        key = os.path.abspath(file)
        try:
            stat = os.stat(file)
            seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            *known, digest = self._kept.get(key, [None])
            if known == seen:
                return digest
            with open(file, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{file}: can't be read ({error.strerror or error})") from error
        if time.time_ns() - stat.st_ctime_ns > FRESH:
            self._kept[key] = [*seen, digest]
            self._changed = True
        return digest

    def _read(self) -> dict[str, list[Any]]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            return read_json(self.path)
        except ValueError as error:
            raise UserError(f"{self.path}: damaged ({error}); remove it") from error

    def save(self) -> None:
        """Write what is new to the JSON file."""
        if self._changed and self.path:
            write_json(self.path, self._kept)
            self._changed = False


def contents(spec: Mapping[str, Any], hashes: Hashes) -> dict[str, str]:
    """Return file -> sha256 of all files of this machine that a corpus reads, in their order; none for most corpora.

    Raises
    ------
    UserError
        When a source reads files and there are none: `sources/0: path: no file matches ...`.
    """
    found: dict[str, str] = {}
    for number, source in enumerate(spec["sources"]):
        try:
            files = files_of(source) or []
        except UserError as error:
            raise UserError(f"sources/{number}: {error}") from error
        found |= {file: hashes(file) for file in files}
    hashes.save()
    return found


def digest_of(files: Mapping[str, str]) -> str:
    """Return one sha256 for the names and contents of files."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()
