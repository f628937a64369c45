"""The loss on few data: Eq 1.5 at its least, on the way there as Eq 1.6, and rising after it.

While a run of N parameters learns from D tokens again and again, its test loss is

    L = L(N, inf) + x + g,    x = (S_c / S_min)^alpha_S,    g = a / (a + r) dL (S_min / S_stop)^r

with a = alpha_S, dL = L(N, D) - L(N, inf) of Eq 1.5, and S_stop = ((a + r) / r)^(1/a) S_c / dL^(1/a). Then L is least
at S_stop, where it is L(N, D), and S_stop lies above the bound of Eq 5.7 by its first factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.laws.algebra.efficiency import Array, Laws, stop_bound
from pipeline.plan.run import Run


@dataclass(frozen=True)
class Overfitting:
    """The constants of Eq 1.5 that are not in `Laws`, and how the loss rises.

    Parameters
    ----------
    alpha_D : float
    D_c : float
        Tokens; 0 is a world in which few data do no harm.
    rise : float
        Power r of the steps with which the gap between test and training text grows.
    pace : float
        Steps on few data count as so many.
    """

    alpha_D: float = 0.1
    D_c: float = 0.0
    rise: float = 1.0
    pace: float = 1.0

    def limits(self, run: Run) -> bool:
        """Return whether a run sees a token of its subset twice: what is fresh is not overfitted to."""
        return run.n_unique_tokens is not None and run.n_steps * run.batch_tokens > run.n_unique_tokens

    def early_stopped(self, converged: float, n_tokens: float) -> float:
        """Return L(N, D) of Eq 1.5 from L(N, inf).

        Examples
        --------
        >>> few = Overfitting(alpha_D=0.1, D_c=1e10)
        >>> round(few.early_stopped(3.0, 1e6), 2), few.early_stopped(3.0, float("inf"))
        (3.05, 3.0)
        """
        return (converged ** (1 / self.alpha_D) + self.D_c / n_tokens) ** self.alpha_D

    def losses(self, run: Run, converged: float, s_min: Array, laws: Laws) -> tuple[Array, Array]:
        """Return test loss and training loss of a run that its data limit, at given S_min."""
        above = self.early_stopped(converged, run.n_unique_tokens) - converged
        a, r = laws.alpha_S, self.rise
        s_stop = ((a + r) / r) ** (1 / a) * stop_bound(above, 0.0, laws.S_c, a)
        steps = s_min * self.pace
        seen = converged + (laws.S_c / steps) ** a
        gap = a / (a + r) * above * (steps / s_stop) ** r
        return seen + gap, np.maximum(seen - gap, 0.05 * seen)
