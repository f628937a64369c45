"""The loss by place in the context: L(T) = a + (u - a) T^-c (Figure 20), c growing with N.

u, the loss of the first token, knows nothing of the context, and so nothing of the model. `a` follows from the mean
over the context. Until the mean has fallen to u, a model has not learned to use any context: then every place has the
mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.laws.algebra.efficiency import Array
from pipeline.plan.run import Run
from pipeline.power.size import REFERENCE


@dataclass(frozen=True)
class Context:
    """The constants of the loss by place.

    Parameters
    ----------
    n_ctx : int
        Context, in tokens, that the laws of the mean loss are for.
    first : float
        Loss of the first token, as a part of that of a uniform guess.
    exponent, growth : float
        c at the reference size, and what it gains in a decade of N (the paper: 0.47 to 0.62 over three decades).
    lstm_reach : int
        Tokens that an LSTM makes use of: its loss is flat from there on.
    lstm : float
        What an LSTM's loss at each place is above that of a Transformer of equal N, a part of it.
    short : float
        The same of a model with a shorter context, over one with the context `n_ctx`: it has less to learn.
    """

    n_ctx: int = 128
    first: float = 0.7
    exponent: float = 0.5
    growth: float = 0.05
    lstm_reach: int = 60
    lstm: float = 0.0
    short: float = -0.03

    def by_place(self, mean: Array, run: Run, n_params: float) -> Array:
        """Return the loss at each place of a run's context, of shape (*mean.shape, n_ctx).

        Parameters
        ----------
        mean : ndarray
            Mean loss over the context `n_ctx` of a standard model of `n_params`, nats per token.
        run : Run
        n_params : float

        Examples
        --------
        >>> run = Run(tokens="t", n_layer=2, d_model=64, n_vocab=256, n_ctx=4, n_steps=9, lr=0.01)
        >>> losses = Context(n_ctx=4).by_place(np.array([5.0, 3.0]), run, 1e5)
        >>> losses.round(2).tolist(), losses.mean(1).round(2).tolist()
        ([[5.0, 5.0, 5.0, 5.0], [3.88, 3.03, 2.66, 2.43]], [5.0, 3.0])
        """
        c = self.exponent + self.growth * math.log10(max(n_params, 1.0) / REFERENCE)
        first = self.first * math.log(run.n_vocab)
        average = (np.arange(1, self.n_ctx + 1) ** -c).mean()
        place = np.arange(1, run.n_ctx + 1)
        if run.family == "lstm":
            place = np.minimum(place, self.lstm_reach)
        mean = np.asarray(mean, dtype=float)[..., None]
        last = (mean - first * average) / (1 - average)
        losses = np.where(mean >= first, mean, last + (first - last) * place**-c)
        losses = losses * (1 + (self.lstm if run.family == "lstm" else 0.0))
        return losses * (1 + (self.short if run.n_ctx < self.n_ctx else 0.0))
