"""What a job's code is: the files of this package that its module imports, one way or another.

A rule lists them as inputs, so that an edit reruns what it can change and nothing else. They are found by reading the
modules, not by importing them. Imports for types alone don't count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder that holds the package `pipeline`."""


def code_files(*modules: str, root: Path = ROOT) -> list[str]:
    """Return the files of modules and of all that they import from this package, sorted.

    Parameters
    ----------
    modules : str
        Names such as `pipeline.figures.fig01`; a package stands for its `__init__`.
    root : Path
        The folder that holds the package.

    Raises
    ------
    ModuleNotFoundError
        When a module has no file.

    Examples
    --------
    >>> [Path(path).name for path in code_files("pipeline.hashing")]
    ['__init__.py', 'hashing.py']
    """
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        for file in _files(waiting.pop(), root):
            if file not in found:
                found.add(file)
                waiting += imported(file, root)
    return sorted(map(str, found))


def _files(module: str, root: Path) -> list[Path]:
    """Return the file of a module and the `__init__` of each package above it, which importing it runs too."""
    parts = module.split(".")
    packages = [root.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts))]
    own = _file(module, root)
    if own is None:
        raise ModuleNotFoundError(f"{module}: no file in {root}")
    return [*packages, own]


def _file(module: str, root: Path) -> Path | None:
    """Return the file of a module, None where there is none of that name."""
    path = root.joinpath(*module.split("."))
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return None


@cache
def imported(file: Path, root: Path) -> list[str]:
    """Return the modules of this package that a file imports, and the packages that it takes them from."""
    package = file.resolve().relative_to(root.resolve()).parent.parts
    return list(_names(ast.parse(file.read_text(encoding="utf-8")), root, package))


def _names(tree: ast.AST, root: Path, package: tuple[str, ...]) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("pipeline"))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()  # of `from ..errors import`
            module = ".".join((*above, *filter(None, [node.module])))
            if module.startswith("pipeline"):
                yield module
                for alias in node.names:  # a module of that package, or a name in it
                    if _file(f"{module}.{alias.name}", root):
                        yield f"{module}.{alias.name}"
        yield from _names(node, root, package)
