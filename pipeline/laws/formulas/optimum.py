"""Laws of the optimum: N_opt = k_N C^a, D_opt = k_D C^b and L = k_L C^-c through the best sizes at several computes.

How the best sizes are found is the business of `isoflop` (approach 2 of Hoffmann et al. 2022) and `envelope`
(approach 1). The lines through them are least squares in logarithms, and the bootstrap over runs begins again from
the losses, so that the interval holds the doubt about where the best sizes are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ...errors import UserError
from ..fitting import estimate
from ..fitting.estimate import MIDDLE, Array, Objective
from ..fitting.findings import FLAT, Doubts
from ..fitting.fit import Fit
from ..fitting.law import Law, r_squared, take_draws
from ..fitting.point_table import UNITS, check_names, check_points, complete, numbers, rename
from ..fitting.settings import Settings
from ..fitting.terms import Parameter, plain


@dataclass
class Optima:
    """The best size, its data and its loss at each compute; arrays of one length.

    left_out names each compute that gave none, and why; curves says what was fitted at each compute that gave one, and
    settings how.
    """

    flops: Array
    n_params: Array
    n_tokens: Array
    loss: Array
    runs: list[str]
    left_out: list[dict[str, object]] = field(default_factory=list)
    curves: list[dict[str, object]] = field(default_factory=list)
    settings: dict[str, object] = field(default_factory=dict)


@dataclass
class Replicates:
    """ln N, ln D and ln L (each (n_boot, n_computes), NaN where there is no optimum) at given computes."""

    flops: Array
    values: tuple[Array, Array, Array]
    record: dict[str, object]
    middle: Array | None = None
    """The lines (6,) where no error was drawn, if the estimates are biased by noise: errors are then turned round."""


class Optimum(Law):
    """The base of approaches 1 and 2.

    `inputs` and `response` are those of the law that comes out, N_opt(C). The points need the columns `needs` and
    `loss`; D is C / (6 N) where they have no `n_tokens`.
    """

    inputs = ("flops",)
    response = "n_params"
    needs = ("flops", "n_params")
    objectives: tuple[str, ...] = ("mse_log",)
    definition: str

    def optima(self, points: pd.DataFrame, objective: Objective) -> Optima:
        """Return the best sizes of checked points, in order of compute."""
        raise NotImplementedError

    def replicates(
        self, points: pd.DataFrame, optima: Optima, objective: Objective, bootstrap: str, n_boot: int, seed: int
    ) -> Replicates | str:
        """Return the best sizes of bootstrap replicates over runs, or say why there can be none."""
        raise NotImplementedError

    @property
    def units(self) -> dict[str, str]:
        """The units of the columns."""
        return {name: UNITS[name] for name in (*self.needs, "n_tokens", "loss")}

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """See `Law.evaluate`."""
        return np.exp(vectors[:, 0, None] + vectors[:, 1, None] * np.log(inputs["flops"]))

    def formula(self, values: Mapping[str, float]) -> str:
        """See `Law.formula`."""
        k = {name: plain(format(values[name], ".3g")) for name in ("k_N", "k_D", "k_L")}
        a, b, c = (values[name] for name in "abc")
        return f"N = {k['k_N']} C^{a:.3f}, D = {k['k_D']} C^{b:.3f}, L = {k['k_L']} C^{-c:.3f}"

    def fit_points(self, points: pd.DataFrame, how: Settings) -> Fit:
        """Fit the lines through the optima.

        `hold_out` leaves out the optima with that many largest values of `size` and reports the error on them.
        """
        chosen, columns, hold_out = how.objective, how.columns, how.hold_out
        if chosen.kind not in self.objectives:
            raise UserError(
                f"objective: {chosen.kind!r} is not one of {', '.join(self.objectives)}, which {self.name} has"
            )
        if chosen.quantile != MIDDLE:
            raise UserError(f"quantile (--quantile): {self.name} is fitted to the best sizes, which have no side")
        check_names(columns, (*self.needs, "loss"))
        if hold_out < 0:
            raise UserError(f"hold_out: {hold_out} must be 0 or more")
        named, derived = complete(rename(points, columns), self.needs)
        used = self.check(named, how.weights)
        runs = pd.Index(used["run"].unique())
        fit = self._empty(chosen, used, runs, columns)
        fit.objective_definition, fit.level = self.definition, how.level
        for column in self.needs:
            if used[column].nunique() < 2:
                fit.reason = (
                    f"column {column!r} has one value only, {used[column].iloc[0]:g}: the exponent can't be told"
                )
                return fit
        optima = self.optima(used, chosen)
        fit.details = describe(optima) | ({"derived": derived} if derived else {})
        distinct = np.unique(getattr(optima, self.size))
        if hold_out and hold_out >= len(distinct):
            have = f"{len(distinct)} values of {self.size} have an optimum"
            raise UserError(f"hold_out: largest={hold_out} leaves nothing to fit; {have}")
        held = np.isin(getattr(optima, self.size), distinct[len(distinct) - hold_out :])
        kept = ~held
        if len(np.unique(optima.flops[kept])) < 2:
            why = "; ".join(f"{one['flops']:.3g} FLOP: {one['reason']}" for one in optima.left_out)
            fit.reason = f"{kept.sum()} optima for 2 parameters of each line" + (f" (left out: {why})" if why else "")
            return fit

        ln_c = np.log(optima.flops[kept])
        values = [np.log(each[kept])[None] for each in (optima.n_params, optima.n_tokens, optima.loss)]
        fit.ranges = {"flops": [float(optima.flops[kept].min()), float(optima.flops[kept].max())]}
        if np.ptp(values[0]) <= FLAT:
            fit.reason = "flat direction: the best size is the same at all computes, to rounding"
            return fit
        vector = through(ln_c, values)[0]
        residual = values[0][0] - vector[0] - vector[1] * ln_c
        if not np.isfinite(vector).all():
            fit.reason = f"out of range: {self.names[int(np.argmin(np.isfinite(vector)))]} is not a finite number"
            return fit
        fit.vector, fit.converged = vector.tolist(), True
        fit.starts = fit.starts_at_optimum = 1  # a straight line has one optimum, in closed form
        fit.objective = float(np.mean(residual**2))
        centred = (ln_c - ln_c.mean()) / ln_c.std()
        fit.gradient_norm = float(2 * max(abs(residual.mean()), abs((residual * centred).mean())))
        fit.r_squared = r_squared(values[0][0], residual, np.ones_like(residual))
        fit.residuals = {"rms_ln": float(np.sqrt(fit.objective)), "largest_ln": float(np.abs(residual).max())}
        if how.n_boot:
            below = optima.flops[held].min() if hold_out else np.inf
            self._interval(fit, used, optima, chosen, (how.bootstrap, how.n_boot, how.seed), below)
        self.conclude(fit, Doubts())
        fit.held_out = self._errors(fit, optima, held, hold_out)
        return fit

    def check(self, points: pd.DataFrame, weights: str | Sequence[float] | None = None) -> pd.DataFrame:
        """Return the points with numbers in their columns (see `points.check_points`), and n_tokens."""
        used = check_points(points, self.name, self.needs, "loss", weights)
        if "n_tokens" in points:
            return used.assign(n_tokens=numbers(points, "n_tokens", self.name))
        return used.assign(n_tokens=used["flops"] / (6 * used["n_params"]))

    def _interval(self, fit: Fit, points: pd.DataFrame, optima: Optima, objective, how, below: float) -> None:
        found = self.replicates(points, optima, objective, *how)
        if isinstance(found, str):
            fit.bootstrap = {"replicates": 0, "note": found}
            return
        inside = found.flops < below
        draws = through(np.log(found.flops[inside]), [each[:, inside] for each in found.values])
        record = {"unit": "run", "seed": how[2], **found.record}
        if "degrees_of_freedom" in record:
            record["widening"] = estimate.widening(record["degrees_of_freedom"], fit.level)
            errors = draws - fit.vector if found.middle is None else found.middle - draws
            draws = np.asarray(fit.vector) + record["widening"] * errors
        take_draws(fit, draws, how[1], record, "have no optimum")

    def _errors(self, fit: Fit, optima: Optima, held: Array, largest: int) -> dict[str, object]:
        if not largest:
            return {}
        flops, actual = optima.flops[held], optima.n_params[held]
        predicted = fit.predict(flops=flops)
        low, high = fit.interval(flops=flops)
        loss = np.exp(fit.vector[4] - fit.vector[5] * np.log(flops))
        return {
            "largest": largest,
            "by": self.size,
            "flops": flops.tolist(),
            "actual": actual.tolist(),
            "predicted": predicted.tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "relative_error": (predicted / actual - 1).tolist(),
            "largest_relative_error": float(np.abs(predicted / actual - 1).max()),
            "rms_ln": float(np.sqrt(np.mean(np.log(predicted / actual) ** 2))),
            "rms_ln_loss": float(np.sqrt(np.mean(np.log(loss / optima.loss[held]) ** 2))),
        }


def parameters(a: float | None, b: float | None) -> tuple[Parameter, ...]:
    """Return the six parameters of the lines; a and b are the published exponents. k is the value at 1 FLOP."""
    return (
        Parameter("k_N", "parameters", log=True),
        Parameter("a", "", a),
        Parameter("k_D", "tokens", log=True),
        Parameter("b", "", b),
        Parameter("k_L", "nats per token", log=True),
        Parameter("c"),
    )


def through(ln_c: Array, values: Sequence[Array]) -> Array:
    """Return (n, 6): the least-squares lines of ln N, ln D and -ln L against ln C, past NaN.

    Parameters
    ----------
    ln_c : ndarray of shape (n_computes,)
    values : three ndarrays of shape (n, n_computes)
        ln N, ln D and ln L.

    Returns
    -------
    ndarray
        ln k_N, a, ln k_D, b, ln k_L, c; NaN with fewer than two computes.

    Examples
    --------
    >>> ln_c = np.log([1e15, 1e16, 1e17])
    >>> half = 0.5 * ln_c[None]
    >>> through(ln_c, [half, half, 1 - 0.05 * ln_c[None]])[0].round(3) + 0.0
    array([0.  , 0.5 , 0.  , 0.5 , 1.  , 0.05])
    """
    columns = []
    for y, sign in zip(values, (1, 1, -1), strict=True):
        known = np.isfinite(y)
        n = known.sum(-1)
        with np.errstate(all="ignore"):
            centre = (known * ln_c).sum(-1) / n
            mean = np.where(known, y, 0).sum(-1) / n
            x = np.where(known, ln_c - centre[:, None], 0)
            slope = (x * np.where(known, y, 0)).sum(-1) / np.where(n > 1, (x**2).sum(-1), np.nan)
        columns += [mean - slope * centre, sign * slope]
    return np.stack(columns, axis=-1)


def describe(optima: Optima) -> dict[str, object]:
    """Return the optima as they stand in the JSON."""
    rows = zip(optima.flops, optima.n_params, optima.n_tokens, optima.loss, optima.runs, strict=True)
    names = ("flops", "n_params", "n_tokens", "loss", "run")
    table = [{k: v if isinstance(v, str) else float(v) for k, v in zip(names, row, strict=True)} for row in rows]
    table = [row | curve for row, curve in zip(table, optima.curves or [{}] * len(table), strict=True)]
    return {"optima": table, "left_out": optima.left_out, **optima.settings}
