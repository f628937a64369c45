"""Packages that the command can be without: matplotlib draws, pyarrow reads and writes parquet."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ...errors import UserError


def extra(name: str, needed_by: str) -> ModuleType:
    """Import a package, or say what needs it and how to get it.

    Examples
    --------
    >>> extra("no_such_package", "--plot fit.png")
    Traceback (most recent call last):
    ...
    pipeline.errors.UserError: --plot fit.png: needs no_such_package, which is not installed (pip install
    no_such_package)
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is there, and broken
            raise
        raise UserError(f"{needed_by}: needs {name}, which is not installed (pip install {name})") from None
