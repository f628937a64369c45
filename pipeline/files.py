"""Write a file whole or not at all, and name the one that can't be read or written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError


@contextmanager
def reading(path: str | Path, needed: str, remedy: str = "") -> Iterator[None]:
    """Name the file that can't be read, or that is not what is `needed`; `remedy` says how to get another.

    Whatever is raised within means that the file is damaged, so nothing but reading and checking it belongs there.

    Raises
    ------
    UserError
        One line for each fault, with the reason.

    Examples
    --------
    >>> with reading("meta.json", "the JSON of token files", "remove it"):
    ...     json.loads('{"vocabulary": 6')
    Traceback (most recent call last):
    ...
    pipeline.errors.UserError: meta.json: not the JSON of token files (Expecting ',' delimiter: line 1 column 17 (char
    16)); remove it
    """
    remedy = f"; {remedy}" if remedy else ""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; {needed} is needed") from None
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error}){remedy}") from error
    except Exception as error:  # of many classes: those of each format's library
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) and error.args else error
        raise UserError(f"{path}: not {needed} ({reason}){remedy}") from error


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Name the file that can't be written: the disk is full, the folder is read-only."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise UserError(f"{path}: can't be written ({reason})") from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it is flushed to disk and renamed to `path`.

    The parent folder is made when it is missing. On an error the temporary file is removed and `path` is as
    it was before. The temporary name keeps the suffix, since several writers choose the format by it.

    Raises
    ------
    UserError
        When it can't be written.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "numbers.txt"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("1 2 3")
    >>> target.read_text()
    '1 2 3'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN and infinity are refused with a ValueError."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
