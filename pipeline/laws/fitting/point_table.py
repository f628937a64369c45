"""Points to fit: read a CSV, rename columns, and refuse what can't be fitted, naming column and row."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from ...errors import UserError
from ...files import reading
from .extra import extra

UNITS = {
    "n_params": "parameters",
    "n_tokens": "tokens",
    "n_unique_tokens": "tokens",
    "flops": "FLOP",
    "steps": "steps",
    "loss": "nats per token",
    "error": "share",
    "b_crit": "tokens",
    "batch_tokens": "tokens",
    "position": "tokens",
    "step": "steps",
}
C_6ND = {
    "n_tokens": ("flops", "n_params"),
    "n_params": ("flops", "n_tokens"),
    "flops": ("n_params", "n_tokens"),
}
CONDITION = re.compile(r"(.+?)(<=|>=|!=|<|>|=)(.+)")
ORDERS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
DELIMITERS = ",;\t|"
JSON_LINES = (".jsonl", ".ndjson")  # how their files' names end
MAGIC = {
    b"\x1f\x8b": "compressed (gzip)",
    b"PK\x03\x04": "a zip archive, as .xlsx is",
    b"PAR1": "a parquet file",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
COUNTED = ("n_params", "n_tokens", "n_unique_tokens", "flops")  # columns of counts: below 1 the unit is another
NO_NAME = ("nan", "none", "null", "<na>")  # what a table writes for the name of a run that has none
NO_NUMBERS = (bool, np.bool_, complex, date, time, timedelta, np.datetime64, np.timedelta64, pd.Period)
INFINITE = ("n_tokens", "steps")  # columns where "inf" means: no limit from this side
ZERO = ("step", "lr")  # columns that may be 0: before training, and at the end of a schedule


def read_points(path: str | Path) -> pd.DataFrame:
    """Read a table of points from a CSV or from JSON lines; the index is the line in the file at which a row begins.

    A byte order mark is skipped and the delimiter (comma, semicolon, tab or bar) is the one that gives every row as
    many cells as the header. All cells stay text, so that `check_points` can name the cell that is not a number. Of a
    parquet file a named index becomes columns.

    Raises
    ------
    UserError
        If the file is missing, empty, not UTF-8 or no parquet, a line has more or fewer cells than the header, or a
        quote is not closed where its cell ends.
    """
    path = Path(path)
    with reading(path, "a CSV, JSON lines or parquet file"):
        data = path.read_bytes()
    read = {".parquet": _parquet, **dict.fromkeys(JSON_LINES, _json_lines)}.get(path.suffix, _csv)
    table = read(path, data)
    repeated = list(table.columns[table.columns.duplicated()])
    if repeated:
        raise UserError(f"{path}: column {repeated[0]!r} appears twice in the header")
    return table


def _parquet(path: Path, data: bytes) -> pd.DataFrame:
    arrow = extra("pyarrow", str(path))
    try:
        table = pd.read_parquet(io.BytesIO(data))
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: is not a parquet file that can be read ({error})") from error
    if table.columns.nlevels > 1:
        raise UserError(f"{path}: its columns have {table.columns.nlevels} levels of names; one is needed")
    table.columns = table.columns.map(str)
    named = [name for name in table.index.names if name is not None]
    taken = [name for name in named if name in table]
    if taken:
        raise UserError(f"{path}: {taken[0]!r} is the name of a column and of the index; one of them is needed")
    if table.index.nlevels > 1 or named:
        table = table.reset_index()
    return table.rename_axis("row") if table.index.is_unique else table.reset_index(drop=True).rename_axis("row")


def _text(path: Path, data: bytes) -> str:
    for magic, what in MAGIC.items():
        if data.startswith(magic):
            raise UserError(f"{path}: is {what}; save the table as UTF-8 text, or as parquet in a file named .parquet")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the table as UTF-8 text") from error


def _json_lines(path: Path, data: bytes) -> pd.DataFrame:
    """Read an object a line; a key that a line has not is an empty cell."""
    rows, lines = [], []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", _text(path, data)), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}: line {number} is not JSON ({error}); one object a line is needed") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is not a JSON object; one object a line is needed")
        rows.append(row)
        lines.append(number)
    if not rows:
        raise UserError(f"{path}: no rows")
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name) for name in names] for row in rows]
    return pd.DataFrame(cells, columns=names, index=pd.Index(lines, name="line"), dtype=object)


def _csv(path: Path, data: bytes) -> pd.DataFrame:
    text = _text(path, data)
    if not next(io.StringIO(text, newline=""), "").strip():
        raise UserError(f"{path}: line 1 must be a header with column names")
    tried = [_Cells.split(text, delimiter) for delimiter in DELIMITERS if delimiter in text or delimiter == ","]
    # One that gives all rows the header's number of cells; else the fault is told of the one with the most columns.
    found = max(tried, key=lambda one: (one.fault is None and len(one.header) > 1, len(one.header)))
    if found.fault:
        raise UserError(f"{path}: {found.fault}")
    if not found.rows:
        raise UserError(f"{path}: no rows below the header")
    return pd.DataFrame(found.rows, columns=found.header, index=pd.Index(found.lines, name="line"), dtype=object)


@dataclass
class _Cells:
    """A text split into cells at one delimiter, up to the first line that can't be."""

    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # where each row begins
    fault: str | None = None

    @classmethod
    def split(cls, text: str, delimiter: str) -> _Cells:
        """Split a text whose first line is a header; lines end at CR, LF or both, and at nothing else."""
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a cell may be as long as the text
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
        found, begin = cls(), 1
        try:
            for row in reader:
                row = [cell.strip() for cell in row]
                found.header = found.header or row
                if any(row):
                    found.fault = found._misfit(row, begin, delimiter)
                    if found.fault:
                        break
                    found.rows.append(row)
                    found.lines.append(begin)
                begin = reader.line_num + 1
        except csv.Error as error:
            if "unexpected end" in str(error):
                found.fault = f"line {begin}: a quote is opened in this row and never closed"
            elif "expected after" in str(error):
                found.fault = (
                    f"line {reader.line_num}: text follows a closing quote"
                    + (f"; the row begins at line {begin}" if begin < reader.line_num else "")
                    + "; a quote inside of a cell is written twice"
                )
            else:
                found.fault = f"line {reader.line_num}: {error}"
        found.rows, found.lines = found.rows[1:], found.lines[1:]
        return found

    def _misfit(self, row: list[str], begin: int, delimiter: str) -> str | None:
        """Say why this row, which begins at a line, does not fit the header, or return None."""
        if len(row) != len(self.header):
            return f"line {begin} has {len(row)} cells, the header has {len(self.header)}"
        for cell in row:
            for line in re.split(r"\r\n|\r|\n", cell)[1:]:
                pieces = line.split(delimiter)
                if (len(pieces) == len(row) or begin == 1) and sum(map(is_number, pieces)) > 1:
                    return f"line {begin}: a quote is opened in this row that takes in other rows, such as {line!r:.60}"
        return None


def is_number(text: str) -> bool:
    """Return whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


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


def check_names(columns: Mapping[str, str], names: Sequence[str]) -> None:
    """Refuse a column of the table that is to be two of the columns that a law needs.

    Examples
    --------
    >>> check_names({"x": "loss"}, ("x", "loss"))
    Traceback (most recent call last):
    ...
    pipeline.errors.UserError: column 'loss' is to be both x and loss; each needs a column of its own
    """
    taken: dict[str, str] = {}
    for ours in dict.fromkeys((*columns, *names)):
        theirs = columns.get(ours, ours)
        if theirs in taken:
            raise UserError(
                f"column {theirs!r} is to be both {taken[theirs]} and {ours}; each needs a column of its own"
            )
        taken[theirs] = ours


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


def choose_rows(
    points: pd.DataFrame, conditions: Sequence[str], columns: Mapping[str, str], option: str = "--where"
) -> pd.DataFrame:
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
                f"{option} {condition!r}: COLUMN OPERATOR VALUE is needed, such as 'loss < 5' or 'data = c4'"
            )
        name, operator, value = (part.strip() for part in match.groups())
        column = columns.get(name, name)
        if column not in points:
            raise UserError(f"{option} {condition!r}: column {column!r} is missing; the table has {_names(points)}")
        cells = pd.to_numeric(points[column], errors="coerce").to_numpy(dtype=float)
        limit = pd.to_numeric(value, errors="coerce")
        if operator in ("=", "!="):
            same = (points[column].astype(str).str.strip() == value).to_numpy() | (cells == limit)
            kept = same if operator == "=" else ~same
        elif np.isnan(limit):
            raise UserError(f"{option} {condition!r}: {value!r} is not a number; with text only = and != can be used")
        else:
            kept = ORDERS[operator](cells, limit)
        points = points[kept]
        if not len(points):
            raise UserError(f"{option} {condition!r}: no row is left")
    return points


def drop_highest(points: pd.DataFrame, highest: Mapping[str, float], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows without those that hold the K highest values of a column; equal values go together.

    Raises
    ------
    UserError
        For a column that is missing, a K that is no whole number from 1, or when no row is left.

    Examples
    --------
    >>> drop_highest(pd.DataFrame({"loss": ["5.1", "3.2", "3.0"]}), {"loss": 1}, {}).index.tolist()
    [1, 2]
    """
    for name, k in highest.items():
        said, column = f"--drop-highest {name}={k:g}", columns.get(name, name)
        if column not in points:
            raise UserError(f"{said}: column {column!r} is missing; the table has {_names(points)}")
        if k != int(k) or k < 1:
            raise UserError(f"{said}: COLUMN=K is needed, with K a whole number from 1")
        values = numbers(points, column, "--drop-highest")
        if k >= len(values):
            raise UserError(f"{said}: no row is left")
        points = points[values < np.sort(values)[-int(k)]]
        if not len(points):
            raise UserError(f"{said}: no row is left")
    return points


def in_units(points: pd.DataFrame, units: Mapping[str, float], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the points with columns multiplied by what their unit is, such as n_params by 1e9.

    Examples
    --------
    >>> in_units(pd.DataFrame({"size": ["0.07", "1.4"]}), {"n_params": 1e9}, {"n_params": "size"})["size"].tolist()
    [70000000.0, 1400000000.0]
    """
    for name, unit in units.items():
        said, column = f"--unit {name}={unit:g}", columns.get(name, name)
        if column not in points:
            raise UserError(f"{said}: column {column!r} is missing; the table has {_names(points)}")
        if not (np.isfinite(unit) and unit > 0):
            raise UserError(f"{said}: a positive number is needed")
        values = numbers(points, column, "--unit", column in INFINITE, counted=False, zero=name in ZERO)
        points = points.assign(**{column: values * unit})
    return points


SMALL = 1e3  # models of fewer parameters are rare
DATA_OF_A_PARAMETER = 1e6  # tokens that no parameter is given


def strange_unit(points: pd.DataFrame) -> str | None:
    """Say that n_params is in another unit, where it is small and the compute is that of far larger models.

    Examples
    --------
    >>> strange_unit(pd.DataFrame({"n_params": ["0.4", "7"], "flops": ["1e19", "1e21"]}))
    'n_params is at most 7, and flops would give each parameter 3.4e+18 tokens or more: --unit n_params=1e9 says so'
    """
    if not {"n_params", "flops"} <= set(points):
        return None
    n, c = (pd.to_numeric(points[name], errors="coerce").to_numpy(dtype=float) for name in ("n_params", "flops"))
    with np.errstate(all="ignore"):
        each = np.nanmin(c / (6 * n**2), initial=np.inf)
    if not np.nanmax(n, initial=0.0) < SMALL or each < DATA_OF_A_PARAMETER:
        return None
    most = f"n_params is at most {np.nanmax(n):g}"
    return f"{most}, and flops would give each parameter {each:.2g} tokens or more: --unit n_params=1e9 says so"


def _names(points: pd.DataFrame) -> str:
    return ", ".join(map(repr, points.columns))


def _label(points: pd.DataFrame) -> str:
    return points.index.name or "row"


def _cell(points: pd.DataFrame, column: str, position: int) -> str:
    return f"column {column!r}, {_label(points)} {points.index[position]}"


def numbers(
    points: pd.DataFrame, column: str, law: str, infinite: bool = False, counted: bool = True, zero: bool = False
) -> np.ndarray:
    """Return a column as positive floats, or 0 where that may be, or name the first cell that isn't one.

    Counts of parameters, tokens and FLOP (`COUNTED`) must be 1 or more: smaller ones are given in another unit.

    Raises
    ------
    UserError
        Naming the column and the row.
    """
    if column not in points:
        raise UserError(f"column {column!r} is missing: {law} needs it; the table has {_names(points)}")
    raw = points[column]
    if raw.dtype.kind in "mMbc" or isinstance(raw.dtype, (pd.PeriodDtype, pd.DatetimeTZDtype, pd.BooleanDtype)):
        what = {"m": "times", "b": "truth values", "c": "complex numbers"}.get(raw.dtype.kind, "dates")
        raise UserError(f"column {column!r}: holds {what}, from {_label(points)} {points.index[0]}; numbers are needed")
    values = _floats(raw)
    for position in np.flatnonzero(np.isnan(values)):
        text = raw.iloc[position]
        empty = _blank(text)
        if empty or str(text).strip().lower() == "nan":
            what = "is empty" if empty and not isinstance(text, float) else "is NaN"
        else:
            what = f"{str(text)!r:.60} is not a number"
        raise UserError(f"{_cell(points, column, position)}: {what}; a positive number is needed")
    allowed = values >= 0 if zero else values > 0
    if not infinite:
        allowed &= np.isfinite(values)
    what = "a finite number of 0 or more" if zero else "a positive finite number"
    for position in np.flatnonzero(~allowed):
        raise UserError(f"{_cell(points, column, position)}: {values[position]:g} is not {what}")
    if counted and column in COUNTED and values.min() < 1:
        unit, position = UNITS[column], int(np.argmin(values))
        raise UserError(
            f"{_cell(points, column, position)}: {values[position]:g} {unit} are fewer than 1; {column} is in {unit},"
            f" not in thousands, millions or billions of them (--unit {column}=1e9 says that it is)"
        )
    return values


def _floats(raw: pd.Series) -> np.ndarray:
    """Return cells as floats, NaN where one is not a number."""
    if raw.dtype == object:  # a date or a truth value among them is no number, though it can be made one
        raw = raw.mask(raw.map(lambda cell: isinstance(cell, NO_NUMBERS)))
    return pd.to_numeric(raw, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def blank(points: pd.DataFrame, column: str) -> np.ndarray:
    """Return which cells of a column hold nothing.

    Examples
    --------
    >>> blank(pd.DataFrame({"loss": ["3.1", "", None]}), "loss")
    array([False,  True,  True])
    """
    if column not in points:
        raise UserError(f"column {column!r} is missing; the table has {_names(points)}")
    return points[column].map(_blank).to_numpy(dtype=bool)


def _blank(cell: object) -> bool:
    """Whether a cell holds nothing."""
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and np.isnan(cell)):
        return True
    return str(cell).strip() == ""


def check_points(
    points: pd.DataFrame, law: str, inputs: Sequence[str], response: str, weights: str | Sequence[float] | None
) -> pd.DataFrame:
    """Return the points with numbers in the columns of a law, `run` as text and `weight`; extra columns are kept.

    Without a `run` column each row is a run of its own, named by its row.

    Raises
    ------
    UserError
        For a missing column, a cell that is not a positive number, a run without a name or that has the same inputs
        twice, or, without runs, a row that is there twice.
    """
    if not len(points):
        raise UserError(f"no rows to fit {law} to")
    checked = points.copy()
    for column in (*inputs, response):
        infinite = column in INFINITE and column != response
        checked[column] = numbers(points, column, law, infinite, zero=column in ZERO and column != response)
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
        for position, name in enumerate(points["run"]):
            if _blank(name) or str(name).strip().lower() in NO_NAME:
                raise UserError(f"{_cell(points, 'run', position)}: is empty; each row needs the name of its run")
        checked["run"] = points["run"].astype(str)
        twice = checked.duplicated(["run", *inputs]).to_numpy()
        if twice.any():
            at = int(np.flatnonzero(twice)[0])
            given = ", ".join(f"{column} = {checked[column].iloc[at]:g}" for column in inputs)
            raise UserError(f"{_cell(points, 'run', at)}: run {checked['run'].iloc[at]!r} is there twice with {given}")
        return checked
    cells = points.astype(str)
    twice = cells.duplicated().to_numpy()
    if twice.any():
        at = int(np.flatnonzero(twice)[0])
        before = int(np.flatnonzero((cells == cells.iloc[at]).all(axis=1))[0])
        label, rows = _label(points), int(twice.sum())
        raise UserError(
            f"{label} {points.index[at]} is the same as {label} {points.index[before]} in every column ({rows} such in"
            " all): take out what is there twice, or add a column 'run' that names the run of each row"
        )
    labels = points.index if points.index.is_unique else range(len(points))
    checked["run"] = [f"{_label(points)} {label}" for label in labels]
    return checked
