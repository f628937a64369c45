"""Compute-efficient training: Eq 5.4 to 5.7 and Appendix B of the paper, as functions of fitted laws.

Symbols as in the paper: L loss (nats per token), N parameters, S steps, B batch (tokens), C compute (FLOP, 6 N B S);
S_min and C_min are what a batch far above, and far below, B_crit(L) would need. Appendix B rests on

    L(N, S) = (N_c / N)^alpha_N + (S_c / S)^alpha_S     (B.1)        B(L) = B_* / L^(1 / alpha_B)     (B.2)

`Laws` holds its constants. Arrays broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from pipeline.laws.fitting.fit import Fit

Array = NDArray[np.float64]


def minimum_steps(steps: ArrayLike, batch_tokens: ArrayLike, b_crit: ArrayLike) -> Array:
    """Return S_min = S / (1 + B_crit / B): steps that a batch far above the critical one needs (Eq 5.4).

    Examples
    --------
    >>> float(minimum_steps(1000, 2048, 2048))  # at the critical batch, half of the steps
    500.0
    """
    return np.asarray(steps, dtype=float) / (1 + np.asarray(b_crit, dtype=float) / np.asarray(batch_tokens))


def minimum_compute(flops: ArrayLike, batch_tokens: ArrayLike, b_crit: ArrayLike) -> Array:
    """Return C_min = C / (1 + B / B_crit): compute that a batch far below the critical one needs (Eq 5.5)."""
    return np.asarray(flops, dtype=float) / (1 + np.asarray(batch_tokens) / np.asarray(b_crit, dtype=float))


def stop_bound(loss_n_d: ArrayLike, loss_n: ArrayLike, S_c: ArrayLike, alpha_S: ArrayLike) -> Array:
    """Return the least step at which early stopping can come: S_c / (L(N, D) - L(N, inf))^(1 / alpha_S) (Eq 5.7).

    Infinite where the data set costs no loss.
    """
    gap = np.maximum(np.asarray(loss_n_d, dtype=float) - np.asarray(loss_n, dtype=float), 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(S_c, dtype=float) / gap ** (1 / np.asarray(alpha_S, dtype=float))


def excess_compute(ratio: ArrayLike, alpha_N: float, alpha_S: float) -> Array:
    """Return the compute of training N to the loss of an efficient N_eff, as a multiple of N_eff's (Eq B.16).

    Parameters
    ----------
    ratio
        N / N_eff, positive.

    Returns
    -------
    ndarray
        NaN where a model is too small to ever reach that loss.

    Examples
    --------
    0.6 to 2.2 times the best size cost a fifth more at most (Figure 12):

    >>> excess_compute([0.6, 1.0, 2.2], 0.076, 0.76).round(3).tolist()
    [1.164, 1.0, 1.203]
    """
    return np.asarray(ratio, dtype=float) * excess_steps(ratio, alpha_N, alpha_S)


def excess_steps(ratio: ArrayLike, alpha_N: float, alpha_S: float) -> Array:
    """Return the steps of training N to the loss of an efficient N_eff, as a multiple of N_eff's (Eq B.17).

    Examples
    --------
    >>> excess_steps([0.6, 2.2], 0.076, 0.76).round(3).tolist()
    [1.941, 0.547]
    """
    bracket = 1 + alpha_S / alpha_N * (1 - np.asarray(ratio, dtype=float) ** -alpha_N)
    return np.where(bracket > 0, np.abs(bracket), np.nan) ** (-1 / alpha_S)


@dataclass(frozen=True)
class Laws:
    """The constants of L(N, S) and B_crit(L), and Appendix B's consequences of them.

    Examples
    --------
    The paper's Table 3 and B_* give the efficient model of one PF-day:

    >>> paper = Laws(alpha_N=0.077, N_c=6.5e13, alpha_S=0.76, S_c=2.1e3, alpha_B=0.21, B_star=2.1e8)
    >>> round(paper.alpha_C, 4), float(f"{paper.efficient_size(8.64e19):.2g}")
    (0.0525, 580000000.0)
    """

    alpha_N: float
    N_c: float
    alpha_S: float
    S_c: float
    alpha_B: float
    B_star: float

    @classmethod
    def of(cls, l_n_s: Fit, b_crit: Fit) -> Laws:
        """Take the constants from two fits; raises UserError when one is not identified."""
        names = ("alpha_N", "N_c", "alpha_S", "S_c")
        return cls(
            **{name: l_n_s.value(name) for name in names},
            alpha_B=b_crit.value("alpha_B"),
            B_star=b_crit.value("B_star"),
        )

    @property
    def alpha_C(self) -> float:
        """Exponent of L(C_min): 1 / (1/alpha_S + 1/alpha_B + 1/alpha_N) (Eq 1.8, B.7)."""
        return 1 / (1 / self.alpha_S + 1 / self.alpha_B + 1 / self.alpha_N)

    @property
    def excess(self) -> float:
        """f = alpha_N / alpha_S: how far above its converged loss an efficient model stops (Eq B.5, B.11)."""
        return self.alpha_N / self.alpha_S

    @property
    def C_c(self) -> float:
        """Scale of L(C_min) in FLOP (Eq B.8)."""
        f = self.excess
        growth = (1 + f) ** (1 / self.alpha_S + 1 / self.alpha_N) * (1 / f) ** (1 / self.alpha_S)
        return 6 * self.N_c * self.B_star * self.S_c * growth

    def efficient_loss(self, flops: ArrayLike) -> Array:
        """L(C_min) = (C_c / C_min)^alpha_C (Eq B.6)."""
        return (self.C_c / np.asarray(flops, dtype=float)) ** self.alpha_C

    def efficient_size(self, flops: ArrayLike) -> Array:
        """N(C_min) (Eq B.9)."""
        scale = (np.asarray(flops, dtype=float) / self.C_c) ** (self.alpha_C / self.alpha_N)
        return self.N_c * scale * (1 + self.excess) ** (1 / self.alpha_N)

    def efficient_steps(self, flops: ArrayLike) -> Array:
        """S(C_min), as S_min (Eq B.10)."""
        scale = (np.asarray(flops, dtype=float) / self.C_c) ** (self.alpha_C / self.alpha_S)
        return self.C_c / (6 * self.N_c * self.B_star) * (1 + self.excess) ** (-1 / self.alpha_N) * scale

    def loss(self, n_params: ArrayLike, flops: ArrayLike) -> Array:
        """L(N, C_min), implicit in L (Eq B.3)."""
        n, c = np.broadcast_arrays(np.asarray(n_params, dtype=float), np.asarray(flops, dtype=float))
        return self._meet(n, lambda batch: 6 * batch * self.S_c * n / c)

    def loss_at_batch(
        self, n_params: ArrayLike, steps: ArrayLike, batch_tokens: ArrayLike, sharpness: float = 1.0
    ) -> Array:
        """Return the loss after S steps at batch B: Eq 5.6 with S_min of Eq 5.4 at that same loss.

        Parameters
        ----------
        n_params, steps, batch_tokens
            Positive; they broadcast.
        sharpness
            Power of B_crit / B in S = S_min (1 + B_crit / B); 1 is Eq 5.4.

        Examples
        --------
        >>> laws = Laws(alpha_N=0.08, N_c=1e11, alpha_S=0.6, S_c=300, alpha_B=0.21, B_star=1e6)
        >>> laws.loss_at_batch(98_304, [10.0, 1000.0], 2048).round(2).tolist()
        [10.75, 3.74]
        """
        n, s, b = np.broadcast_arrays(*(np.asarray(one, dtype=float) for one in (n_params, steps, batch_tokens)))
        return self._meet(n, lambda batch: self.S_c * (1 + (batch / b) ** sharpness) / s)

    def _meet(self, n: Array, ratio: Callable[[Array], Array]) -> Array:
        """Solve L = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S for L, by bisection in ln L.

        `ratio` gives S_c / S_min at a critical batch. More loss means a smaller critical batch, and so less on the
        right side: the two sides cross once.
        """
        floor = (self.N_c / n) ** self.alpha_N
        low, high = np.log(floor), np.log(floor) + 50.0
        for _ in range(60):  # to 5e-17 of ln L
            middle = (low + high) / 2
            batch = self.B_star / np.exp(middle / self.alpha_B)
            above = floor + ratio(batch) ** self.alpha_S > np.exp(middle)
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.exp((low + high) / 2)

    def compute(self, n_params: ArrayLike, loss: ArrayLike) -> Array:
        """C_min(N, L) (Eq B.15); NaN where N parameters never reach the loss."""
        n, target = np.asarray(n_params, dtype=float), np.asarray(loss, dtype=float)
        gap = target - (self.N_c / n) ** self.alpha_N
        gap = np.where(gap > 0, gap, np.nan)
        return 6 * self.B_star * self.S_c * n / target ** (1 / self.alpha_B) * gap ** (-1 / self.alpha_S)


def size_ratio(f: float, other: float, alpha_N: float) -> float:
    """N_f / N_f' of models that reach one loss, stopped at f and f' above their converged loss (Eq B.12)."""
    return ((1 + f) / (1 + other)) ** (1 / alpha_N)


def steps_ratio(f: float, other: float, alpha_S: float) -> float:
    """S_f / S_f' of the same two models (Eq B.13)."""
    return ((1 + 1 / f) / (1 + 1 / other)) ** (1 / alpha_S)


def compute_ratio(f: float, other: float, alpha_N: float, alpha_S: float) -> float:
    """C_f / C_f' of the same two models (Eq B.14).

    Examples
    --------
    Efficient training against training to 2 % above convergence: 65 % less compute.

    >>> round(compute_ratio(0.1, 0.02, 0.076, 0.76), 2)
    0.36
    """
    return size_ratio(f, other, alpha_N) * steps_ratio(f, other, alpha_S)
