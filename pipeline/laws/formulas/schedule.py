"""The learning rate of a run at every step, from the steps at which it is known.

Between two rows it is interpolated, before the first it is what it is there. The warmup ends where the rate is first as
high as it gets before it falls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ..fitting.estimate import Array

PIECES = 256  # a fall by the whole peak is cut into so many pieces at least, or into its steps where they are fewer
EXACT = 512  # a schedule of no more pieces is summed piece by piece
JUMP = 1 / 64  # of the peak: a fall from one row to the next that the loss shows at once
MOST = 256  # of a run's rows are looked at one by one; of more, so many at equal distances and, after each jump,
AFTER = 128  # so many at equal distances in the logarithm


@dataclass(frozen=True)
class Falls:
    """The falls of a learning rate, one after another: arrays of one length.

    end : the step at which each is complete.
    drop : by how much the rate falls, negative where it rises.
    rate : the rate there, after it.
    summed : the sum of the rate over all steps before it.
    """

    end: Array
    drop: Array
    rate: Array
    summed: Array


class Schedule:
    """A learning rate by step.

    Parameters
    ----------
    step : ndarray of shape (n,)
        Whole numbers from 0, each once, in any order.
    lr : ndarray of shape (n,)
        The rate of that step, 0 or more.
    run : str
        For errors.

    Attributes
    ----------
    warm : float
        The step at which the warmup ends; 0 without one.
    gap : float
        The longest stretch of steps after the warmup over which a changing rate is interpolated.

    Examples
    --------
    >>> linear = Schedule(np.array([0, 100, 1100]), np.array([0.0, 0.01, 0.0]))
    >>> linear.warm, linear.rate(np.array([50, 600])).tolist(), linear.summed(np.array([100])).round(6).tolist()
    (100.0, [0.005, 0.005], [0.505])
    """

    def __init__(self, step: Array, lr: Array, run: str = "the run") -> None:
        order = np.argsort(step, kind="stable")
        step, lr = np.asarray(step, dtype=float)[order], np.asarray(lr, dtype=float)[order]
        again = np.flatnonzero(np.diff(step) == 0)
        if len(again):
            raise UserError(f"run {run!r} has step {step[again[0]]:g} twice")
        if not lr.any():
            raise UserError(f"run {run!r}: its learning rate is 0 at every step")
        self.known_from = float(step[0])
        if step[0] > 0:
            step, lr = np.concatenate([[0.0], step]), np.concatenate([lr[:1], lr])
        self.step, self.lr = step, lr
        self.total = np.concatenate([[0.0], np.cumsum(_sum_over(np.diff(step), lr[:-1], lr[1:]))])
        until = int(np.argmax(np.append(np.diff(lr) < 0, True)))  # the last row before it falls
        self.warm = float(step[np.argmax(lr[: until + 1])])
        changing = (np.diff(lr) != 0) & (step[:-1] >= self.warm)
        self.gap = float(np.diff(step)[changing].max(initial=0.0))

    def rate(self, step: Array) -> Array:
        """Return the rate at steps."""
        return np.interp(step, self.step, self.lr)

    def summed(self, step: Array) -> Array:
        """Return the sum of the rate over steps 1 to each of these."""
        before = np.clip(np.searchsorted(self.step, step, side="right") - 1, 0, None)
        return self.total[before] + _sum_over(step - self.step[before], self.lr[before], self.rate(step))

    def nodes(self, at: Array) -> Array:
        """Return the steps among `at`, in order, between which what falls gain is as good as straight."""
        at = np.unique(at)
        if len(at) <= MOST:
            return at
        chosen = [np.linspace(0, len(at) - 1, MOST).round().astype(int)]
        size = np.abs(np.diff(self.lr)) >= JUMP * self.lr.max()
        for end in self.step[1:][size & (self.step[:-1] >= self.warm)]:
            near = end + np.append(-1.0, np.geomspace(1.0, self.step[-1], AFTER) - 1)
            chosen.append(np.searchsorted(at, near))
        chosen = np.unique(np.concatenate(chosen))
        return at[chosen[chosen < len(at)]]

    def falls(self, at: Array) -> Falls:
        """Return the falls after the warmup, none of which goes on beyond one of the steps `at`.

        Small ones are taken together where there are many, at their mean place.
        """
        peak = self.lr.max()
        edges = [self.step, at]
        pieces = np.minimum(np.diff(self.step), np.ceil(PIECES * np.abs(np.diff(self.lr)) / peak)).astype(int)
        for k in np.flatnonzero(pieces > 1):
            edges.append(np.round(np.linspace(self.step[k], self.step[k + 1], pieces[k] + 1)))
        edge = np.unique(np.concatenate(edges))
        edge = edge[(edge >= self.warm) & (edge <= self.step[-1])]
        rate, summed, n = self.rate(edge), self.summed(edge), np.diff(edge)
        rise = np.diff(rate)
        some = rise != 0
        with np.errstate(all="ignore"):
            mean = summed[:-1] + rate[:-1] * (n - 1) / 2 + rise * (n * n - 1) / (6 * n)  # of the sum before each step
            middle = rate[:-1] + rise * (n + 1) / (2 * n)
        end, rise, middle, mean = edge[1:][some], rise[some], middle[some], mean[some]
        if len(end) <= EXACT:
            return Falls(end, -rise, middle, mean)
        part = np.floor(np.cumsum(np.abs(rise)) / peak * PIECES)
        until = np.searchsorted(np.sort(at), end)
        first = np.flatnonzero((np.diff(until, prepend=-1) != 0) | (np.diff(part, prepend=-1) != 0))
        size = np.abs(rise)
        share = size / np.repeat(np.add.reduceat(size, first), np.diff(np.append(first, len(end))))
        drop, middle, mean = (np.add.reduceat(x, first) for x in (-rise, share * middle, share * mean))
        return Falls(end[np.append(first[1:], len(end)) - 1], drop, middle, mean)


def _sum_over(n: Array, first: Array, last: Array) -> Array:
    """Return the sum over n steps of a rate that goes from `first`, which is the step before them, straight to `last`.

    Examples
    --------
    >>> float(_sum_over(4, 0.0, 4.0))
    10.0
    """
    return np.asarray(n * first + (last - first) * (n + 1) / 2, dtype=float)
