"""L(N, D) = E + A / N^alpha + B / D^beta: approach 3 of Hoffmann et al. 2022.

Their objective is the sum over points of Huber's function (delta = 1e-3) of the log residual, minimised from a grid
of 4,500 starts. The best split of a budget C = 6 N D is N = G (C/6)^a, D = (C/6)^b / G.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from ..fitting.constraint import ROUNDING
from ..fitting.estimate import Array, Objective
from ..fitting.findings import Settled
from ..fitting.forms import PowerSum
from ..fitting.likelihood import profile_intervals
from ..fitting.sum_law import SumLaw
from ..fitting.terms import Parameter, Term


class Chinchilla(SumLaw):
    """Loss of N parameters trained once on D tokens, with an irreducible part E."""

    name = "chinchilla"
    equation = "Hoffmann et al. 2022, Eq 2"
    inputs = ("n_params", "n_tokens")
    size = "n_params"
    objective = "huber"
    parameters = (
        Parameter("E", "nats per token", 1.69, log=True),
        Parameter("A", "nats per token", 406.4, log=True),
        Parameter("B", "nats per token", 410.7, log=True),
        Parameter("alpha", "", 0.34),
        Parameter("beta", "", 0.28),
    )
    terms = (
        Term("constant", "E"),
        Term("coefficient", "A", "n_params", "alpha", "N"),
        Term("coefficient", "B", "n_tokens", "beta", "D"),
    )

    def hoffmann_starts(self, model: PowerSum) -> Array:
        """Return the 4,500 starts of Hoffmann et al.: E, A, B, alpha and beta on a grid."""
        half = np.arange(5) * 0.5
        fives = np.arange(6) * 5.0
        e, a, b, alpha, beta = np.array(list(product(half - 1, fives, fives, half, half))).T
        a, alpha = model.axes[1].scaled(a, alpha)
        b, beta = model.axes[2].scaled(b, beta)
        return np.stack([e, a, alpha, b, beta], axis=1)

    def likelihood(
        self, at: Settled, y: Array, weights: Array, objective: Objective, level: float
    ) -> dict[str, list[float | None]]:
        """See `Law.likelihood`: of all parameters that are free, points taken as independent."""
        model, places = at.held.model, at.held.place(np.vstack([np.zeros(at.held.p), np.eye(at.held.p)]))
        with np.errstate(invalid="ignore"):
            origin, *moved = self.report(model, places)  # the report is linear in theta
            rows = (np.array(moved) - origin).T
        free = [k for k, row in enumerate(rows) if np.isfinite(row).all() and np.abs(row).max() > ROUNDING]
        ends = profile_intervals(at.held, y, at.z, weights, objective, rows[free], level)
        found = {}
        for k, pair in zip(free, ends, strict=True):
            natural = np.exp if self.parameters[k].log else float
            found[self.names[k]] = [None if end is None else float(natural(end + origin[k])) for end in pair]
        return found


def best_split(flops: Array, a: Array, b: Array, alpha: Array, beta: Array) -> tuple[Array, Array]:
    """Return the N and D that minimise A/N^alpha + B/D^beta at 6 N D = C (Hoffmann et al., Eq 4).

    Parameters
    ----------
    flops : array_like
        C in FLOP.
    a, b : array_like
        ln A and ln B.
    alpha, beta : array_like

    Examples
    --------
    >>> n, d = best_split(5.76e23, np.log(406.4), np.log(410.7), 0.34, 0.28)
    >>> f"{n:.2g} {d:.2g}"
    '3.2e+10 3e+12'
    """
    ln_g = (np.log(alpha / beta) + a - b) / (alpha + beta)
    budget = np.log(np.asarray(flops) / 6)
    ln_n = ln_g + budget * beta / (alpha + beta)
    return np.exp(ln_n), np.exp(budget - ln_n)
