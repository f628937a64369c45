"""What the learning rate does to a loss: how high it is, how it ends, and by which schedule it got there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.laws.algebra.efficiency import Array
from pipeline.plan.run import Run
from pipeline.plan.steps import evaluation_steps
from pipeline.train.optim import rate_at_step

PATTERN = {"cosine": 0.0, "linear": 1.0, "cosine_cycles": -1.0, "step": 1.0, "inverse_sqrt": -1.0}
"""Schedule -> which way it differs, where schedules do; 0 for others."""
CELLS = 2000
"""Into so many parts a training is cut when its rates are added up."""


@lru_cache(maxsize=4096)
def rates(run: Run) -> tuple[Array, Array]:
    """Return the learning rate at each evaluation of a run, and its sum over the steps so far (read-only)."""
    steps = np.array(evaluation_steps(run))
    edges = np.unique(np.linspace(0, run.n_steps, CELLS + 1).round().astype(int))
    middles = (edges[:-1] + edges[1:] + 1) // 2
    summed = np.cumsum(np.diff(edges) * [rate_at_step(run, int(step)) for step in middles])
    rate = np.array([rate_at_step(run, int(step)) for step in steps])
    found = rate, np.interp(steps, edges, np.r_[0.0, summed])
    for values in found:
        values.flags.writeable = False
    return found


@dataclass(frozen=True)
class Schedule:
    """How much the learning rate matters.

    Parameters
    ----------
    annealing : float
        What a rate at its peak adds to the loss, as a part of it; less in proportion as the rate falls, and nothing
        once it is 0, whatever schedule brought it there. The law of learning curves is that of finished runs.
    rate : float
        Cost of a peak rate that is e times the best one, or a part of 1 / e.
    kinds : float
        How far the losses of schedules lie apart, by `PATTERN`.
    """

    annealing: float = 0.0
    rate: float = 0.02
    kinds: float = 0.0

    def factor(self, run: Run, rate_factor: float = 1.0) -> Array:
        """Return what the loss at each evaluation is multiplied by; `rate_factor` is the peak over the best one.

        Examples
        --------
        >>> run = Run(tokens="t", n_layer=2, d_model=64, n_vocab=256, n_steps=100, lr=0.01, evaluations=3)
        >>> Schedule(annealing=0.03).factor(run).round(4).tolist()
        [1.03, 1.03, 1.0293, 1.0]
        """
        steps = np.array(evaluation_steps(run))
        part = np.where(steps <= run.warmup_steps, 1.0, rates(run)[0] / (run.lr or 1.0))
        cost = self.rate * math.log(rate_factor) ** 2 + self.kinds * PATTERN.get(run.schedule, 0.0)
        return (1 + self.annealing * part) * (1 + cost)
