"""Laws on the same points: which fits better for its parameters, which extrapolates, and what each leaves over.

* AIC = n ln(mean squared residual of ln y) + 2 p: for laws fitted by least squares in ln y, the likelihood with
  normal residuals, up to a constant that all share. Points of one run are counted as if they were independent, so
  with checkpoints differences are too large; the error on what was held out has no such fault.
* Residual structure, against each input column: the correlation of ln y - ln f with ln x, and the runs test (Wald and
  Wolfowitz 1940) of its signs in order of x: much fewer runs of one sign than chance allows (z below -2) mean that
  the law's shape is wrong.
* Error on what a law has not seen: of points that are held out once, or of all points, each by the fit without its fold
  of runs. Every law has the same points, so the difference of two laws is of pairs, and its interval draws runs again.
  Fits that share most of their points are alike, which such an interval does not know (Bengio and Grandvalet 2004):
  an interval that just leaves out 0 says little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

from ...errors import UserError
from ..fitting.estimate import Array, widening
from ..fitting.fit import Fit
from ..fitting.intervals import interval
from ..fitting.law import Law, split_largest
from ..fitting.left_out import errors_left_out, folds_of_runs
from ..fitting.point_table import check_names, check_points, choose_rows, complete, numbers, rename
from ..fitting.settings import check_objective

COLUMNS = ("n_params", "n_tokens", "flops", "steps", "position", "step")
LARGEST = re.compile(r"\s*([^<>=!]+?)\s*=\s*(\d+)\s*")  # COLUMN=K
LEAST_RUNS = 5  # of the interval of a difference
DRAWS = 1999


@dataclass(frozen=True)
class Comparison:
    """One law on the common points; numbers are None where the law has no optimum or nothing was held out.

    `held_out` says what was, and `held_out_reason` why a law has no error there. `held_out_difference` is the law's
    rms less that of the first law, with the `low` and `high` of its 95 % interval.
    """

    law: str
    found: bool
    identified: bool
    reason: str | None
    formula: str
    n_points: int
    n_parameters: int
    rms_ln: float | None
    r_squared: float | None
    aic: float | None
    delta_aic: float | None
    held_out_rms_ln: float | None
    held_out_largest: float | None
    held_out: str | None
    held_out_reason: str | None
    held_out_difference: dict[str, float | None] | None
    structure: dict[str, dict[str, float | None]]

    def to_dict(self) -> dict[str, object]:
        """Return what goes into JSON."""
        return asdict(self)


def compare(
    points: pd.DataFrame,
    laws: Mapping[str, tuple[Law, Mapping[str, str]]],
    objective: str | None = "mse_log",
    delta: float = 1e-3,
    hold_out: int | str = 0,
    weights: str | None = None,
    folds: int = 0,
    leave_one_run_out: bool = False,
    seed: int = 0,
) -> list[Comparison]:
    """Fit each law to the same points.

    Parameters
    ----------
    points : DataFrame
        With the columns of all the laws.
    laws : mapping
        Name -> the law and its `columns`.
    objective, delta, weights
        See `Law.fit`; by default least squares in ln y for all, which AIC rests on. None: each source's own.
    hold_out : int or str
        Fit without some of the points and report the error on them, the same for every law. A number K: the runs that
        have the K largest values of the first law's `size`; "COLUMN=K": those of another column; a condition such as
        "flops > 1e21" or "data = c4": the rows that meet it.
    folds : int
        Deal the runs into so many folds, and report the error on each by the fit without it.
    leave_one_run_out : bool
        The same with a fold a run. One of these three at most.
    seed : int
        Of the folds and of the interval of a difference.

    Returns
    -------
    list of Comparison
        In the order of `laws`.

    Raises
    ------
    UserError
        For points that can't be used, laws of another response than the first's, or a split that leaves nothing.

    Examples
    --------
    >>> from pipeline.laws import FORMULAS
    >>> n = np.geomspace(1e6, 1e10, 12)
    >>> points = pd.DataFrame({"n_params": n, "loss": 1.7 + 400 / n**0.34})
    >>> one, two = compare(points, {name: (FORMULAS[name], {}) for name in ("L_N", "power_plus_constant")})
    >>> one.delta_aic > two.delta_aic == 0
    True
    """
    if not laws:
        raise UserError("no law is given to compare")
    first, columns = next(iter(laws.values()))
    for name, (law, _) in laws.items():
        if law.response != first.response or not _at_each_point(law):
            kind = (
                f"{first.response} at each point, as {first.name} does," if _at_each_point(first) else "at each point"
            )
            raise UserError(f"{name}: it predicts {_what(law)}; only laws that predict {kind} can be compared")
        if law.whole_curves != first.whole_curves:
            curves, rows = (first, law) if first.whole_curves else (law, first)
            said = f"{curves.name} takes whole curves and {rows.name} single rows"
            raise UserError(f"{name}: {said}; they can't be compared on the same points")
    chosen = first.choose_columns(points, columns)
    check_names(chosen, (*first.inputs, first.response))
    if not points.index.is_unique:  # rows are found again by it
        points = points.reset_index(drop=True)
    if first.whole_curves:  # each row then knows its run's schedule
        checked, _ = first.prepare(points, chosen, weights)
        points, weights = checked, "weight"
        laws, chosen = {name: (law, {}) for name, (law, _) in laws.items()}, {}
    else:
        checked = check_points(
            complete(rename(points, chosen), first.inputs)[0], first.name, first.inputs, first.response, None
        )
    points = points if "run" in points else points.assign(run=checked["run"])
    if folds or leave_one_run_out:
        rows, rest, said = points, points, _folds(checked, folds, leave_one_run_out)
        out = folds_of_runs(checked["run"], folds or checked["run"].nunique(), seed)
    else:
        held, said = _held_out(points, checked, first, hold_out, chosen)
        rows, rest = points.loc[~held], points.loc[held]
    fits, errors, reasons = {}, {}, {}
    for name, (law, columns) in laws.items():
        fits[name] = fit = law.fit(rows, objective, delta, weights, n_boot=0, columns=columns)
        if not fit.found or not len(rest):
            continue
        if rest is rows:
            used, _ = law.prepare(points, law.choose_columns(points, columns), weights)
            error = errors_left_out(law, used, out, check_objective(objective or law.objective, delta))
        else:
            error = _residual(fit, law, rest, columns)
        if isinstance(error, str):
            reasons[name] = error
        else:
            errors[name] = error
    lead = next(iter(laws))
    found = []
    for name, (law, columns) in laws.items():
        more: dict[str, object] = {"held_out": said, "held_out_reason": reasons.get(name)}
        if name in errors:
            more["held_out_rms_ln"] = _rms(errors[name])
            more["held_out_largest"] = float(np.abs(np.expm1(-errors[name])).max())
            if name != lead and lead in errors:
                runs = checked["run"].loc[rest.index]
                more["held_out_difference"] = paired_difference(errors[name], errors[lead], runs, seed)
        found.append(_describe(fits[name], law, rows, columns, more))
    lowest = min((one.aic for one in found if one.aic is not None), default=None)
    return [Comparison(**{**vars(one), "delta_aic": None if one.aic is None else one.aic - lowest}) for one in found]


def _folds(checked: pd.DataFrame, folds: int, leave_one_run_out: bool) -> str:
    """Say how runs are left out, or refuse folds that can't be."""
    n = checked["run"].nunique()
    if n < 2:
        raise UserError(f"folds: all points are of one run, {checked['run'].iloc[0]!r}; two or more are needed")
    if leave_one_run_out:
        return f"each of {n} runs in its turn"
    if not 2 <= folds <= n:
        raise UserError(f"folds (--folds): {folds} must be a whole number from 2 to {n}, the number of runs")
    return f"each of {folds} folds of {n} runs in its turn"


def _held_out(
    points: pd.DataFrame, checked: pd.DataFrame, first: Law, hold_out: int | str, columns: Mapping[str, str]
) -> tuple[Array, str | None]:
    """Return which rows are held out, and say so."""
    name, k = first.size, hold_out
    if isinstance(hold_out, str):
        largest = LARGEST.fullmatch(hold_out)
        if not largest:
            met = checked.index.isin(choose_rows(points, [hold_out], columns, "--hold-out").index)
            if met.all():
                raise UserError(f"--hold-out {hold_out!r}: leaves nothing to fit; every row meets it")
            return met, f"rows with {hold_out}"
        given, k = largest[1], int(largest[2])
        name = {theirs: ours for ours, theirs in columns.items()}.get(given, given)
        if name not in checked:
            table = ", ".join(map(repr, points.columns))
            raise UserError(f"--hold-out {hold_out}: column {given!r} is missing; the table has {table}")
        if k < 1:
            raise UserError(f"--hold-out {hold_out}: COLUMN=K is needed, with K a whole number from 1")
        checked = checked.assign(**{name: numbers(checked, name, "--hold-out", infinite=True)})
    _, held = split_largest(checked, name, k)
    return checked.index.isin(held.index), f"the {k} largest values of {name}" if k else None


def paired_difference(error: Array, other: Array, runs: Sequence[str], seed: int = 0) -> dict[str, float | None]:
    """Return the rms of one law's errors less that of another's at the same points, with a 95 % interval over runs.

    Runs are drawn with replacement, and the draws widened by Student's quantile and by n / (n - 1), since so few
    have too small a spread. Fewer than 5 runs have no interval.

    Examples
    --------
    >>> paired_difference(np.array([0.5, -0.5]), np.array([0.25, 0.25]), ["a", "b"])
    {'estimate': 0.25, 'low': None, 'high': None}
    """
    of_run, names = pd.factorize(np.asarray(runs))
    n = len(names)
    estimate = _rms(error) - _rms(other)
    if n < LEAST_RUNS:
        return {"estimate": estimate, "low": None, "high": None}
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=DRAWS)
    rows = drawn @ np.bincount(of_run)
    one, two = (np.sqrt(drawn @ np.bincount(of_run, each**2) / rows) for each in (error, other))
    factor = widening(n - 1) * np.sqrt(n / (n - 1))
    low, high = interval(estimate + factor * (one - two - estimate))
    return {"estimate": estimate, "low": low, "high": high}


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _at_each_point(law: Law) -> bool:
    return type(law).fit_points is Law.fit_points


def _what(law: Law) -> str:
    """Say what a law predicts."""
    return f"{law.response} at each point" if _at_each_point(law) else f"{law.response}, the best at each compute"


def _describe(
    fit: Fit, law: Law, rows: pd.DataFrame, columns: Mapping[str, str], more: Mapping[str, object]
) -> Comparison:
    numbers: dict[str, object] = dict.fromkeys(
        ("rms_ln", "r_squared", "aic", "delta_aic", "held_out_rms_ln", "held_out_largest", "held_out_difference")
    )
    structure: dict[str, dict[str, float | None]] = {}
    p = fit.n_free
    if fit.found:
        residual = _residual(fit, law, rows, columns)
        mean_square = float(np.mean(residual**2))
        numbers |= {"rms_ln": mean_square**0.5, "r_squared": fit.r_squared}
        numbers["aic"] = len(residual) * float(np.log(max(mean_square, 1e-300))) + 2 * p
        structure = residual_structure(residual, rename(rows, columns))
    return Comparison(
        law=fit.law,
        found=fit.found,
        identified=fit.identified,
        reason=fit.reason,
        formula=fit.formula(),
        n_points=fit.n_points,
        n_parameters=p,
        structure=structure,
        **{**numbers, **more},
    )


def _residual(fit: Fit, law: Law, rows: pd.DataFrame, columns: Mapping[str, str]) -> Array:
    """Return ln y - ln f at rows."""
    table, _ = complete(rename(rows, law.choose_columns(rows, columns)), law.inputs)
    predicted = fit.predict(**law.inputs_of(table))
    return np.log(table[law.response].to_numpy(dtype=float)) - np.log(predicted)


def residual_structure(residual: Array, table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Return, for each known column of the table, the residuals' correlation with ln x and the runs test along x."""
    result = {}
    for column in COLUMNS:
        if column not in table:
            continue
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
        known = np.isfinite(values) & (values > 0)
        x, r = np.log(values[known]), residual[known]
        if len(np.unique(x)) < 3:
            continue
        correlation = None if r.std() == 0 else float(np.corrcoef(x, r)[0, 1])
        z, p_value = runs_test(r[np.argsort(x, kind="stable")])
        result[column] = {"correlation": correlation, "runs_z": z, "runs_p": p_value}
    return result


def runs_test(values: Array) -> tuple[float | None, float | None]:
    """Return z and the two-sided p of the number of runs of one sign (Wald and Wolfowitz); None if all have one sign.

    Examples
    --------
    >>> z, p = runs_test(np.array([1.0] * 10 + [-1.0] * 10))
    >>> round(z, 2), round(p, 5)
    (-4.14, 4e-05)
    """
    positive = values > 0
    n, m = int(positive.sum()), int((~positive).sum())
    if n == 0 or m == 0 or n + m < 3:
        return None, None
    runs = 1 + int((positive[1:] != positive[:-1]).sum())
    expected = 2 * n * m / (n + m) + 1
    variance = (expected - 1) * (expected - 2) / (n + m - 1)
    if variance <= 0:
        return None, None
    z = (runs - expected) / np.sqrt(variance)
    return float(z), float(2 * stats.norm.sf(abs(z)))


def table(comparisons: Sequence[Comparison]) -> str:
    """Return a readable table: one line a law, then what the residuals show."""
    head = ("law", "points", "parameters", "rms ln", "AIC", "delta")
    said = comparisons[0].held_out
    if said:
        head += ("held-out rms ln", "held-out largest", "difference", "low", "high")
    rows = [head]
    for one in comparisons:
        numbers = [one.rms_ln, one.aic, one.delta_aic]
        if said:
            difference = one.held_out_difference or dict.fromkeys(("estimate", "low", "high"))
            numbers += [one.held_out_rms_ln, one.held_out_largest, *difference.values()]
        rows.append(
            (one.law, str(one.n_points), str(one.n_parameters), *("-" if v is None else f"{v:.4g}" for v in numbers))
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    if said:
        than = f"; difference: held-out rms ln less that of {comparisons[0].law}, with its 95 % interval over runs"
        lines.append(f"held out: {said}{than if len(comparisons) > 1 else ''}")
    lines += [f"{one.law}: no held-out error: {one.held_out_reason}" for one in comparisons if one.held_out_reason]
    for one in comparisons:
        lines.append(f"{one.law}: {one.formula}" if one.found else one.formula)
        for column, shown in one.structure.items():
            r, z, p = ("-" if v is None else f"{v:.3g}" for v in shown.values())
            lines.append(f"  residuals against {column}: correlation {r}, runs test z = {z} (p = {p})")
    return "\n".join(lines)
