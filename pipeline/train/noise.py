"""The gradient noise scale, from the gradients of a batch and of its two halves.

B_simple = tr(Sigma) / |G|^2, with G the true gradient and Sigma the covariance of one sequence's gradient, predicts the
critical batch size (McCandlish et al. 2018, docs/paper.md, section 7.7; Figure 10 of the paper). A mean over b
sequences has E |g_b|^2 = |G|^2 + tr(Sigma) / b, so two batch sizes b < B give both unknowns without bias:

    |G|^2      = (B |g_B|^2 - b |g_b|^2) / (B - b)
    tr(Sigma)  = (|g_b|^2 - |g_B|^2) / (1/b - 1/B)

One step's ratio is a poor estimate, since the denominator is nearly as noisy as it is large: numerator and denominator
are averaged over steps first, and the ratio of the means is the scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class NoiseScale:
    """Running sums of |G|^2 and tr(Sigma) since the last reset.

    Examples
    --------
    A batch of 4 sequences of 8 tokens, |G|^2 = 1 and tr(Sigma) = 6 per sequence: halves of the batch have 1 + 6/2, the
    whole has 1 + 6/4.

    >>> scale = NoiseScale()
    >>> scale.add((4.0, 2.5), batch_sequences=4)
    >>> scale.tokens(n_ctx=8)
    48.0
    """

    square: float = 0.0
    """Sum of the estimates of |G|^2."""
    trace: float = 0.0
    """Sum of the estimates of tr(Sigma), per sequence."""
    count: int = 0
    """Steps summed."""

    def add(self, noise: tuple[float, float], batch_sequences: int) -> None:
        """Add one step's squared gradient norms: the mean over the batch's two halves, and the whole batch's.

        Halves of an odd batch differ by a sequence; together they count as two of their harmonic mean size.
        """
        half, whole = noise
        first = batch_sequences // 2
        inverse_half = (1 / first + 1 / (batch_sequences - first)) / 2  # 1/b
        inverse_whole = 1 / batch_sequences
        self.trace += (half - whole) / (inverse_half - inverse_whole)
        self.square += (inverse_half * whole - inverse_whole * half) / (inverse_half - inverse_whole)
        self.count += 1

    def tokens(self, n_ctx: int) -> float:
        """Return B_simple in tokens; NaN when nothing was added or the mean of |G|^2 is not above 0."""
        return n_ctx * self.trace / self.square if self.count and self.square > 0 else math.nan
