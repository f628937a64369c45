"""Put together the page from the files of an experiment."""

from __future__ import annotations

import base64
import importlib.metadata
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape

from pipeline.claims.verdict import FAILS, HOLDS, OPEN, OUT_OF_REACH
from pipeline.errors import UserError
from pipeline.files import read_json, reading
from pipeline.tables.table import text

SECTIONS: dict[str, tuple[str, ...]] = {
    "1 Introduction": ("fig01", "fig02", "fig03", "fig04"),
    "2 Background and methods": ("table1",),
    "3 Empirical results and basic power laws": ("fig05", "fig06", "fig07", "fig08"),
    "4 Charting the infinite data limit and overfitting": ("table2", "fig09"),
    "5 Scaling laws with model size and training time": ("fig10", "table3", "fig11"),
    "6 Optimal allocation of the compute budget": ("fig12", "fig13", "fig14", "fig15"),
    "A Summary of power laws": ("table4", "table5", "table6"),
    "D Supplemental figures": ("fig16", "fig17", "fig18", "fig19", "fig20", "fig21", "fig22", "fig23", "fig24"),
}
"""Section of the paper -> its figures and tables, in its order."""
BEYOND = "Beyond the paper"
"""Section of the figures and tables that the paper does not have."""
PACKAGES = ("datasets", "matplotlib", "numpy", "pandas", "pyarrow", "scipy", "snakemake", "tokenizers", "torch")
PAGE_WIDTH = 1400
"""Pixels of a png as wide as a page: 7 inches at 200 dots (pipeline/style.py)."""
AGAIN = "remove it, and start the workflow again"
"""What to do about a damaged figure or table."""
COLOURS = {HOLDS: "holds", FAILS: "fails", OPEN: "open", OUT_OF_REACH: "beyond"}
"""Verdict -> class of its cell."""


@dataclass(frozen=True)
class Figure:
    """A figure with its caption."""

    name: str
    caption: Mapping[str, str]
    image: str
    """The png as a data URI."""
    width: float = 1.0
    """Its width as a part of a page's."""

    @property
    def number(self) -> str:
        """The figure's name in words.

        Examples
        --------
        >>> Figure("fig07", {}, "").number, Figure("validation", {}, "").number
        ('Figure 7', 'Validation')
        """
        digits = self.name.removeprefix("fig")
        return f"Figure {int(digits)}" if digits.isdigit() else self.name.replace("_", " ").capitalize()


@dataclass(frozen=True)
class Grid:
    """A table as its markdown file has it."""

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]

    @property
    def number(self) -> str:
        """The table's name in words, for example Table 2."""
        digits = self.name.removeprefix("table")
        return f"Table {digits}" if digits.isdigit() else self.name.replace("_", " ").capitalize()


def read_figure(folder: Path, name: str) -> Figure:
    """Read a figure's png and caption.

    Raises
    ------
    UserError
        When one of them is missing or damaged.
    """
    png, caption = folder / f"{name}.png", folder / f"{name}.json"
    for path in (png, caption):
        if not path.is_file():
            raise UserError(f"{path}: no such file; figure {name} is not drawn")
    with reading(png, "the png of a figure", AGAIN):
        content = png.read_bytes()
        if not (content.startswith(b"\x89PNG") and content[-8:-4] == b"IEND"):
            raise ValueError("its start or its end is missing")
    with reading(caption, "the caption of a figure", AGAIN):
        sentences = dict(read_json(caption))
    width = int.from_bytes(content[16:20], "big") / PAGE_WIDTH  # of the png's header
    image = "data:image/png;base64," + base64.b64encode(content).decode()
    return Figure(name, sentences, image, min(1.0, width))


def read_grid(path: Path) -> Grid:
    """Read a table from the markdown that `pipeline.tables.table.Table` writes.

    Raises
    ------
    UserError
        When the file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; table {path.stem} is not made")
    with reading(path, "a table", AGAIN):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = [cells(line) for line in lines if line.startswith("|")]
        words = [line for line in lines if not line.startswith("|")]
        return Grid(path.stem, words[0].strip("*"), rows[0], rows[2:], words[1:])


def cells(line: str) -> list[str]:
    r"""Split a row of a markdown table.

    Examples
    --------
    >>> cells(r"| a | b \| c |  |")
    ['a', 'b | c', '']
    """
    inner = line.removeprefix("|").removesuffix("|").replace("\\|", "\0")
    return [cell.strip().replace("\0", "|") for cell in inner.split("|")]


def read_claims(path: Path) -> list[dict[str, Any]]:
    """Read the table of claims: one dict a claim, with `number` (ours and its interval) and `checks` in words."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; the table claims is not made")
    with reading(path, "the table claims", AGAIN):
        table = pd.read_csv(path, keep_default_na=False, na_values={name: [""] for name in ("ours", "low", "high")})
        return [_claim(row) for row in table.to_dict("records")]


def _claim(row: dict[str, Any]) -> dict[str, Any]:
    number = text(row["ours"])
    if number and text(row["low"]) and row["low"] != row["high"]:
        number += f" ({text(row['low'])} to {text(row['high'])})"
    checks = row["reason"].removesuffix(".").split("; ")
    return row | {"number": number, "checks": checks, "colour": COLOURS[row["verdict"]]}


def sections(figures: Iterable[str], tables: Iterable[str]) -> dict[str, list[str]]:
    """Return section -> names of the figures and tables that were made, those that the paper lacks at the end.

    Examples
    --------
    >>> sections(["fig09", "validation"], ["table2"])
    {'4 Charting the infinite data limit and overfitting': ['table2', 'fig09'], 'Beyond the paper': ['validation']}
    """
    made = [*figures, *tables]
    placed = {title: [name for name in names if name in made] for title, names in SECTIONS.items()}
    known = {name for names in SECTIONS.values() for name in names}
    placed[BEYOND] = [name for name in made if name not in known and name != "claims"]
    return {title: names for title, names in placed.items() if names}


def versions() -> dict[str, str]:
    """Return what this was made with: Python and the packages that decide numbers or pictures."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder; values are escaped."""
    environment = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["text"] = text
    return environment.get_template(template).render(**values)
