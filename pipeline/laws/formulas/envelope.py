"""Approach 1 of Hoffmann et al. 2022: at each compute the run of lowest loss, and the power laws through those.

The points are learning curves, several rows a run. Computes at which the smallest or the largest size leads say only
that the best size may lie beyond, so they are left out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...errors import UserError
from ..fitting.draws import normals
from ..fitting.estimate import Array, Objective
from ..fitting.run_noise import run_noise
from .frontier import Curves, between, computes, falling, too_few_fall, too_few_lead
from .optimum import Optima, Optimum, Replicates, parameters, through


class Envelope(Optimum):
    """Lines through the lower envelope of learning curves; the interval finds the envelope of drawn curves again."""

    name = "envelope"
    equation = "Hoffmann et al. 2022, section 3.1"
    size = "n_params"
    objective = "mse_log"
    definition = (
        "parabola in ln N through the lowest losses at each of 12 computes a decade; lines through the vertices by "
        "least squares in logarithms"
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
        curves, log_flops, columns = arrays(rows)
        at = computes(log_flops)
        sizes, point = curves.best(log_flops, columns["loss"], at)
        seen = point.leader >= 0
        left_out = ends(np.exp(at[seen]), sizes[point.leader[seen]], sizes)
        if few := too_few_lead(sizes, point):
            left_out.append({"flops": float(np.exp(at[seen][0])), "reason": few})
            nothing = np.empty(0)
            return Optima(nothing, nothing, nothing, nothing, [], left_out)
        inside = np.isfinite(point.log_size)
        read = curves.by_size(curves.read(log_flops, columns["n_tokens"], at))[1]
        tokens = between(np.log(sizes), read, point.log_size)
        values = (np.exp(one[inside]) for one in (at, point.log_size, tokens, point.log_loss))
        return Optima(*values, curves.lowest(log_flops, columns["loss"], at[inside]), left_out)

    def replicates(
        self, points: pd.DataFrame, optima: Optima, objective: Objective, bootstrap: str, n_boot: int, seed: int
    ) -> Replicates | str:
        """See `Optimum.replicates`: what runs are off a smooth surface is drawn again, and the envelope found again."""
        curves, log_flops, columns = arrays(falling(points))
        run_index = curves.run_index
        log_size = np.log(curves.sizes[run_index])
        noise = run_noise(log_size, log_flops - log_size, columns["loss"], run_index)
        if noise is None:
            return "too few sizes to tell the noise of runs from the trend: no interval"
        at = computes(log_flops)
        tokens = curves.by_size(curves.read(log_flops, columns["n_tokens"], at))[1]

        def found(log_loss: Array) -> Array:
            sizes, point = curves.best(log_flops, log_loss, at)
            if too_few_lead(sizes, point):
                return np.full((3, len(at)), np.nan)
            return np.stack([point.log_size, between(np.log(sizes), tokens, point.log_size), point.log_loss])

        middle = through(at, [one[None] for one in found(noise.smooth)])[0]
        if not np.isfinite(middle).all():
            return "the smooth surface through the curves has no envelope: no interval"
        values = [found(noise.drawn(-one)) for one in normals(curves.runs, n_boot, seed)]
        record = {"method": "wild", "degrees_of_freedom": noise.degrees}
        return Replicates(np.exp(at), tuple(np.moveaxis(np.stack(values), 1, 0)), record, middle)

    def _check_curves(self, points: pd.DataFrame) -> None:
        if (points["weight"] != 1).any():
            raise UserError(f"weights: {self.name} has none, since a lowest loss is not an average")
        by_run = points.groupby("run", sort=False)["n_params"]
        if by_run.size().max() < 2:
            raise UserError(f"column 'run': no run has two rows; {self.name} needs learning curves, several rows a run")
        if by_run.nunique().max() > 1:
            run = by_run.nunique().idxmax()
            raise UserError(f"column 'n_params': run {run!r} has {by_run.nunique()[run]} values; a run has one size")


def arrays(rows: pd.DataFrame) -> tuple[Curves, Array, dict[str, Array]]:
    """Return learning curves, ln C of their rows, and ln of the loss and of the tokens."""
    rows = rows.reset_index(drop=True)
    curves = Curves.of(rows, "flops")
    taken = rows.iloc[curves.rows]
    log = {name: np.log(taken[name].to_numpy(float)) for name in ("flops", "loss", "n_tokens")}
    return curves, log.pop("flops"), log


def ends(flops: Array, leading: Array, sizes: Array) -> list[dict[str, object]]:
    """Name the spans of compute where the smallest or the largest size leads."""
    named = []
    for size, what in ((sizes.min(), "smallest"), (sizes.max(), "largest")):
        there = flops[leading == size]
        if len(there):
            reason = f"the {what} size, {size:.3g}, leads up to {there[-1]:.3g} FLOP"
            named.append({"flops": float(there[0]), "reason": reason})
    return named
