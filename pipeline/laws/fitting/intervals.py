"""Intervals from draws: the one place where bootstrap draws, or samples drawn again, become the ends of an interval."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

MISSING = 0.05  # of the draws may have no value


def least_draws(level: float = 0.95) -> int:
    """Return how many draws an interval needs: with fewer, its ends would lie beyond the smallest and the largest.

    Examples
    --------
    >>> least_draws(0.95), least_draws(0.9), least_draws(0.99)
    (39, 19, 199)
    """
    return math.ceil(round(2 / (1 - level), 6)) - 1


def interval_ends(draws: ArrayLike, level: float = 0.95) -> NDArray[np.float64]:
    """Return the ends of the percentile interval over the first axis.

    The quantiles are those of Weibull, at rank p (n + 1): the next draw falls below it with probability p however few
    draws there are, and whatever their distribution is (exactly so at a whole rank). The usual rule of rank
    p (n - 1) makes intervals of few draws too narrow.

    A draw that is NaN has no value. Where more than one draw in twenty has none, there is no interval, since what it
    would have been may be anything, and an interval of 95 % has one in twenty to spare; fewer are left out. Infinities
    are values, larger or smaller than all others: an end among them is infinite, which says that it is open.

    Parameters
    ----------
    draws : array_like of shape (n, ...)
    level : float
        The part of the distribution that is inside.

    Returns
    -------
    ndarray of shape (2, ...)
        Low and high; both NaN where there is no interval.

    Examples
    --------
    >>> interval_ends(np.arange(1.0, 40))
    array([ 1., 39.])
    >>> interval_ends([*np.arange(1.0, 40), np.nan])
    array([ 1., 39.])
    >>> interval_ends([*np.arange(1.0, 40), np.nan, np.nan, np.nan])
    array([nan, nan])
    >>> interval_ends([*np.arange(1.0, 38), np.inf, np.inf])
    array([ 1., inf])
    """
    ordered = np.sort(np.asarray(draws, dtype=float), axis=0)  # NaN come last
    if not len(ordered):
        return np.full((2, *ordered.shape[1:]), np.nan)
    n = (~np.isnan(ordered)).sum(0)
    last, ends = np.maximum(n - 1, 0), []
    for part in ((1 - level) / 2, (1 + level) / 2):
        rank = np.clip(np.round(part * (n + 1) - 1, 9), 0, last)  # 0.025 * 40 is not quite 1
        below = np.floor(rank).astype(int)
        above = np.minimum(below + 1, last)
        a, b = (np.take_along_axis(ordered, place[None], axis=0)[0] for place in (below, above))
        with np.errstate(invalid="ignore"):
            between = np.where((rank == below) | np.isinf(a), a, a + (rank - below) * (b - a))
        ends.append(np.where(n >= (1 - MISSING) * len(ordered), between, np.nan))
    return np.array(ends)


def interval(draws: ArrayLike, level: float = 0.95) -> tuple[float | None, float | None]:
    """Return the ends of `interval_ends` of numbers; None where there is no interval or the end is open.

    Examples
    --------
    >>> interval([*np.arange(1.0, 38), np.inf, np.inf])
    (1.0, None)
    >>> interval([])
    (None, None)
    """
    low, high = (float(end) if np.isfinite(end) else None for end in interval_ends(draws, level))
    return low, high
