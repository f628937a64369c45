"""A world in which the laws of learning curves hold exactly, and the sweep tables that a design's runs give there.

    L(N, S, B) = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S,  S_min = S / (1 + B_crit(L) / B),
    B_crit(L) = B_* / L^(1 / alpha_B)

(Eq 1.6, 5.4 and 1.4). Each run's curve is off by a number of its own, and by an error within the run that fades along
its evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.analysis.gather import curve_table
from pipeline.laws.algebra.efficiency import Laws
from pipeline.laws.fitting.estimate import Array
from pipeline.plan.counts import count
from pipeline.plan.run import Run
from pipeline.plan.steps import evaluation_steps
from pipeline.plan.sweeps import Member


@dataclass(frozen=True)
class World:
    """The constants of the laws, and how much a run is off.

    Parameters
    ----------
    laws : Laws
        N_c in parameters, S_c in steps, B_star in tokens.
    between : float
        Standard deviation of a run's own error, a part of the loss.
    within : float
        Standard deviation of the error that changes within a run, a part of the loss.
    memory : float
        Correlation of that error between evaluations that follow each other.
    """

    laws: Laws
    between: float = 0.004
    within: float = 0.001
    memory: float = 0.8

    def losses(self, run: Run, steps: Array) -> Array:
        """Return the loss of a run after given steps (positive) without any error, nats per token.

        Examples
        --------
        >>> laws = Laws(alpha_N=0.08, N_c=1e11, alpha_S=0.6, S_c=300, alpha_B=0.21, B_star=1e6)
        >>> run = Run(tokens="t", n_layer=2, d_model=64, n_vocab=256, n_steps=1000, lr=0.01)
        >>> World(laws).losses(run, np.array([10.0, 1000.0])).round(2).tolist()
        [10.75, 3.74]
        """
        laws = self.laws
        floor = (laws.N_c / count(run).n_params) ** laws.alpha_N
        # A larger loss means a smaller critical batch and so less on the right: the two sides cross once.
        low, high = np.full(len(steps), np.log(floor)), np.full(len(steps), np.log(floor) + 20.0)
        for _ in range(60):
            middle = (low + high) / 2
            slower = 1 + laws.B_star / np.exp(middle / laws.alpha_B) / run.batch_tokens
            above = floor + (laws.S_c * slower / steps) ** laws.alpha_S > np.exp(middle)
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.exp((low + high) / 2)

    def sweep(self, members: Sequence[Member], n_train_tokens: int, rng: np.random.Generator | None) -> pd.DataFrame:
        """Return the table of a sweep as `pipeline.gather` writes it; without a generator the runs have no error."""
        tables = []
        for member in members:
            run = member.run
            steps = np.array(evaluation_steps(run))
            loss = self.losses(run, np.maximum(steps, 0.5))
            if rng is not None:
                loss = loss * np.exp(self._errors(len(steps), rng))
            curve = pd.DataFrame({"step": steps, "n_tokens": steps * run.batch_tokens, "loss": loss})
            table = curve_table(curve, run, "finished", n_train_tokens)
            tables.append(table.assign(label=member.label, fitted=member.fitted))
        return pd.concat(tables, ignore_index=True)

    def _errors(self, n: int, rng: np.random.Generator) -> Array:
        errors = rng.normal(size=n)
        for k in range(1, n):
            errors[k] = self.memory * errors[k - 1] + np.sqrt(1 - self.memory**2) * errors[k]
        return self.between * rng.normal() + self.within * errors
