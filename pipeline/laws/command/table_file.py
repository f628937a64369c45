"""Write a table in each format that the reader of points takes, so that what one command wrote another reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ...errors import UserError
from ...files import atomic_path
from ..fitting.extra import extra
from ..fitting.point_table import JSON_LINES


def check_table_name(option: str, path: str) -> None:
    """Refuse a name that does not say which format is meant, and a format that can't be written here."""
    if Path(path).suffix not in WRITERS:
        raise UserError(f"{option} {path}: a name that ends in {', '.join(WRITERS)} is needed")
    if Path(path).suffix == ".parquet":
        extra("pyarrow", f"{option} {path}")


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table without its index, whole or not at all: CSV, JSON lines or parquet, by how the name ends.

    Raises
    ------
    UserError
        When it can't be written, or a column holds what parquet can't.
    """
    with atomic_path(path) as temporary:
        WRITERS[Path(path).suffix](table, temporary)


def _csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n")


def _json_lines(table: pd.DataFrame, path: Path) -> None:
    rows = table.astype(object).to_dict("records")
    lines = (json.dumps({name: _plain(cell) for name, cell in row.items()}, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _plain(cell: object) -> object:
    """Return a cell as JSON has it: null for none, text for infinity, which the reader takes, and for dates."""
    if isinstance(cell, np.generic):
        cell = cell.item()
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return None
    if isinstance(cell, float) and not np.isfinite(cell):
        return None if np.isnan(cell) else str(cell)
    return cell if isinstance(cell, (bool, int, float, str, list, dict)) else str(cell)


def _parquet(table: pd.DataFrame, path: Path) -> None:
    arrow = extra("pyarrow", "parquet")
    try:
        table.to_parquet(path, index=False)
    except (arrow.ArrowException, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"a column is not of one type, which parquet needs ({reason}); write .csv or .jsonl") from error


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": _csv,
    **dict.fromkeys(JSON_LINES, _json_lines),
    ".parquet": _parquet,
}
