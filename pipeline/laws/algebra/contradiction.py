"""Where L(C_min) would fall below L(D(C_min)): the contradiction of section 6.3 and Figure 15.

Efficient training sees D(C_min) = 2 C_min / (6 N(C_min)) tokens (Eq 6.7), ever fewer for each parameter, so that at
some compute the loss that compute buys is lower than the loss that its data allow:

    (C_c / C)^alpha_C = (D_c / D)^alpha_D,    D = k (C / PF-day)^p
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ...errors import UserError
from ...units import PF_DAY
from ..fitting.fit import Fit, paired_draws
from ..fitting.intervals import interval

LARGEST = 700.0  # ln C of a number that a float still holds


@dataclass(frozen=True)
class Crossing:
    """The point where both losses are equal (Eq 6.8), with a 95 % interval of its compute (None without one)."""

    flops: float
    loss: float
    n_tokens: float
    n_params: float
    low: float | None = None
    high: float | None = None


def log_crossing(
    ln_C_c: ArrayLike, alpha_C: ArrayLike, ln_k: ArrayLike, p: ArrayLike, ln_D_c: ArrayLike, alpha_D: ArrayLike
) -> np.ndarray:
    """Return ln C of the crossing, C in FLOP; infinity where L(C_min) falls no faster than L(D(C_min)).

    Parameters
    ----------
    ln_C_c, alpha_C
        Of L(C_min), C_c in FLOP.
    ln_k, p
        Of D(C_min), k in tokens at one PF-day.
    ln_D_c, alpha_D
        Of L(D), D_c in tokens.

    Examples
    --------
    The paper's Tables 5 and 6 give about 1e4 PF-days:

    >>> ln = log_crossing(np.log(3.1e8 * PF_DAY), 0.050, np.log(2e10), 0.27, np.log(5.4e13), 0.095)
    >>> float((np.exp(ln) / PF_DAY).round(-3))
    11000.0
    """
    ln_C_c, alpha_C, ln_k, p, ln_D_c, alpha_D = (
        np.asarray(value, dtype=float) for value in (ln_C_c, alpha_C, ln_k, p, ln_D_c, alpha_D)
    )
    gap = alpha_C - alpha_D * p
    ahead = alpha_C * ln_C_c - alpha_D * (ln_D_c - ln_k + p * np.log(PF_DAY))
    return np.where(gap <= 0, np.inf, ahead / np.where(gap <= 0, 1.0, gap))


def crossing(L_C_min: Fit, D_opt: Fit, L_D: Fit) -> Crossing | None:
    """Return where the fitted laws cross; None if they don't at any larger compute.

    The interval pairs the bootstrap draws of the three laws, and is open (None) where too many of them never cross.

    Raises
    ------
    UserError
        When one of the laws is not identified.
    """
    fits = (L_C_min, D_opt, L_D)
    for fit in fits:
        if not fit.identified or fit.vector is None:
            raise UserError(f"{fit.law} is not identified: {fit.reason}", exit_code=3)
    ln = float(log_crossing(*(number for fit in fits for number in fit.vector)))
    if not np.isfinite(ln):
        return None
    flops = float(np.exp(ln))
    n_tokens = float(D_opt.predict(flops=flops))
    ends = interval(log_crossing(*np.concatenate([draws.T for draws in paired_draws(*fits)])))
    low, high = (None if end is None or end > LARGEST else float(np.exp(end)) for end in ends)
    return Crossing(flops, float(L_C_min.predict(flops=flops)), n_tokens, flops / (3 * n_tokens), low, high)
