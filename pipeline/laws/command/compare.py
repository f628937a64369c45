"""Laws on the same points: which fits better for its parameters, which extrapolates, and what each leaves over.

* AIC = n ln(mean squared residual of ln y) + 2 p: for laws fitted by least squares in ln y, the likelihood with
  normal residuals, up to a constant that all share. Points of one run are counted as if they were independent, so
  with checkpoints differences are too large; the error on what was held out has no such fault.
* Residual structure, against each input column: the correlation of ln y - ln f with ln x, and the runs test (Wald and
  Wolfowitz 1940) of its signs in order of x: much fewer runs of one sign than chance allows (z below -2) mean that
  the law's shape is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.errors import UserError
from pipeline.laws.fitting.estimate import Array
from pipeline.laws.fitting.fit import Fit
from pipeline.laws.fitting.law import Law, split_largest
from pipeline.laws.fitting.point_table import check_names, check_points, complete, rename

COLUMNS = ("n_params", "n_tokens", "flops", "steps", "position")


@dataclass(frozen=True)
class Comparison:
    """One law on the common points; numbers are None where the law has no optimum or nothing was held out."""

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
    structure: dict[str, dict[str, float | None]]

    def to_dict(self) -> dict[str, object]:
        """Return what goes into JSON."""
        return asdict(self)


def compare(
    points: pd.DataFrame,
    laws: Mapping[str, tuple[Law, Mapping[str, str]]],
    objective: str | None = "mse_log",
    delta: float = 1e-3,
    hold_out: int = 0,
    weights: str | None = None,
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
    hold_out : int
        Fit without the points that have this many largest values of the first law's `size`, and report the error on
        them: the same points for every law.

    Returns
    -------
    list of Comparison
        In the order of `laws`.

    Raises
    ------
    UserError
        For points that can't be used, or laws of another response than the first's.

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
    chosen = first.choose_columns(points, columns)
    check_names(chosen, (*first.inputs, first.response))
    if not points.index.is_unique:  # rows are found again by it
        points = points.reset_index(drop=True)
    checked = check_points(
        complete(rename(points, chosen), first.inputs)[0], first.name, first.inputs, first.response, None
    )
    size = first.size
    kept, held = split_largest(checked, size, hold_out)
    rows = points.loc[kept.index] if "run" in points else points.loc[kept.index].assign(run=kept["run"])
    rest = points.loc[held.index]
    fits = {}
    for name, (law, columns) in laws.items():
        fits[name] = law.fit(rows, objective, delta, weights, n_boot=0, columns=columns)
    found = [_describe(fits[name], law, rows, rest, columns) for name, (law, columns) in laws.items()]
    lowest = min((one.aic for one in found if one.aic is not None), default=None)
    return [Comparison(**{**vars(one), "delta_aic": None if one.aic is None else one.aic - lowest}) for one in found]


def _at_each_point(law: Law) -> bool:
    return type(law).fit is Law.fit


def _what(law: Law) -> str:
    """Say what a law predicts."""
    return f"{law.response} at each point" if _at_each_point(law) else f"{law.response}, the best at each compute"


def _describe(fit: Fit, law: Law, rows: pd.DataFrame, held: pd.DataFrame, columns: Mapping[str, str]) -> Comparison:
    numbers: dict[str, object] = dict.fromkeys(
        ("rms_ln", "r_squared", "aic", "delta_aic", "held_out_rms_ln", "held_out_largest")
    )
    structure: dict[str, dict[str, float | None]] = {}
    p = fit.n_free
    if fit.found:
        residual = _residual(fit, law, rows, columns)
        mean_square = float(np.mean(residual**2))
        numbers |= {"rms_ln": mean_square**0.5, "r_squared": fit.r_squared}
        numbers["aic"] = len(residual) * float(np.log(max(mean_square, 1e-300))) + 2 * p
        if len(held):
            error = _residual(fit, law, held, columns)
            numbers["held_out_rms_ln"] = float(np.sqrt(np.mean(error**2)))
            numbers["held_out_largest"] = float(np.abs(np.expm1(-error)).max())
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
        **numbers,
    )


def _residual(fit: Fit, law: Law, rows: pd.DataFrame, columns: Mapping[str, str]) -> Array:
    """Return ln y - ln f at rows."""
    table, _ = complete(rename(rows, law.choose_columns(rows, columns)), law.inputs)
    predicted = fit.predict(**{name: table[name].to_numpy(dtype=float) for name in law.inputs})
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
    head = ("law", "points", "parameters", "rms ln", "AIC", "delta", "held-out rms ln", "held-out largest")
    rows = [head]
    for one in comparisons:
        numbers = (one.rms_ln, one.aic, one.delta_aic, one.held_out_rms_ln, one.held_out_largest)
        rows.append(
            (one.law, str(one.n_points), str(one.n_parameters), *("-" if v is None else f"{v:.4g}" for v in numbers))
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    for one in comparisons:
        lines.append(f"{one.law}: {one.formula}" if one.found else one.formula)
        for column, shown in one.structure.items():
            r, z, p = ("-" if v is None else f"{v:.3g}" for v in shown.values())
            lines.append(f"  residuals against {column}: correlation {r}, runs test z = {z} (p = {p})")
    return "\n".join(lines)
