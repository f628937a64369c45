"""Points to fit: read a CSV, rename columns, and refuse what can't be fitted, naming column and row."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import UserError

UNITS = {
    "n_params": "parameters",
    "n_tokens": "tokens",
    "flops": "FLOP",
    "steps": "steps",
    "loss": "nats per token",
    "b_crit": "tokens",
    "batch_tokens": "tokens",
    "position": "tokens",
}
C_6ND = {
    "n_tokens": ("flops", "n_params"),
    "n_params": ("flops", "n_tokens"),
    "flops": ("n_params", "n_tokens"),
}
CONDITION = re.compile(r"(.+?)(<=|>=|!=|<|>|=)(.+)")
ORDERS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
INFINITE = ("n_tokens", "steps")  # columns where "inf" means: no limit from this side


def read_points(path: str | Path) -> pd.DataFrame:
    """Read a table of points from a CSV; the index is the line in the file.

    A byte order mark is skipped and the delimiter (comma, semicolon, tab or bar) is told from the header. All cells
    stay text, so that `check_points` can name the cell that is not a number. A parquet file is read as it is.

    Raises
    ------
    UserError
        If the file is missing, empty, not UTF-8, or a line has more or fewer cells than the header.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".parquet":
        return pd.read_parquet(path).rename_axis("row")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the table as UTF-8 text") from error
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise UserError(f"{path}: line 1 must be a header with column names")
    delimiter = max(",;\t|", key=lines[0].count)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    header = [name.strip() for name in next(reader)]
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise UserError(f"{path}: column {sorted(repeated)[0]!r} appears twice in the header")
    cells, numbers = [], []
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise UserError(f"{path}: line {reader.line_num} has {len(row)} cells, the header has {len(header)}")
        cells.append([cell.strip() for cell in row])
        numbers.append(reader.line_num)
    if not cells:
        raise UserError(f"{path}: no rows below the header")
    return pd.DataFrame(cells, columns=header, index=pd.Index(numbers, name="line"), dtype=object)


def rename(points: pd.DataFrame, columns: Mapping[str, str] | None) -> pd.DataFrame:
    """Give columns the names that laws use: `columns` maps a law's name to the table's.

    Examples
    --------
    >>> list(rename(pd.DataFrame({"Model Size": [1.0], "loss": [2.0]}), {"n_params": "Model Size"}))
    ['n_params', 'loss']
    """
    for ours, theirs in (columns or {}).items():
        if theirs not in points:
            raise UserError(f"column {theirs!r} (for {ours}) is missing; the table has {_names(points)}")
    swapped = {theirs: ours for ours, theirs in (columns or {}).items()}
    kept = points.drop(columns=[ours for ours in swapped.values() if ours in points and ours not in swapped])
    return kept.rename(columns=swapped)


def complete(points: pd.DataFrame, needs: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Add what a law needs and C = 6 N D gives: n_tokens, n_params or flops, where the other two are there.

    Returns
    -------
    points : DataFrame
    derived : list of str
        How each column was made, such as "n_tokens = flops / (6 n_params)".

    Examples
    --------
    >>> complete(pd.DataFrame({"n_params": ["1e9"], "flops": ["6e19"]}), ["n_tokens"])[1]
    ['n_tokens = flops / (6 n_params)']
    """
    derived = []
    for name, (one, other) in C_6ND.items():
        if name in needs and name not in points and one in points and other in points:
            a, b = numbers(points, one, name), numbers(points, other, name)
            points = points.assign(**{name: 6 * a * b if name == "flops" else a / (6 * b)})
            derived.append(f"flops = 6 {one} {other}" if name == "flops" else f"{name} = {one} / (6 {other})")
    return points, derived


def choose_rows(points: pd.DataFrame, conditions: Sequence[str], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows that meet every condition, each "COLUMN OPERATOR VALUE" with < <= > >= = or !=.

    COLUMN is the table's name or the law's. A cell that is not a number meets no < or >, so `loss>0` drops the rows
    without a loss.

    Raises
    ------
    UserError
        For a condition of another form, a column that is missing, or when no row is left.

    Examples
    --------
    >>> table = pd.DataFrame({"L": ["3.1", "nan", "2.9"], "data": ["c4", "c4", "pile"]})
    >>> choose_rows(table, ["loss > 0", "data = c4"], {"loss": "L"}).index.tolist()
    [0]
    """
    for condition in conditions:
        match = CONDITION.fullmatch(condition)
        if not match:
            raise UserError(
                f"--where {condition!r}: COLUMN OPERATOR VALUE is needed, such as 'loss < 5' or 'data = c4'"
            )
        name, operator, value = (part.strip() for part in match.groups())
        column = columns.get(name, name)
        if column not in points:
            raise UserError(f"--where {condition!r}: column {column!r} is missing; the table has {_names(points)}")
        cells = pd.to_numeric(points[column], errors="coerce").to_numpy(dtype=float)
        limit = pd.to_numeric(value, errors="coerce")
        if operator in ("=", "!="):
            same = (points[column].astype(str).str.strip() == value).to_numpy() | (cells == limit)
            kept = same if operator == "=" else ~same
        elif np.isnan(limit):
            raise UserError(f"--where {condition!r}: {value!r} is not a number; with text only = and != can be used")
        else:
            kept = ORDERS[operator](cells, limit)
        points = points[kept]
        if not len(points):
            raise UserError(f"--where {condition!r}: no row is left")
    return points


def _names(points: pd.DataFrame) -> str:
    return ", ".join(map(repr, points.columns))


def _cell(points: pd.DataFrame, column: str, position: int) -> str:
    label = points.index.name or "row"
    return f"column {column!r}, {label} {points.index[position]}"


def numbers(points: pd.DataFrame, column: str, law: str, infinite: bool = False) -> np.ndarray:
    """Return a column as positive floats, or name the first cell that isn't one.

    Raises
    ------
    UserError
        Naming the column and the row.
    """
    if column not in points:
        raise UserError(f"column {column!r} is missing: {law} needs it; the table has {_names(points)}")
    raw = points[column]
    values = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=float)
    for position in np.flatnonzero(np.isnan(values)):
        text = raw.iloc[position]
        empty = text is None or (isinstance(text, float) and np.isnan(text)) or str(text).strip() == ""
        if empty or str(text).strip().lower() == "nan":
            what = "is empty" if empty and not isinstance(text, float) else "is NaN"
        else:
            what = f"{text!r} is not a number"
        raise UserError(f"{_cell(points, column, position)}: {what}; a positive number is needed")
    allowed = values > 0
    if not infinite:
        allowed &= np.isfinite(values)
    for position in np.flatnonzero(~allowed):
        raise UserError(f"{_cell(points, column, position)}: {values[position]:g} is not a positive finite number")
    return values


def check_points(
    points: pd.DataFrame, law: str, inputs: Sequence[str], response: str, weights: str | Sequence[float] | None
) -> pd.DataFrame:
    """Return the points with numbers in the columns of a law, `run` as text and `weight`; extra columns are kept.

    Without a `run` column each row is a run of its own, named by its row.

    Raises
    ------
    UserError
        For a missing column, a cell that is not a positive number, or a run that has the same inputs twice.
    """
    if not len(points):
        raise UserError(f"no rows to fit {law} to")
    checked = points.copy()
    for column in (*inputs, response):
        checked[column] = numbers(points, column, law, infinite=column in INFINITE and column != response)
    if isinstance(weights, str):
        checked["weight"] = numbers(points, weights, "--weights")
    elif weights is None:
        checked["weight"] = 1.0
    else:
        if len(weights) != len(points):
            raise UserError(f"weights: {len(weights)} values for {len(points)} points")
        checked["weight"] = np.asarray(weights, dtype=float)
        checked["weight"] = numbers(checked, "weight", "a fit with weights")
    if "run" in points:
        checked["run"] = points["run"].astype(str)
        twice = checked.duplicated(["run", *inputs]).to_numpy()
        if twice.any():
            at = int(np.flatnonzero(twice)[0])
            given = ", ".join(f"{column} = {checked[column].iloc[at]:g}" for column in inputs)
            raise UserError(f"{_cell(points, 'run', at)}: run {checked['run'].iloc[at]!r} is there twice with {given}")
    else:
        checked["run"] = [f"{points.index.name or 'row'} {label}" for label in points.index]
    return checked
