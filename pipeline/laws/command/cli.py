"""The laws from the command line (fit, predict, allocate, compare, gain): see docs/laws.md."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...errors import UserError, command
from ...files import write_json
from ..fitting.estimate import MIDDLE
from ..fitting.extra import extra
from ..fitting.fit import NO_OPTIMUM, Fit, load_fit, short
from ..fitting.law import Law
from ..fitting.point_table import (
    COUNTED,
    INFINITE,
    JSON_LINES,
    UNITS,
    ZERO,
    read_points,
)
from ..fitting.settings import check_bootstrap
from . import remarks
from .allocate import allocate
from .compare import compare, table
from .gain import gain
from .options import (
    INPUTS,
    check_outputs,
    check_x,
    find_columns,
    find_curve,
    find_delta,
    find_hold_out,
    find_law,
    find_numbers,
    find_points,
    find_ties,
    main_parser,
    numbers_as_values,
    warn_of_unit,
)
from .predict import Prediction, predict, predict_table
from .table_file import check_table_name, write_table
from .terminal import emit, show


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


def run_fit(options: argparse.Namespace) -> int:
    """Fit one law; 3 when there is no optimum."""
    law = find_curve(find_law(options.law), options.window, options.degree)
    columns = find_columns(options.column, law, options.x)
    hold_out = find_hold_out(options.hold_out)
    check_x(options.x, [law])
    check_outputs({"--out": options.out, "--plot": options.plot}, {"the points": options.points})
    if options.plot:
        extra("matplotlib", f"--plot {options.plot}")
        from .plot import check_plot, plot

        check_plot(options.plot)
    level = options.level / 100
    check_bootstrap(options.bootstrap, options.n_boot, options.seed, level, options.quantile)
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
            quantile=options.quantile,
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
    delta += f", quantile {fit.quantile:g}" if fit.quantile != MIDDLE else ""
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
    if fit.quantile != MIDDLE:
        below = f"{fit.residuals['share_below']:.0%} of the points lie below the law"
        lines.append(f"{below}: intervals are of this law, not of the runs' middle, and none is told of a new run")
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
    if not (value >= 0 if name in ZERO else value > 0):
        raise UserError(f"{option}: {value:g} is not a positive number" + (" or 0" if name in ZERO else ""))
    if np.isinf(value) and name not in INFINITE:
        raise UserError(f"{option}: {value:g} is not a finite number")
    if name in COUNTED and value < 1:
        raise UserError(f"{option}: {value:g} must be at least 1; it is in {UNITS[name]}")


def run_allocate(options: argparse.Namespace) -> int:
    """Print what each law says of the budgets."""
    fits = [read_fit(path) for path in options.fits]
    found = allocate(fits, options.flops, options.unique_tokens)
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
