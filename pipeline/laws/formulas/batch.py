"""B_crit(L) = B_* / L^(1 / alpha_B), Eq 1.4 and 5.3: the critical batch size depends on the loss alone.

It is fitted to critical batch sizes at several losses, or to the batch scans that tell them: the steps that each run
needed to reach each loss. Then all hyperbolas of Eq 5.1 are fitted at once,

    ln S = ln S_min(N, L) + ln(1 + B_crit(L) / B),

with one S_min for each model and loss. So a run counts once however many losses it passes, and a loss whose batch sizes
bend little weighs little.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...errors import UserError
from ..fitting import estimate
from ..fitting.constraint import Held
from ..fitting.draws import multipliers
from ..fitting.estimate import Array, Objective
from ..fitting.findings import doubts, no_optimum
from ..fitting.fit import Fit
from ..fitting.forms import Axis
from ..fitting.law import describe_residuals, r_squared, take_draws
from ..fitting.point_table import check_points, rename
from ..fitting.settings import Settings
from ..fitting.sum_law import SumLaw
from ..fitting.terms import Parameter, Term
from .critical_batch import BEYOND, LEAST_BATCHES

SCAN = ("n_params", "loss", "batch_tokens", "steps")


class Hyperbolas:
    """ln S less its mean over each model and loss, for theta = (c, a): ln B_crit = c - a x, x being ln L scaled."""

    def __init__(self, loss: Array, batch: Array, group: Array) -> None:
        self.axis, self.log_batch, self.group = Axis(loss), np.log(batch), group
        self.axes, self.columns, self.p = [self.axis], [(0, 1)], 2
        self.count = np.bincount(group)

    def centred(self, values: Array) -> Array:
        """Return values (..., n_points) less their mean over each group."""
        flat = values.reshape(-1, values.shape[-1])
        means = np.stack([np.bincount(self.group, row) for row in flat]) / self.count
        return (flat - means[:, self.group]).reshape(values.shape)

    def value(self, theta: Array) -> Array:
        """See `estimate.Model`."""
        return self.centred(np.logaddexp(0.0, self._log_ratio(theta)))

    def derivatives(self, theta: Array) -> tuple[Array, Array]:
        """See `estimate.Model`."""
        ratio = self._log_ratio(theta)
        share = 1 / (1 + np.exp(-ratio))
        return self.value(theta), self.centred(np.stack([share, share * self.axis.minus_x], axis=1))

    def _log_ratio(self, theta: Array) -> Array:
        return theta[:, :1] + theta[:, 1:] * self.axis.minus_x - self.log_batch

    def nuisance(self) -> Array:
        """Return the design of the groups' means, (n_points, n_groups)."""
        return np.equal.outer(self.group, np.arange(len(self.count))).astype(float)


class B_crit(SumLaw):
    """Critical batch size, in tokens, at a loss L.

    It is fitted to critical batch sizes (columns loss and b_crit), or to batch scans (n_params, loss, batch_tokens and
    steps).

    Examples
    --------
    >>> batch, loss = (one.ravel() for one in np.meshgrid([256.0, 1024.0, 4096.0, 16384.0], [3.0, 3.5, 4.0]))
    >>> scan = pd.DataFrame({"run": batch.astype(str), "n_params": 1e5, "loss": loss, "batch_tokens": batch})
    >>> fit = B_crit().fit(scan.assign(steps=500 / loss**4 * (1 + 1e6 / loss**5 / batch)), n_boot=0)
    >>> {name: float(round(e.estimate, 6)) for name, e in fit.parameters.items()}
    {'B_star': 1000000.0, 'alpha_B': 0.2}
    """

    name = "B_crit"
    equation = "1.4"
    inputs = ("loss",)
    response = "b_crit"
    size = "b_crit"
    parameters = (Parameter("B_star", "tokens", 2.0e8, log=True), Parameter("alpha_B", "", 0.21))
    terms = (Term("coefficient", "B_star", "loss", "alpha_B", "L", reciprocal=True),)
    symbol = "B_crit"

    def fit_points(self, points: pd.DataFrame, how: Settings) -> Fit:
        """Fit critical batch sizes, or batch scans by least squares on ln S with a wild bootstrap."""
        named = rename(points, how.columns)
        if self.response in named or not set(SCAN) <= set(named):
            return super().fit_points(points, how)
        usual = how.bootstrap == "wild" and how.objective == Objective("mse_log", how.objective.delta)
        if how.hold_out or how.weights is not None or not usual or how.fix or how.tie:
            raise UserError(
                f"{self.name}: batch scans are fitted by mse_log with the wild bootstrap, without weights, hold_out, "
                "fix, tie or quantile"
            )
        return self._fit_scan(check_points(named, self.name, SCAN[:3], "steps", None), how)

    def starts(self, model: Any, y: Array, weights: Array, objective: Objective, gone=frozenset()) -> Array:
        """See `Law.starts`; of hyperbolas B_crit at each batch size, and a slope of 0 or 5."""
        if not isinstance(model, Hyperbolas):
            return super().starts(model, y, weights, objective, gone)
        return np.array([[c, a] for c in np.unique(model.log_batch) for a in (0.0, model.axis.scale * 5)])

    def residuals(self, fit: Fit, points: pd.DataFrame) -> Array:
        """See `Law.residuals`; of a batch scan those of ln S from the hyperbola of their model and loss."""
        if self.response in points or not fit.found:
            return super().residuals(fit, points)
        log_steps = np.log(points["steps"] / (1 + fit.predict(loss=points["loss"]) / points["batch_tokens"]))
        groups = log_steps.groupby([points["n_params"], points["loss"]])
        enough = points.groupby(["n_params", "loss"])["batch_tokens"].transform("nunique") >= LEAST_BATCHES
        return (log_steps - groups.transform("mean")).where(enough).to_numpy()

    def _fit_scan(self, scan: pd.DataFrame, how: Settings) -> Fit:
        objective, n_boot, level = how.objective, how.n_boot, how.level
        batches = scan.groupby(["n_params", "loss"])["batch_tokens"].transform("nunique")
        used = scan[batches >= LEAST_BATCHES]
        runs = pd.Index(used["run"].unique())
        fit = self._empty(objective, used, runs, how.columns)
        fit.level = level
        if used["loss"].nunique() < 2:
            fit.reason = (
                f"{used['loss'].nunique()} loss levels are reached by {LEAST_BATCHES} batch sizes; 2 are needed"
            )
            return fit
        group = used.groupby(["n_params", "loss"], sort=False).ngroup().to_numpy()
        model = Hyperbolas(used["loss"].to_numpy(), used["batch_tokens"].to_numpy(), group)
        y, w = np.exp(model.centred(np.log(used["steps"].to_numpy()))), np.ones(len(used))
        solution, at = self.optimum(Held.of(model), y, w, objective)
        theta = at.theta
        near = solution.objective <= at.objective * (1 + 1e-7) + 1e-25
        fit.objective, fit.gradient_norm, fit.converged = at.objective, at.gradient_norm, at.converged
        fit.starts, fit.starts_at_optimum = len(near), int(near.sum())
        m, jacobian = (part[0] for part in model.derivatives(theta[None]))
        residual = np.log(y) - m
        run_index = runs.get_indexer(used["run"])
        fit.r_squared = r_squared(np.log(y), residual, w)
        fit.residuals = describe_residuals(residual, w, run_index, runs)
        fit.ranges = {"loss": [float(used["loss"].min()), float(used["loss"].max())]}
        fit.reason = no_optimum(self, at, y, w, objective)
        if fit.reason:
            return fit
        fit.vector = self.report(model, theta[None])[0].tolist()
        doubt = doubts(self, at, y, w, objective)
        if one_side := self._one_side(model, theta):
            doubt.add(one_side, {"B_star": ("low", "high")})
        if n_boot and len(runs) > 2:
            design = np.column_stack([jacobian.T, model.nuisance()])
            # Level and slope of B_crit, the coordinates, rest on different runs: each is widened for its own few.
            pairs = [
                estimate.leverage_correction(design, run_index, residual, contrasts=one[None])
                for one in np.eye(design.shape[1])[:2]
            ]
            corrected, degrees = pairs[0][0], [pair[1] for pair in pairs]
            factor = np.array([estimate.widening(one, level) for one in degrees])
            drawn = multipliers(list(runs), n_boot, how.seed)[:, run_index] * corrected
            replicates = np.exp(m + model.centred(drawn))
            found = estimate.minimise(model, replicates, np.tile(theta, (n_boot, 1)), w[None], objective)
            vectors = self.report(model, theta + factor * (found.theta - theta))
            record = {"unit": "run", "method": "wild", "seed": how.seed, "degrees_of_freedom": min(degrees)}
            record |= {"widening": float(factor.max())}
            record |= {
                "not_converged": int((~found.converged).sum()),
                "largest_gradient": float(found.gradient_norm.max(initial=0.0)),
            }
            take_draws(fit, vectors, n_boot, record)
        self.conclude(fit, doubt)
        return fit

    def _one_side(self, model: Hyperbolas, theta: Array) -> str | None:
        """Say that all batch sizes lie on one side of B_crit at every loss, or return None."""
        critical = theta[0] + theta[1] * model.axis.minus_x
        reach = np.log(BEYOND)
        if ((critical > model.log_batch.max() + reach) | (critical < model.log_batch.min() - reach)).all():
            return "B_crit lies outside the batch sizes tried: all of them are on one side"
        return None
