"""The options of the laws' command: the parser, and what each option's text means."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from ...errors import UserError
from ..fitting.estimate import MIDDLE
from ..fitting.law import Law
from ..fitting.point_table import (
    UNITS,
    choose_rows,
    drop_highest,
    in_units,
    is_number,
    read_points,
    rename,
    strange_unit,
)
from ..formulas import FORMULAS
from ..formulas.isoflop import IsoFLOP
from .terminal import emit

ABOUT = "Fit scaling laws to a table of runs, and use what was fitted: see docs/laws.md."
INSTALLED = "scaling-laws"
A_TABLE = "a row a point: CSV, JSON lines or parquet"
INPUTS = ("n_params", "n_tokens", "n_unique_tokens", "flops", "steps", "position", "loss", "x", "step", "lr")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise the error as a UserError."""
        raise UserError(f"{message} (see {self.prog} --help)")

    def print_help(self, file: Any = None) -> None:
        """Print the help as all else is printed."""
        emit(self.format_help().rstrip())


def numbers_as_values(arguments: Sequence[str]) -> list[str]:
    """Return arguments in which a negative number such as -1e20 can't be taken for an option: a blank leads it.

    Examples
    --------
    >>> numbers_as_values(["--flops", "-1e20", "--json"])
    ['--flops', ' -1e20', '--json']
    """

    return [f" {one}" if one.startswith("-") and is_number(one) else one for one in arguments]


def program() -> str:
    """Return how the command was started: `scaling-laws` where it is installed, else the module that Python ran."""
    started = Path(sys.argv[0]).stem
    return started if started == INSTALLED else f"python -m {__package__.rpartition('.')[0]}"


def main_parser() -> argparse.ArgumentParser:
    """Return the parser of the five commands."""
    parser = Parser(prog=program(), description=ABOUT)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser("fit", help="fit a law to a table of points")
    one.add_argument("law", metavar="LAW", help=", ".join(FORMULAS))
    one.add_argument("points", metavar="points.csv", help=A_TABLE)
    add_points(one)
    one.add_argument("--hold-out", metavar="largest=K", help="fit without the K largest and report the error there")
    one.add_argument("--objective", help="huber, lad, mse_log or mse; the law's source decides if not given")
    one.add_argument(
        "--fix", action="append", default=[], metavar="NAME=VALUE", help="keep a parameter at a value; may repeat"
    )
    one.add_argument(
        "--tie", action="append", default=[], metavar="NAME=NAME", help="a parameter equals another, or 1.2*NAME"
    )
    one.add_argument("--window", metavar="WINDOW", help="isoflop: its parabolas' sizes, factor=F, nearest=K or all")
    one.add_argument(
        "--degree", type=int, metavar="2|3", help="isoflop: of its polynomials; 2, a parabola, if not given"
    )
    one.add_argument("--level", type=float, default=95.0, help="of the intervals, in per cent (default 95)")
    one.add_argument(
        "--quantile",
        type=float,
        default=MIDDLE,
        metavar="Q",
        help="with 0.1 a point below the law counts as 9 above",
    )
    one.add_argument("--bootstrap", help="how runs are resampled: wild, or pairs, the default with --quantile")
    one.add_argument("--n-boot", type=int, default=1000, help="bootstrap replicates; 0 for no intervals")
    one.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    one.add_argument("--out", metavar="FILE", help="JSON file to write")
    one.add_argument("--plot", metavar="FILE", help="figure to write: .png, .svg or .pdf")
    one.add_argument("--json", action="store_true", help="print the JSON and not the table")

    one = commands.add_parser("predict", help="what a fitted law says at given inputs, with its interval")
    one.add_argument("fit", metavar="fit.json")
    for name in INPUTS:
        one.add_argument(f"--{name.replace('_', '-')}", nargs="+", type=float, metavar="VALUE", help=UNITS.get(name))
    one.add_argument("--input", metavar="FILE", help="a table of inputs: CSV, JSON lines or parquet")
    one.add_argument("--output", metavar="FILE", help="where --input goes with its predictions: .csv, .jsonl, .parquet")
    add_columns(one)
    one.add_argument("--json", action="store_true", help="print JSON and not a table")

    one = commands.add_parser("allocate", help="split a compute budget into model size, data, batch and steps")
    one.add_argument("fits", metavar="fit.json", nargs="+")
    one.add_argument("--flops", nargs="+", type=float, required=True, metavar="C", help="budgets in FLOP")
    one.add_argument(
        "--unique-tokens",
        nargs="+",
        type=float,
        metavar="U",
        help="of muennighoff: how many tokens are different",
    )
    one.add_argument("--json", action="store_true", help="print JSON and not a table")

    one = commands.add_parser("compare", help="fit laws to the same points and compare them")
    one.add_argument("points", metavar="points.csv", help=A_TABLE)
    add_points(one)
    one.add_argument("--laws", required=True, metavar="LAW,LAW", nargs="+", help="laws, by commas or spaces")
    one.add_argument("--objective", default="mse_log", help="for all laws; mse_log (default) is what AIC rests on")
    split = one.add_mutually_exclusive_group()
    split.add_argument(
        "--hold-out",
        metavar="largest=K",
        help="report the error on the K largest sizes, on those of a COLUMN=K, or where a condition holds",
    )
    split.add_argument("--folds", type=int, metavar="K", help="report the error on K folds of runs, each left out once")
    split.add_argument("--leave-one-run-out", action="store_true", help="the same, a run at a time")
    one.add_argument("--seed", type=int, default=0, help="of the folds and the intervals of differences")
    one.add_argument("--out", metavar="FILE", help="JSON file to write")
    one.add_argument("--json", action="store_true", help="print JSON and not the table")

    one = commands.add_parser("gain", help="by how much less compute one set of runs reaches another's loss")
    one.add_argument("a", metavar="A", help="the set to compare with: a table, or the JSON of its fit")
    one.add_argument("b", metavar="B", help="the set whose gain it is, in the same form")
    one.add_argument("--law", metavar="LAW", help="to fit to tables: a law of one input, such as L_C")
    one.add_argument("--loss", nargs="+", type=float, metavar="L", help="where; the range of both sets if not given")
    add_points(one)
    one.add_argument("--objective", help="huber, lad, mse_log or mse; the law's source decides if not given")
    one.add_argument("--n-boot", type=int, default=1000, help="bootstrap replicates; 0 for no intervals")
    one.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    one.add_argument("--out", metavar="FILE", help="JSON file to write")
    one.add_argument("--json", action="store_true", help="print JSON and not the table")
    return parser


def add_points(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is fitted."""
    parser.add_argument("--delta", type=float, help="of --objective huber: its width in ln y (default 1e-3)")
    parser.add_argument("--weights", metavar="COLUMN", help="positive weights")
    add_columns(parser)
    parser.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="rows to fit, such as 'loss < 5'; may repeat"
    )
    parser.add_argument(
        "--drop-highest", action="append", default=[], metavar="COLUMN=K", help="leave out the rows of the K highest"
    )
    parser.add_argument("--x", metavar="NAME", help="which column is x of power_plus_constant and power")


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a table's columns are to be read."""
    parser.add_argument(
        "--column", action="append", default=[], metavar="NAME=COLUMN", help="the table's name of a column; may repeat"
    )
    parser.add_argument(
        "--unit", action="append", default=[], metavar="NAME=NUMBER", help="a column is in units of so many; may repeat"
    )


def find_law(name: str) -> Law:
    """Return a law by name, or say which there are."""
    if name not in FORMULAS:
        raise UserError(f"law: {name!r} is not one of {', '.join(FORMULAS)}")
    return FORMULAS[name]


def find_curve(law: Law, window: str | None, degree: int | None) -> Law:
    """Return isoflop with another window or degree; say of other laws that they have none."""
    given = {name: value for name, value in (("window", window), ("degree", degree)) if value is not None}
    if given and law.name != IsoFLOP.name:
        raise UserError(f"--{next(iter(given))}: {law.name} fits no polynomials; {IsoFLOP.name} does")
    return IsoFLOP(**given) if given else law


def find_columns(options: Sequence[str], law: Law, x: str | None) -> dict[str, str]:
    """Return the law's column names -> the table's, from NAME=COLUMN options."""
    known = list(dict.fromkeys((*UNITS, *law.inputs, law.response, "run")))
    columns: dict[str, str] = {}
    for option in options:
        ours, equals, theirs = option.partition("=")
        if not equals or not theirs:
            raise UserError(f"--column {option!r}: NAME=COLUMN is needed, such as n_params='Model Size'")
        if ours not in known:
            raise UserError(f"--column {option!r}: {ours!r} is not one of {', '.join(known)}")
        if ours in columns:
            raise UserError(f"--column {option!r}: {ours} is already {columns[ours]!r}")
        columns[ours] = theirs
    if x is not None and "x" in law.inputs:
        if columns.get("x", x) != x:
            raise UserError(f"--x {x}: --column x={columns['x']} says that x is another column")
        columns["x"] = columns.pop(x, x)
        if columns["x"] == columns.get(law.response, law.response):
            raise UserError(f"--x {x}: {law.name} predicts {columns['x']!r}; x must be another column")
    return columns


def check_x(x: str | None, laws: Sequence[Law]) -> None:
    """Refuse --x where no law has an x."""
    if x is not None and not any("x" in law.inputs for law in laws):
        with_x = ", ".join(name for name, law in FORMULAS.items() if "x" in law.inputs)
        raise UserError(f"--x {x}: {', '.join(law.name for law in laws)} has no x; those that have are {with_x}")


def check_outputs(outputs: dict[str, str | None], inputs: dict[str, str]) -> None:
    """Refuse an output without a name, and one that is a file that is read, or another output, under any name."""
    taken = [(what, Path(path)) for what, path in inputs.items()]
    for option, path in outputs.items():
        if path is None:
            continue
        if not path.strip():
            raise UserError(f"{option} {path!r}: the name of a file is needed")
        for what, other in taken:
            if same_file(Path(path), other):
                raise UserError(f"{option} {path}: is the file of {what} ({other}); a file of its own is needed")
        taken.append((option, Path(path)))


def same_file(one: Path, other: Path) -> bool:
    """Whether two names, of files that need not be there yet, are one file: by their real path or a link."""
    try:
        if one.exists() and other.exists() and one.samefile(other):
            return True
        return one.resolve() == other.resolve()
    except (OSError, RuntimeError):  # names that can't be followed: what writes there says so
        return one == other


def find_delta(delta: float | None, objective: str | None, laws: Sequence[Law]) -> float:
    """Return Huber's width, or say that another objective has none."""
    kinds = {objective or law.objective for law in laws}
    if delta is not None and "huber" not in kinds:
        raise UserError(f"--delta {delta:g}: the objective is {', '.join(sorted(kinds))}; only huber has a width")
    return 1e-3 if delta is None else delta


def find_numbers(option: str, given: Sequence[str]) -> dict[str, float]:
    """Return name -> number, from NAME=NUMBER options."""
    found: dict[str, float] = {}
    for one in given:
        name, equals, number = (part.strip() for part in one.partition("="))
        if not equals or not name or not is_number(number):
            raise UserError(f"{option} {one!r}: NAME=NUMBER is needed")
        if name in found:
            raise UserError(f"{option} {one!r}: {name} is already {found[name]:g}")
        found[name] = float(number)
    return found


def find_ties(given: Sequence[str]) -> dict[str, str]:
    """Return name -> what it is tied to, from NAME=NAME options."""
    found: dict[str, str] = {}
    for one in given:
        name, equals, other = (part.strip() for part in one.partition("="))
        if not (equals and name and other):
            raise UserError(f"--tie {one!r}: NAME=NAME or NAME=NUMBER*NAME is needed, such as alpha=beta")
        if name in found:
            raise UserError(f"--tie {one!r}: {name} is already tied to {found[name]}")
        found[name] = other
    return found


def find_points(options: argparse.Namespace, path: str, columns: dict[str, str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows to fit, and what is to be recorded of how they were chosen."""
    table = read_points(path)
    points = choose_rows(table, options.where, columns)
    record: dict[str, Any] = {}
    if options.where:
        record |= {"where": options.where}
    highest = find_numbers("--drop-highest", options.drop_highest)
    if highest:
        points = drop_highest(points, highest, columns)
        record |= {"drop_highest": highest}
    if record:
        record |= {"rows_left_out": len(table) - len(points)}
    units = find_numbers("--unit", options.unit)
    if units:
        points = in_units(points, units, columns)
        record |= {"unit": units}
    warn_of_unit(path, points, columns)
    return points, record


def warn_of_unit(path: str, points: pd.DataFrame, columns: dict[str, str]) -> None:
    """Say on standard error that sizes seem to be in another unit."""
    strange = strange_unit(rename(points, {ours: theirs for ours, theirs in columns.items() if theirs in points}))
    if strange:
        print(f"warning: {path}: {strange}", file=sys.stderr)


def find_hold_out(option: str | None) -> int:
    """Return K of largest=K."""
    if option is None:
        return 0
    name, _, count = option.partition("=")
    if name != "largest" or not count.isdecimal() or int(count) < 1:
        raise UserError(f"--hold-out {option!r}: largest=K is needed, with K a whole number from 1")
    return int(count)
