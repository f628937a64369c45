"""Approach 1 of Hoffmann et al. 2022: at each compute the run of lowest loss, and the power laws through those.

The points are learning curves, several rows a run. Computes at which the smallest or the largest size leads say only
that the best size may lie beyond, so they are left out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.laws.fitting.estimate import Array, Objective
from pipeline.laws.formulas.frontier import falling, leaders, readings, too_few_fall, too_few_lead
from pipeline.laws.formulas.optimum import Optima, Optimum, Replicates, parameters


class Envelope(Optimum):
    """Lines through the lower envelope of learning curves; the interval draws runs and finds the envelope again."""

    name = "envelope"
    equation = "Hoffmann et al. 2022, section 3.1"
    size = "n_params"
    objective = "mse_log"
    definition = (
        "run of lowest loss at each of 12 computes a decade; lines through these by least squares in logarithms"
    )
    parameters = parameters(0.50, 0.50)

    def optima(self, points: pd.DataFrame, objective: Objective) -> Optima:
        """See `Optimum.optima`."""
        self._check_curves(points)
        rows = falling(points)
        if few := too_few_fall(rows, points):
            nothing = np.empty(0)
            whole = [{"flops": float(points["flops"].max()), "reason": few}]
            return Optima(nothing, nothing, nothing, nothing, [], whole)
        names, flops, (losses, tokens), sizes = readings(rows, ("loss", "n_tokens"))
        best, inside = leaders(losses, sizes)
        seen = np.isfinite(losses).any(axis=0)
        left_out = ends(flops[seen], sizes[best[seen]], sizes)
        if few := too_few_lead(losses, sizes, best, inside):
            left_out.append({"flops": float(flops[inside if inside.any() else seen][0]), "reason": few})
            inside &= False
        at = best[inside], np.flatnonzero(inside)
        runs = np.array(names)[best[inside]].tolist()
        return Optima(flops[inside], sizes[best[inside]], tokens[at], losses[at], runs, left_out)

    def replicates(
        self, points: pd.DataFrame, optima: Optima, objective: Objective, bootstrap: str, n_boot: int, seed: int
    ) -> Replicates | str:
        """See `Optimum.replicates`; a lowest loss has no residuals, so runs are drawn with replacement."""
        _, flops, (losses, tokens), sizes = readings(falling(points), ("loss", "n_tokens"))
        rng = np.random.default_rng(seed)
        values = np.full((3, n_boot, len(flops)), np.nan)
        for k in range(n_boot):
            drawn = np.unique(rng.integers(len(sizes), size=len(sizes)))
            best, inside = leaders(losses[drawn], sizes[drawn])
            if too_few_lead(losses[drawn], sizes[drawn], best, inside):  # no optimum, as for the points themselves
                continue
            rows, at = drawn[best[inside]], np.flatnonzero(inside)
            values[:, k, at] = np.log([sizes[rows], tokens[rows, at], losses[rows, at]])
        return Replicates(flops, tuple(values), {"method": "pairs"})

    def _check_curves(self, points: pd.DataFrame) -> None:
        if (points["weight"] != 1).any():
            raise UserError(f"weights: {self.name} has none, since a lowest loss is not an average")
        by_run = points.groupby("run", sort=False)["n_params"]
        if by_run.size().max() < 2:
            raise UserError(f"column 'run': no run has two rows; {self.name} needs learning curves, several rows a run")
        if by_run.nunique().max() > 1:
            run = by_run.nunique().idxmax()
            raise UserError(f"column 'n_params': run {run!r} has {by_run.nunique()[run]} values; a run has one size")


def ends(flops: Array, leading: Array, sizes: Array) -> list[dict[str, object]]:
    """Name the spans of compute where the smallest or the largest size leads."""
    named = []
    for size, what in ((sizes.min(), "smallest"), (sizes.max(), "largest")):
        there = flops[leading == size]
        if len(there):
            reason = f"the {what} size, {size:.3g}, leads up to {there[-1]:.3g} FLOP"
            named.append({"flops": float(there[0]), "reason": reason})
    return named
