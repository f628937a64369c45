"""One bootstrap through the chain: each replicate draws the runs of all sweeps again, refits B_crit and what follows.

Laws in S_min and C_min rest on B_crit, and so do their intervals. Replicate k of a law takes replicate k of B_crit, and
what a run is off by in replicate k depends on seed and run alone (`fitting.draws`). So the draws of all laws are
paired, also those that other jobs made, and whatever follows from several laws has an interval that knows it.

A replicate's error is turned round, 2 estimate - replicate, since estimates through a lowest loss are biased by noise:
what noise adds to the replicates it added to the estimate itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from pipeline.laws.algebra.efficiency import minimum_compute, minimum_steps
from pipeline.laws.fitting import estimate
from pipeline.laws.fitting.constraint import Held
from pipeline.laws.fitting.draws import normals
from pipeline.laws.fitting.estimate import Array, Objective
from pipeline.laws.fitting.fit import Fit
from pipeline.laws.fitting.run_noise import noise_about, run_noise
from pipeline.laws.formulas.frontier import Curves, computes, falling, too_few_lead

Replicates = tuple[Array, dict[str, Any]]
"""Vectors (n_boot, p), NaN where a replicate has none, and how they were made."""

SQUARES = Objective("mse_log")


CriticalBatch = Callable[[Array], Array]
"""Critical batch in tokens of a loss, nats per token."""


def estimated(b_crit: Fit) -> CriticalBatch:
    """Return the fitted B_crit(L)."""
    vector = np.asarray(b_crit.vector)
    return lambda loss: b_crit.definition.evaluate(vector[None], {"loss": loss})[0]


def turned(b_crit: Fit, k: int) -> CriticalBatch:
    """Return B_crit(L) of replicate k, turned round the fit in its logarithm at each loss.

    Not in the parameters: the scans tell B_crit near their losses and little of B_* at 1 nat, so replicates lie on a
    ridge in (B_*, alpha_B). It is bent: what is turned in the parameters falls off it, and always to the same side.
    """
    fitted, draw = estimated(b_crit), b_crit.draws[k]
    return lambda loss: fitted(loss) ** 2 / b_crit.definition.evaluate(draw[None], {"loss": loss})[0]


def learning_curves(fit: Fit, points: pd.DataFrame, b_crit: Fit, n_boot: int, seed: int) -> Replicates | str:
    """Refit L(N, S_min) to replicates of its runs, adjusted by replicates of B_crit.

    Parameters
    ----------
    fit : Fit
        The law, fitted to the points.
    points : DataFrame
        Of `points.after_warmup`.
    b_crit : Fit
        With draws.
    n_boot, seed : int
    """
    if few := _too_few(points, len(fit.parameters), b_crit):
        return few
    law = fit.definition
    runs = pd.Index(points["run"].unique())
    run_index = runs.get_indexer(points["run"])
    model = law.model(points)
    log_loss = np.log(points["loss"].to_numpy())
    theta = law.optimum(Held.of(model), np.exp(log_loss), np.ones(len(points)), SQUARES)[1].theta
    m, jacobian = (part[0] for part in model.derivatives(theta[None]))
    noise = noise_about(m, jacobian.T, log_loss, run_index)
    factor = estimate.widening(noise.degrees)
    drawn = factor * normals(list(runs), n_boot, seed)
    vectors = np.full((n_boot, len(theta)), np.nan)
    step, batch = points["step"].to_numpy(float), points["batch_tokens"].to_numpy(float)
    sizes, weights = points[["n_params"]], np.ones((1, len(points)))
    for k in range(min(n_boot, len(b_crit.draws))):
        changed = noise.drawn(-drawn[k])
        critical = turned(b_crit, k)(np.exp(changed))
        one = law.model(sizes.assign(steps=minimum_steps(step, batch, critical)))
        start = _moved(theta, model, one)
        found = estimate.minimise(one, np.exp(changed), start[None], weights, SQUARES)
        if found.converged[0]:
            vectors[k] = law.report(one, found.theta)[0]
    return 2 * np.asarray(fit.vector) - vectors, {"degrees_of_freedom": noise.degrees, "widening": factor}


def frontier_trend(fit: Fit, rows: pd.DataFrame, n_boot: int, seed: int, b_crit: Fit | None = None) -> Replicates | str:
    """Find the frontier of replicates of the learning curves again, and fit the law's line through each.

    Parameters
    ----------
    fit : Fit
        The law, fitted to the points of the frontier.
    rows : DataFrame
        The learning curves: of `points.after_warmup` with `b_crit`, of the fixed batch without.
    n_boot, seed : int
    b_crit : Fit, optional
        With draws; compute is then C_min.
    """
    if few := _too_few(rows, len(fit.parameters), b_crit):
        return few
    search = FrontierSearch(fit, rows, b_crit)
    noise = run_noise(*search.surface())
    if noise is None:
        return "too few sizes to tell the noise of runs from the trend: no interval"
    middle = search.vector(noise.smooth, None if b_crit is None else estimated(b_crit))
    if not np.isfinite(middle).all():
        return "the smooth surface through the curves has no frontier: no interval"
    # The trend's own parameters are taken off as well: without, simulated intervals of the best size held it in 90 %.
    degrees = noise.degrees - len(middle)
    if degrees < 1:
        return "too few runs to tell their noise from the trend: no interval"
    factor = estimate.widening(degrees)
    drawn = factor * normals(search.curves.runs, n_boot, seed)
    vectors = np.full((n_boot, len(middle)), np.nan)
    for k in range(n_boot if b_crit is None else min(n_boot, len(b_crit.draws))):
        vectors[k] = search.vector(noise.drawn(-drawn[k]), None if b_crit is None else turned(b_crit, k))
    return np.asarray(fit.vector) - (vectors - middle), {"degrees_of_freedom": degrees, "widening": factor}


class FrontierSearch:
    """The way from the losses of learning curves to a trend of the frontier, as fast as a replicate needs it.

    It is the way of `formulas.frontier.frontier` and `points.adjusted_frontier` on arrays.
    """

    def __init__(self, fit: Fit, rows: pd.DataFrame, b_crit: Fit | None) -> None:
        self.law, self.b_crit = fit.definition, b_crit
        rows = falling(rows, "flops").reset_index(drop=True)
        self.curves = Curves.of(rows, "flops")
        taken = rows.iloc[self.curves.rows]
        self.log_flops, self.log_size, self.log_loss = (
            np.log(taken[name].to_numpy(float)) for name in ("flops", "n_params", "loss")
        )
        self.batch = taken["batch_tokens"].to_numpy(float)
        sizes, first = np.unique(self.log_size, return_index=True)
        self.batch_by_size = sizes, np.log(self.batch[first])

    def surface(self) -> tuple[Array, Array, Array, np.ndarray]:
        """Return ln N, ln x, ln L and the run of each row, for `run_noise`."""
        length = self.log_flops - self.log_size
        if self.b_crit is not None:
            length = self._log_compute(self.log_loss, estimated(self.b_crit)) - self.log_size
        return self.log_size, length, self.log_loss, self.curves.run_index

    def _log_compute(self, log_loss: Array, critical: CriticalBatch | None) -> Array:
        if critical is None:
            return self.log_flops
        return np.log(minimum_compute(np.exp(self.log_flops), self.batch, critical(np.exp(log_loss))))

    def batch_at(self, log_size: Array) -> Array:
        """Return the batch, in tokens, of runs of a size."""
        return np.exp(np.interp(log_size, *self.batch_by_size))

    def vector(self, log_loss: Array, critical: CriticalBatch | None) -> Array:
        """Return the law's vector for ln L of the rows and a B_crit(L); NaN where no trend can be told."""
        nothing = np.full(len(self.law.parameters), np.nan)
        with np.errstate(all="ignore"):
            log_compute = self._log_compute(log_loss, critical)
        if not np.isfinite(log_compute).all():  # a replicate of B_crit that is 0 or beyond any number
            return nothing
        at = computes(log_compute)
        sizes, point = self.curves.best(log_compute, log_loss, at)
        if too_few_lead(sizes, point):
            return nothing
        told = np.isfinite(point.log_size)
        points = {
            "flops": np.exp(at[told]),
            "loss": np.exp(point.log_loss[told]),
            "n_params": np.exp(point.log_size[told]),
        }
        if critical is None:
            points["steps"] = points["flops"] / (6 * points["n_params"] * self.batch_at(point.log_size[told]))
        else:
            points |= efficient(points["flops"], points["n_params"], critical(points["loss"]))
        y = points[self.law.response]
        model = self.law.model(pd.DataFrame(points))
        line = self.law.starts(model, y, np.ones(len(y)), SQUARES)  # in logarithms: the start is the minimum
        return self.law.report(model, line[:1])[0]


def efficient(flops: Array, n_params: Array, b_crit: Array) -> dict[str, Array]:
    """Return S_min, tokens and batch of efficient training: at B_crit twice S_min steps are made (Eq 6.1 to 6.7)."""
    return {"steps": flops / (6 * n_params * b_crit), "n_tokens": 2 * flops / (6 * n_params), "batch_tokens": b_crit}


def _moved(theta: Array, model: Any, other: Any) -> Array:
    """Return coordinates of one model in another on other points: the same law."""
    moved = theta.copy()
    for axis, there, (c, a) in zip(model.axes, other.axes, model.columns, strict=True):
        moved[c], moved[a] = there.scaled(*axis.raw(theta[c], theta[a]))
    return moved


def _too_few(points: pd.DataFrame, n_parameters: int, b_crit: Fit | None) -> str | None:
    if points["run"].nunique() <= n_parameters:
        return f"{points['run'].nunique()} runs for {n_parameters} parameters: no interval"
    if b_crit is not None and not len(b_crit.draws):
        return "B_crit has no interval, so nothing behind it has one"
    return None
