"""Fit, predict, allocate and compare scaling laws from the command line: see docs/laws.md."""

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
from pipeline.laws.fitting.fit import NO_OPTIMUM, Fit, load_fit, short
from pipeline.laws.fitting.law import Law, check_bootstrap
from pipeline.laws.fitting.point_table import (
    COUNTED,
    INFINITE,
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
from pipeline.laws.formulas.isoflop import IsoFLOP

INPUTS = ("n_params", "n_tokens", "n_unique_tokens", "flops", "steps", "position", "loss", "x")


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
    """Return the parser of the four commands."""
    parser = Parser(prog="python -m pipeline.laws", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser("fit", help="fit a law to a table of points")
    one.add_argument("law", metavar="LAW", help=", ".join(FORMULAS))
    add_points(one)
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
    one.add_argument("--json", action="store_true", help="print JSON and not a table")

    one = commands.add_parser("allocate", help="split a compute budget into model size, data, batch and steps")
    one.add_argument("fits", metavar="fit.json", nargs="+")
    one.add_argument("--flops", nargs="+", type=float, required=True, metavar="C", help="budgets in FLOP")
    one.add_argument("--json", action="store_true", help="print JSON and not a table")

    one = commands.add_parser("compare", help="fit laws to the same points and compare them")
    add_points(one)
    one.add_argument("--laws", required=True, metavar="LAW,LAW", nargs="+", help="laws, by commas or spaces")
    one.add_argument("--objective", default="mse_log", help="for all laws; mse_log (default) is what AIC rests on")
    one.add_argument("--out", metavar="FILE", help="JSON file to write")
    one.add_argument("--json", action="store_true", help="print JSON and not the table")
    return parser


def add_points(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is fitted."""
    parser.add_argument("points", metavar="points.csv", help="a row a point: CSV, JSON lines or parquet")
    parser.add_argument("--delta", type=float, help="of --objective huber: its width in ln y (default 1e-3)")
    parser.add_argument("--weights", metavar="COLUMN", help="positive weights")
    parser.add_argument(
        "--column", action="append", default=[], metavar="NAME=COLUMN", help="the table's name of a column; may repeat"
    )
    parser.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="rows to fit, such as 'loss < 5'; may repeat"
    )
    parser.add_argument(
        "--drop-highest", action="append", default=[], metavar="COLUMN=K", help="leave out the rows of the K highest"
    )
    parser.add_argument(
        "--unit", action="append", default=[], metavar="NAME=NUMBER", help="a column is in units of so many; may repeat"
    )
    parser.add_argument("--x", metavar="NAME", help="which column is x of power_plus_constant and power")
    parser.add_argument("--hold-out", metavar="largest=K", help="fit without the K largest and report the error there")


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


def find_points(options: argparse.Namespace, columns: dict[str, str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows to fit, and what is to be recorded of how they were chosen."""
    table = read_points(options.points)
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
    strange = strange_unit(rename(points, {ours: theirs for ours, theirs in columns.items() if theirs in points}))
    if strange:
        print(f"warning: {options.points}: {strange}", file=sys.stderr)
    return points, record


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
    law = find_curve(find_law(options.law), options.window, options.degree)
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
    points, record = find_points(options, columns)
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
    if "window" in fit.details:
        lines += quality(fit.details)
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


def quality(details: dict[str, Any]) -> list[str]:
    """Return how well the curves of isoflop fit, a line a budget."""
    curve = {2: "parabolas", 3: "cubics"}[details["degree"]]
    lines = [f"{curve} through {details['window']}"]
    for one in details["optima"]:
        said = f"{one['points']} points from {one['smallest']:.3g} to {one['largest']:.3g}"
        fits = "it meets each size" if one["rms"] is None else f"R^2 {one['r_squared']:.4f}, rms {one['rms']:.2g}"
        lines.append(f"at {one['flops']:.3g} FLOP: {said}, {fits}; best {one['n_params']:.4g}")
    return lines


def run_predict(options: argparse.Namespace) -> int:
    """Print the law's response at the inputs given."""
    fit = read_fit(options.fit)
    inputs = {name: np.array(getattr(options, name)) for name in INPUTS if getattr(options, name) is not None}
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
    estimate, (low, high) = fit.predict(**inputs), fit.interval(**inputs)
    response = fit.definition.response
    problems = [remarks.impossible(response, value) for value in estimate]
    possible = np.array([one is None for one in problems])
    rows = pd.DataFrame({**inputs, response: estimate, "low": low, "high": high})
    rows.loc[~possible, [response, "low", "high"]] = np.nan
    away = {fit.columns.get(name, name) if name == "x" else name: one for name, one in fit.outside(**inputs).items()}
    outside = [{name: float(one[k]) for name, one in away.items()} for k in range(len(rows))]
    unit = UNITS.get(response, "")
    if options.json:
        records = rows.astype(object).where(np.isfinite(rows), None).to_dict("records")
        for one, problem, out in zip(records, problems, outside, strict=True):
            one |= {"problem": problem, "outside_range": remarks.record(out)}
        known = fit.to_dict()["ranges"] or None
        head = {"law": fit.law, "response": response, "unit": unit, "level": fit.level, "fitted_range": known}
        show({**head, "identified": fit.identified, "reason": fit.reason, "predictions": records})
    else:
        lines = [rows.to_string(index=False, float_format=lambda value: f"{value:.6g}", na_rep="-")]
        lines.append(
            f"{response} in {unit}; low and high: {100 * fit.level:g} % interval of the law, without the noise of a run"
        )
        for k, (problem, out) in enumerate(zip(problems, outside, strict=True), 1):
            lines += [f"line {k}: {one}" for one in (problem, remarks.sentence(out)) if one]
        lines += [] if fit.ranges else [remarks.UNKNOWN]
        emit("\n".join(lines))
    warn([fit])
    return 0


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
    hold_out = find_hold_out(options.hold_out)
    chosen = {name: (law, find_columns(options.column, law, options.x)) for name, law in laws.items()}
    delta = find_delta(options.delta, options.objective, list(laws.values()))
    points, _ = find_points(options, next(iter(chosen.values()))[1])
    with naming(options.points):
        found = compare(points, chosen, options.objective, delta, hold_out, weights=options.weights)
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


COMMANDS = {"fit": run_fit, "predict": run_predict, "allocate": run_allocate, "compare": run_compare}


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the four commands."""
    options = main_parser().parse_args(numbers_as_values(sys.argv[1:] if argv is None else argv))
    return COMMANDS[options.command](options)
