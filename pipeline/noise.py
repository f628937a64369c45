"""The gradient noise scale, from the gradients of a batch and of its two halves.

B_simple = tr(Sigma) / |G|^2, with G the true gradient and Sigma the covariance of one sequence's gradient, predicts the
critical batch size (McCandlish et al. 2018, PAPER 6.7; Figure 10 of the paper). A mean over b sequences has
E |g_b|^2 = |G|^2 + tr(Sigma) / b, so two batch sizes b < B give both unknowns without bias:

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
    """Running sums of squared gradient norms since the last reset.

    Examples
    --------
    A batch of 4 sequences of 8 tokens, |G|^2 = 1 and tr(Sigma) = 6 per sequence: halves have 1 + 6/2, the batch 1 + 6/4.

    >>> scale = NoiseScale()
    >>> scale.add((4.0, 2.5))
    >>> scale.tokens(batch_sequences=4, n_ctx=8)
    48.0
    """

    small: float = 0.0
    """Sum of the mean squared norm of the two halves' gradients."""
    large: float = 0.0
    """Sum of the squared norm of the whole batch's gradient."""
    count: int = 0
    """Steps summed."""

    def add(self, noise: tuple[float, float]) -> None:
        """Add one step's (mean over the halves, whole batch) of squared gradient norms."""
        self.small += noise[0]
        self.large += noise[1]
        self.count += 1

    def tokens(self, batch_sequences: int, n_ctx: int) -> float:
        """Return B_simple in tokens; NaN when nothing was added or the estimate of |G|^2 is not above 0."""
        if self.count == 0 or batch_sequences < 2:
            return math.nan
        first = batch_sequences // 2
        inverse_small = (1 / first + 1 / (batch_sequences - first)) / 2  # 1/b; the halves may differ by one sequence
        inverse_large = 1 / batch_sequences
        small, large = self.small / self.count, self.large / self.count
        trace = (small - large) / (inverse_small - inverse_large)
        square = (inverse_small * large - inverse_large * small) / (inverse_small - inverse_large)
        return n_ctx * trace / square if square > 0 else math.nan
