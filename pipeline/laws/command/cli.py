"""The laws from the command line (fit, predict, allocate, compare, gain): see docs/laws.md."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from pipeline.errors import UserError, command
from pipeline.files import write_json
from pipeline.laws.command import remarks
from pipeline.laws.command.allocate import allocate
from pipeline.laws.command.compare import compare, table
from pipeline.laws.command.gain import gain
from pipeline.laws.command.predict import Prediction, predict, predict_table
from pipeline.laws.command.table_file import check_table_name, write_table
from pipeline.laws.fitting.fit import NO_OPTIMUM, Fit, load_fit, short
from pipeline.laws.fitting.law import Law, check_bootstrap
from pipeline.laws.fitting.point_table import (
    COUNTED,
    INFINITE,
    JSON_LINES,
    UNITS,
    choose_rows,
    drop_highest,
    in_units,
    is_number,
    read_points,
    rename,
    strange_unit,
)
from pipeline.laws.formulas import FORMULAS

A_TABLE = "a row a point: CSV, JSON lines or parquet"
INPUTS = ("n_params", "n_tokens", "flops", "steps", "position", "loss", "x")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise the error as a UserError."""
        raise UserError(f"{message} (see {self.prog} --help)")

    def print_help(self, file: Any = None) -> None:
        """Print the help as all else is printed."""
        emit(self.format_help().rstrip())


def emit(text: str) -> None:
    """Print text; a reader that has gone (`| head`) has read enough, and the command ends as it would have."""
    try:
        print(text, flush=True)
    except OSError as error:
        with open(os.devnull, "w") as nothing:  # or the interpreter would try again at its end
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UserError(f"standard output can't be written ({error.strerror or error})") from error


def numbers_as_values(arguments: Sequence[str]) -> list[str]:
    """Return arguments in which a negative number such as -1e20 can't be taken for an option: a blank leads it.

    Examples
    --------
    >>> numbers_as_values(["--flops", "-1e20", "--json"])
    ['--flops', ' -1e20', '--json']
    """

    return [f" {one}" if one.startswith("-") and is_number(one) else one for one in arguments]


def main_parser() -> argparse.ArgumentParser:
    """Return the parser of the five commands."""
    parser = Parser(prog="python -m pipeline.laws", description=__doc__)
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
    one.add_argument("--level", type=float, default=95.0, help="of the intervals, in per cent (default 95)")
    one.add_argument("--bootstrap", default="wild", help="wild (default) or pairs: how runs are resampled")
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


def read_fit(path: str) -> Fit:
    """Read a fit, of a law that is known."""
    fit = load_fit(path)
    find_law(fit.law)
    return fit


def write(option: str, path: str | Path, save: Any) -> None:
    """Call save(path), or name the option whose file can't be written."""
    try:
        save(path)
    except UserError as error:
        raise UserError(f"{option} {error}") from error


def show(value: Any) -> None:
    """Print JSON."""
    emit(json.dumps(value, indent=2, allow_nan=False))


def run_fit(options: argparse.Namespace) -> int:
    """Fit one law; 3 when there is no optimum."""
    law = find_law(options.law)
    columns = find_columns(options.column, law, options.x)
    hold_out = find_hold_out(options.hold_out)
    check_x(options.x, [law])
    check_outputs({"--out": options.out, "--plot": options.plot}, {"the points": options.points})
    if options.plot:
        from pipeline.laws.command.plot import check_plot, plot

        check_plot(options.plot)
    level = options.level / 100
    check_bootstrap(options.bootstrap, options.n_boot, options.seed, level)
    delta = find_delta(options.delta, options.objective, [law])
    fix, tie = find_numbers("--fix", options.fix), find_ties(options.tie)
    points, record = find_points(options, options.points, columns)
    with naming(options.points):
        fit = law.fit(
            points,
            objective=options.objective,
            delta=delta,
            weights=options.weights,
            bootstrap=options.bootstrap,
            n_boot=options.n_boot,
            seed=options.seed,
            hold_out=hold_out,
            columns=columns,
            fix=fix,
            tie=tie,
            level=level,
        )
    fit.details |= record
    if options.plot:
        write("--plot", options.plot, lambda path: plot(fit, points, path))
    if options.out:
        write("--out", options.out, fit.to_json)
    if options.json:
        show(fit.to_dict())
    else:
        emit(summary(fit))
    if not fit.found:
        print(f"error: {fit.law} is not identified: {fit.reason}", file=sys.stderr)
        return NO_OPTIMUM
    warn([fit])
    return 0


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Let an error that names a column, a row or a line of the points name their file too."""
    try:
        yield
    except UserError as error:
        if re.match(r"(column|line|row) ", str(error)):
            raise UserError(f"{path}: {error}", error.exit_code) from error
        raise


def warn(fits: Sequence[Fit]) -> None:
    """Say on standard error which optima are not identified."""
    for fit in fits:
        if fit.warning:
            print(f"warning: {fit.warning}", file=sys.stderr)


def summary(fit: Fit) -> str:
    """Return what a reader wants to know of a fit."""
    delta = f", delta {fit.delta:g}" if fit.delta is not None else ""
    lines = [fit.formula(), f"({fit.equation})", "", fit.table(), ""]
    options = [f"--{key.replace('_', '-')}" for key in ("where", "drop_highest") if key in fit.details]
    left_out = f" ({fit.details['rows_left_out']} rows left out by {' and '.join(options)})" if options else ""
    lines.append(f"points {fit.n_points}, runs {fit.n_runs}{left_out}")
    lines += [f"derived: {how}" for how in fit.details.get("derived", [])]
    if fit.objective is not None:
        lines.append(f"objective {fit.objective_kind}{delta}: {fit.objective:.9g} ({fit.objective_definition})")
        found = f"{fit.starts_at_optimum} of {fit.starts} starts reached it"
        lines.append(f"gradient there {fit.gradient_norm:.2g}; {found}; {'' if fit.converged else 'NOT '}converged")
    if fit.r_squared is not None:
        lines.append(
            f"R^2 {fit.r_squared:.6g}; residuals of ln {fit.definition.response}: rms {fit.residuals['rms_ln']:.3g}"
        )
    if fit.bootstrap.get("note"):
        lines.append(f"no interval: {fit.bootstrap['note']}")
    elif fit.bootstrap:
        of = f"{fit.bootstrap['replicates']} {fit.bootstrap['method']} replicates over runs"
        lines.append(f"{100 * fit.level:g} % intervals: {of}")
    for name, ends in fit.likelihood.items():
        lines.append(f"likelihood interval of {name}: {' to '.join(map(short, ends))}")
    for one in fit.details.get("left_out", []):
        lines.append(f"left out at {one['flops']:.3g} FLOP: {one['reason']}")
    if fit.held_out:
        held = fit.held_out
        count = f"the {held['largest']} largest values of {held['by']}"
        if "rms_ln" in held:
            lines.append(
                f"held out {count}: rms error of ln {held['rms_ln']:.3g}, largest {held['largest_relative_error']:.2%}"
            )
    return "\n".join(lines)


def run_predict(options: argparse.Namespace) -> int:
    """Print the law's response at the inputs given, or write a table with it."""
    given = [name for name in INPUTS if getattr(options, name) is not None]
    if options.input is not None or options.output is not None:
        check_files(options, given)
        return predict_file(options)
    for name in ("column", "unit"):
        if getattr(options, name):
            raise UserError(f"--{name}: is of a table (--input)")
    fit = read_fit(options.fit)
    inputs = {name: np.array(getattr(options, name)) for name in given}
    needed = [fit.columns.get("x", "x")] if fit.definition.inputs == ("x",) else list(fit.definition.inputs)
    if needed == ["x"] or needed[0] not in INPUTS:  # the table's own name of x: any input will do, but one only
        needed = list(inputs)[:1] or ["x"]
        inputs = {"x" if name == needed[0] else name: value for name, value in inputs.items()}
        needed = ["x"]
    for name in needed:
        if name not in inputs:
            raise UserError(f"--{name.replace('_', '-')} is missing: {fit.law} needs {', '.join(needed)}")
    for name, values in inputs.items():
        if name not in needed:
            raise UserError(
                f"--{name.replace('_', '-')}: {fit.law} does not depend on it; it needs {', '.join(needed)}"
            )
        for value in values:
            check_input(name, value)
    lengths = {len(values) for values in inputs.values()} - {1}
    if len(lengths) > 1:
        raise UserError(
            f"inputs have {' and '.join(map(str, sorted(lengths)))} values; one, or as many each, are needed"
        )
    inputs = dict(zip(inputs, np.broadcast_arrays(*inputs.values()), strict=True))
    found = predict(fit, inputs)
    response = fit.definition.response
    rows = pd.DataFrame(inputs).join(found.values.rename(columns={"predicted": response}))
    if options.json:
        records = rows.astype(object).where(np.isfinite(rows), None).to_dict("records")
        for one, problem, out in zip(records, found.problems, found.outside, strict=True):
            one |= {"problem": problem, "outside_range": remarks.record(out)}
        known = fit.to_dict()["ranges"] or None
        unit = UNITS.get(response, "")
        head = {"law": fit.law, "response": response, "unit": unit, "level": fit.level, "fitted_range": known}
        show({**head, "identified": fit.identified, "reason": fit.reason, "predictions": records})
    else:
        lines = [rows.to_string(index=False, float_format=lambda value: f"{value:.6g}", na_rep="-")]
        lines.append(what_predicted(fit))
        for k, (problem, out) in enumerate(zip(found.problems, found.outside, strict=True), 1):
            lines += [f"line {k}: {one}" for one in (problem, remarks.sentence(out)) if one]
        lines += [remarks.UNKNOWN] if found.range_unknown else []
        emit("\n".join(lines))
    warn([fit])
    return 0


def check_files(options: argparse.Namespace, given: Sequence[str]) -> None:
    """Refuse half of --input and --output, and what does not go with them."""
    for one, other in (("input", "output"), ("output", "input")):
        if getattr(options, one) is None:
            raise UserError(f"--{one} is missing: --{other} {getattr(options, other)} needs it")
    others = [*given, *(["json"] if options.json else [])]
    if others:
        raise UserError(f"--{others[0].replace('_', '-')}: does not go with --input, whose table has the inputs")
    check_outputs({"--output": options.output}, {"--input": options.input, "the fit": options.fit})
    check_table_name("--output", options.output)


def predict_file(options: argparse.Namespace) -> int:
    """Write a table with the law's response beside its columns, and print what must be said of it."""
    fit = read_fit(options.fit)
    columns = find_columns(options.column, fit.definition, None)
    units = find_numbers("--unit", options.unit)
    fit.require()
    table = read_points(options.input)
    with naming(options.input):
        found = predict_table(fit, table, columns, units)
    added = found.columns().set_index(table.index)
    write("--output", options.output, lambda path: write_table(pd.concat([table, added], axis=1), path))
    emit(
        "\n".join(
            [
                f"{options.output}: {len(table)} row{'s' * (len(table) > 1)}",
                what_predicted(fit),
                *what_to_know(found, table),
            ]
        )
    )
    if not units:
        warn_of_unit(options.input, table, {**fit.columns, **columns})
    warn([fit])
    return 0


def what_predicted(fit: Fit) -> str:
    """Say what the numbers of a prediction are."""
    response = fit.definition.response
    head = f"{response} in {UNITS.get(response, 'its unit')}; low and high: {100 * fit.level:g} % interval of the law"
    if fit.spread is None:
        return f"{head}, without the noise of a run, which this fit does not tell"
    return f"{head}; run_low and run_high: of a new run, whose noise is {fit.spread[0]:.2g} in ln {response}"


def what_to_know(found: Prediction, table: pd.DataFrame) -> list[str]:
    """Return a line each on the rows that have no prediction and on those that extrapolate."""
    label, lines = table.index.name, []
    without = [k for k, problem in enumerate(found.problems) if problem]
    if without:
        first = f"{label} {table.index[without[0]]}: {found.problems[without[0]]}"
        lines.append(f"rows without a prediction: {len(without)}, the first {first}")
    beyond = found.beyond
    if not np.isnan(beyond).all():
        k = int(np.nanargmax(beyond))
        far = f"{label} {table.index[k]}: {remarks.sentence(found.outside[k])}"
        lines.append(f"rows that extrapolate: {int((~np.isnan(beyond)).sum())}, the farthest {far}")
    return [*lines, *([remarks.UNKNOWN] if found.range_unknown else [])]


def check_input(name: str, value: float) -> None:
    """Refuse an input that can't be."""
    option = f"--{name.replace('_', '-')}"
    if not value > 0:
        raise UserError(f"{option}: {value:g} is not a positive number")
    if np.isinf(value) and name not in INFINITE:
        raise UserError(f"{option}: {value:g} is not a finite number")
    if name in COUNTED and value < 1:
        raise UserError(f"{option}: {value:g} must be at least 1; it is in {UNITS[name]}")


def run_allocate(options: argparse.Namespace) -> int:
    """Print what each law says of the budgets."""
    fits = [read_fit(path) for path in options.fits]
    found = allocate(fits, options.flops)
    if options.json:
        show([one.to_dict() for one in found])
    else:
        emit("\n\n".join(one.table() for one in found))
    warn(fits)
    return 0


def run_compare(options: argparse.Namespace) -> int:
    """Print how the laws fare on the same points; 3 when none of them has an optimum."""
    names = list(dict.fromkeys(name.strip() for part in options.laws for name in part.split(",") if name.strip()))
    if not names:
        raise UserError(f"--laws {' '.join(options.laws)}: names of laws are needed, such as chinchilla,L_N_D")
    laws = {name: find_law(name) for name in names}
    check_x(options.x, list(laws.values()))
    check_outputs({"--out": options.out}, {"the points": options.points})
    largest = options.hold_out is None or options.hold_out.partition("=")[0].strip() == "largest"
    split = {
        "hold_out": find_hold_out(options.hold_out) if largest else options.hold_out,
        "folds": options.folds or 0,
        "leave_one_run_out": options.leave_one_run_out,
        "seed": options.seed,
    }
    if options.folds is not None and options.folds < 2:
        raise UserError(f"--folds {options.folds}: a whole number from 2 is needed")
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: a whole number of 0 or more is needed")
    chosen = {name: (law, find_columns(options.column, law, options.x)) for name, law in laws.items()}
    delta = find_delta(options.delta, options.objective, list(laws.values()))
    points, _ = find_points(options, options.points, next(iter(chosen.values()))[1])
    with naming(options.points):
        found = compare(points, chosen, options.objective, delta, weights=options.weights, **split)
    records = [one.to_dict() for one in found]
    if options.out:
        write("--out", options.out, lambda path: write_json(path, records))
    if options.json:
        show(records)
    else:
        emit(table(found))
    for one in found:
        if one.reason:
            print(f"warning: {one.law} is not identified: {one.reason}", file=sys.stderr)
    return 0 if any(one.found for one in found) else NO_OPTIMUM


def run_gain(options: argparse.Namespace) -> int:
    """Print what set B gains over set A."""
    check_outputs({"--out": options.out}, {"A": options.a, "B": options.b})
    if options.law is None:
        for name in ("delta", "weights", "column", "where", "drop_highest", "unit", "x", "objective"):
            if getattr(options, name):
                raise UserError(f"--{name.replace('_', '-')}: is of tables, which --law is fitted to")
        for path in (options.a, options.b):
            if Path(path).suffix in (".csv", ".parquet", *JSON_LINES):
                raise UserError(f"--law is missing: {path} is a table, and a law of one input is fitted to it")
        fits = [read_fit(path) for path in (options.a, options.b)]
    else:
        fits = fit_sets(options, find_law(options.law))
    found = gain(*fits, losses=options.loss)
    if options.out:
        write("--out", options.out, lambda path: write_json(path, found.to_dict()))
    if options.json:
        show(found.to_dict())
    else:
        emit(found.table())
    for path, fit in zip((options.a, options.b), fits, strict=True):
        if fit.warning:
            print(f"warning: {path}: {fit.warning}", file=sys.stderr)
    return 0


def fit_sets(options: argparse.Namespace, law: Law) -> list[Fit]:
    """Fit one law to both tables."""
    check_x(options.x, [law])
    check_bootstrap("wild", options.n_boot, options.seed)
    columns = find_columns(options.column, law, options.x)
    how = {"objective": options.objective, "delta": find_delta(options.delta, options.objective, [law])}
    how |= {"weights": options.weights, "n_boot": options.n_boot, "seed": options.seed}
    fits = []
    for path in (options.a, options.b):
        points, _ = find_points(options, path, columns)
        with naming(path):
            fits.append(law.fit(points, columns=columns, **how))
    return fits


COMMANDS = {
    "fit": run_fit,
    "predict": run_predict,
    "allocate": run_allocate,
    "compare": run_compare,
    "gain": run_gain,
}


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the five commands."""
    options = main_parser().parse_args(numbers_as_values(sys.argv[1:] if argv is None else argv))
    return COMMANDS[options.command](options)
