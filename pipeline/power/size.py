"""What counts as the size of a model: the N that the law of the converged loss is read at."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.laws.algebra.efficiency import Laws
from pipeline.plan.counts import count
from pipeline.plan.run import Run

REFERENCE = 1e5
"""N about which forms and trends in N are anchored: a change of one moves no loss there."""


@dataclass(frozen=True)
class Size:
    """The equivalent N of a standard Transformer of two layers and more.

    Parameters
    ----------
    embeddings : float
        0: the loss follows N alone, as the paper finds; 1: all parameters, embeddings with them.
    reuse : float
        A recurrent model whose N weights are applied r times is as good as a standard one of N r^reuse: above 0 it is
        better at equal N, below 1 worse at equal compute.
    logarithm : float
        0: the converged loss is a power law of N; 1: a logarithm of it that touches that power law at `REFERENCE`.
    no_layers, widening : float
        A model without layers knows the last token alone: its loss is the part `no_layers` of that of a uniform guess
        at width 64, and falls with the width to the power -`widening`.
    """

    embeddings: float = 0.0
    reuse: float = 0.3
    logarithm: float = 0.0
    no_layers: float = 0.6
    widening: float = 0.04

    def equivalent(self, run: Run, laws: Laws) -> float:
        """Return the N at which (N_c / N)^alpha_N is the run's loss at convergence, before its shape counts.

        Examples
        --------
        >>> laws = Laws(alpha_N=0.08, N_c=1e11, alpha_S=0.6, S_c=300, alpha_B=0.21, B_star=1e6)
        >>> run = Run(tokens="t", family="recurrent", n_layer=1, d_model=64, n_vocab=256, n_reuse=4, n_steps=9, lr=0.01)
        >>> round(Size(reuse=0.5).equivalent(run, laws) / count(run).n_params, 6)
        2.0
        """
        counts = count(run)
        if not counts.n_params:
            converged = self.no_layers * math.log(run.n_vocab) * (run.d_model / 64) ** -self.widening
            return laws.N_c * converged ** (-1 / laws.alpha_N)
        n = counts.n_params * (counts.n_params_total / counts.n_params) ** self.embeddings * run.n_reuse**self.reuse
        if not self.logarithm:
            return n
        # Box and Cox's family between ln L and L in ln N; 1e-3 where the logarithm has fallen to nothing.
        part = max(1 - self.logarithm * laws.alpha_N * math.log(n / REFERENCE), 1e-3)
        return REFERENCE * part ** (-1 / (self.logarithm * laws.alpha_N))
