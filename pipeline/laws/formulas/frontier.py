"""The compute frontier: which size reaches the lowest loss at each compute, and the loss, size and steps there.

For a given C every model is read at the step where its training has cost C, S = C / (6 N B), interpolated on its
learning curve in logarithms (section 3.3 of the paper). The lowest of these losses over all models is the frontier;
its trends are N_opt(C), S_opt(C) and L(C).

Sizes are few, so the best of them goes up in stairs, and a trend through stairs bends towards where they begin and end.
So the best size is the vertex of a parabola in ln N through the losses near the lowest (as in approach 2 of Hoffmann
et al. 2022), and only at computes that the next smaller and the next larger size were trained for as well: a size that
leads because smaller ones had ended does not tell the best one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...errors import UserError
from ..fitting.estimate import Array

PER_DECADE = 12
"""Points of the frontier in a decade of compute."""
LEAST = 3
"""Sizes whose learning curves must fall: one between two others is the least that tells a best size."""
NEAR = 4.0
"""The parabola goes through the sizes within this factor of the best one, and its two neighbours at least.

Losses on both sides of the best size are no parabola: a wider one bends the exponent (by 0.01 at a factor of 8), a
narrower one follows the noise of single runs."""
FALL = 1e-6
"""A learning curve whose loss falls by no more than this part of it is flat: it may be single precision's rounding."""


class Point(NamedTuple):
    """Best sizes, arrays of shape (..., n_computes); NaN where the curves don't tell one."""

    log_size: Array
    log_loss: Array
    leader: Array
    """Index of the size with the lowest reading, -1 where there is none."""


@dataclass(frozen=True)
class Curves:
    """Learning curves as arrays: rows in the order of runs, and of compute within a run.

    Attributes
    ----------
    runs : list of str
    sizes : ndarray of shape (n_runs,)
        n_params of each.
    ends : ndarray of shape (n_runs + 1,)
        Where the rows of each run begin; the last entry is the number of rows.
    rows : ndarray of shape (n_rows,)
        Index of each row in the table that the curves were taken from.
    """

    runs: list[str]
    sizes: Array
    ends: Array
    rows: Array

    @classmethod
    def of(cls, table: pd.DataFrame, compute: str) -> Curves:
        """Take the rows with a positive compute and a loss."""
        usable = ((table[compute] > 0) & table["loss"].notna()).to_numpy()
        places = np.flatnonzero(usable)
        names = table["run"].to_numpy()[places]
        order = np.lexsort((table[compute].to_numpy(float)[places], names.astype(str)))
        places, names = places[order], names[order]
        first = np.flatnonzero(np.r_[True, names[1:] != names[:-1]]) if len(names) else np.empty(0, int)
        sizes = table["n_params"].to_numpy(float)[places[first]]
        return cls([str(name) for name in names[first]], sizes, np.r_[first, len(places)].astype(int), places)

    def read(self, log_compute: Array, values: Array, at: Array) -> Array:
        """Interpolate values of the rows at ln(compute) = at: (n_runs, n_computes), NaN outside what was trained.

        log_compute and values are (n_rows,), in the order of `rows`.
        """
        spans = zip(self.ends[:-1], self.ends[1:], strict=True)
        return np.stack([np.interp(at, log_compute[a:b], values[a:b], left=np.nan, right=np.nan) for a, b in spans])

    @property
    def run_index(self) -> Array:
        """Which run each row belongs to, from 0."""
        return np.repeat(np.arange(len(self.runs)), np.diff(self.ends))

    def best(self, log_compute: Array, log_loss: Array, at: Array) -> tuple[Array, Point]:
        """Return the distinct sizes, and which of them is best at each compute; see `read` and `best_sizes`."""
        sizes, losses = self.by_size(self.read(log_compute, log_loss, at))
        return sizes, best_sizes(np.log(sizes), losses)

    def lowest(self, log_compute: Array, log_loss: Array, at: Array) -> list[str]:
        """Return the run with the lowest loss at each compute."""
        losses = self.read(log_compute, log_loss, at)
        return [self.runs[place] for place in np.where(np.isnan(losses), np.inf, losses).argmin(axis=0)]

    def by_size(self, readings: Array) -> tuple[Array, Array]:
        """Return the distinct sizes, and the mean reading of the runs of each: (n_sizes, n_computes)."""
        distinct, place = np.unique(self.sizes, return_inverse=True)
        known = np.isfinite(readings)
        total, count = (np.zeros((len(distinct), readings.shape[1])) for _ in range(2))
        np.add.at(total, place, np.where(known, readings, 0.0))
        np.add.at(count, place, known)
        with np.errstate(invalid="ignore"):
            return distinct, np.where(count > 0, total / count, np.nan)


def computes(log_compute: Array, per_decade: int = PER_DECADE) -> Array:
    """Return ln C of computes that are evenly spaced in the logarithm, over all that was trained for."""
    low, high = log_compute.min(), log_compute.max()
    return np.linspace(low, high, max(2, round((high - low) / np.log(10) * per_decade) + 1))


def best_sizes(log_sizes: Array, log_losses: Array) -> Point:
    """Return the best size and its loss at each compute, from the readings of every size there.

    Parameters
    ----------
    log_sizes : ndarray of shape (n_sizes,)
        ln N, increasing.
    log_losses : ndarray of shape (..., n_sizes, n_computes)
        ln L; NaN where a size was not trained for.

    Examples
    --------
    >>> x = np.log([1.0, 2.0, 4.0, 8.0])
    >>> found = best_sizes(x, (0.1 * (x - np.log(3.0)) ** 2)[:, None])
    >>> np.exp(found.log_size).round(6), found.log_loss.round(6) + 0.0, found.leader
    (array([3.]), array([0.]), array([2]))
    """
    known = np.isfinite(log_losses)
    leader = np.where(known, log_losses, np.inf).argmin(axis=-2)
    n_sizes = len(log_sizes)
    inner = np.clip(leader, 1, n_sizes - 2) if n_sizes >= LEAST else leader
    told = (leader == inner) & (n_sizes >= LEAST) & known.any(axis=-2)
    for step in (-1, 1) if n_sizes >= LEAST else ():
        told &= np.take_along_axis(known, (inner + step)[..., None, :], axis=-2)[..., 0, :]
    place = np.arange(n_sizes)[:, None]
    away = log_sizes[:, None] - log_sizes[inner][..., None, :]
    near = (np.abs(away) <= np.log(NEAR)) | (np.abs(place - inner[..., None, :]) <= 1)
    weights = (near & known).astype(float)
    values = np.where(known, log_losses, 0.0)
    powers = [(weights * away**k).sum(-2) for k in range(5)]
    sides = [(weights * values * away**k).sum(-2) for k in range(3)]
    gram = np.stack([np.stack([powers[i + k] for k in range(3)], -1) for i in range(3)], -2)
    gram = np.where(told[..., None, None], gram, np.eye(3))
    a, b, c = np.moveaxis(np.linalg.solve(gram, np.stack(sides, -1)[..., None])[..., 0], -1, 0)
    lowest, highest = (log_sizes[inner + k] - log_sizes[inner] if n_sizes >= LEAST else a for k in (-1, 1))
    with np.errstate(all="ignore"):
        vertex = np.where(c > 0, np.clip(-b / (2 * c), lowest, highest), 0.0)
    nothing = np.where(told, 0.0, np.nan)
    log_size = log_sizes[inner] + vertex + nothing
    return Point(log_size, a + b * vertex + c * vertex**2 + nothing, np.where(known.any(axis=-2), leader, -1))


def frontier(table: pd.DataFrame, compute: str = "flops", per_decade: int = PER_DECADE) -> pd.DataFrame:
    """Return points of the compute frontier, evenly spaced in the logarithm of compute.

    The frontier begins where the smallest model is no longer the best (before that, smaller ones than were trained
    would be) and ends where the largest takes over, or where a neighbour of the best size was not trained any more.

    Parameters
    ----------
    table : DataFrame
        One row a (run, evaluation): run, n_params, step, loss (nats per token), and the column named by `compute`, in
        FLOP, positive and increasing within a run but for the row before training.
    compute : str
        Column to take as compute: flops (naive, fixed batch) or one that was adjusted to a batch far below the
        critical one (Eq 5.5).
    per_decade : int
        Points in a decade of compute.

    Returns
    -------
    DataFrame
        Columns flops (the compute), loss, n_params (of the vertex), steps and n_tokens (interpolated between sizes),
        and run: the one that is best there of those that were trained.

    Raises
    ------
    UserError
        When fewer than three sizes have a learning curve that falls, or fewer than two are the best of three
        neighbours at some compute: one size is no trend.

    Examples
    --------
    Loss N^-0.1 + (C / 6 N)^-0.3, so that each compute has its best size:

    >>> flops = np.geomspace(1e9, 1e15, 60)
    >>> curves = [
    ...     pd.DataFrame({"run": str(n), "n_params": n, "step": flops / n, "n_tokens": flops / n, "flops": flops,
    ...                   "loss": n**-0.1 + (flops / 6 / n) ** -0.3})
    ...     for n in np.geomspace(1e3, 1e7, 17)
    ... ]
    >>> points = frontier(pd.concat(curves, ignore_index=True))
    >>> slope, _ = np.polyfit(np.log(points.flops), np.log(points.n_params), 1)
    >>> float(round(slope, 2))  # 0.3 / (0.1 + 0.3)
    0.75
    """
    rows = falling(table, compute).reset_index(drop=True)
    if few := too_few_fall(rows, table):
        raise UserError(f"frontier: {few}")
    curves = Curves.of(rows, compute)
    if not curves.runs:
        raise UserError("frontier: no learning curve is given")
    log_compute = np.log(rows[compute].to_numpy(float)[curves.rows])
    at = computes(log_compute, per_decade)
    columns = {name: _logarithm(rows[name], curves) for name in ("loss", "step", "n_tokens")}
    sizes, point = curves.best(log_compute, columns["loss"], at)
    if few := too_few_lead(sizes, point):
        raise UserError(f"frontier: {few}")
    inside = np.isfinite(point.log_size)
    at, best = at[inside], point.log_size[inside]
    steps, tokens = (curves.by_size(curves.read(log_compute, columns[name], at))[1] for name in ("step", "n_tokens"))
    return pd.DataFrame(
        {
            "flops": np.exp(at),
            "loss": np.exp(point.log_loss[inside]),
            "n_params": np.exp(best),
            "steps": np.exp(between(np.log(sizes), steps, best)),
            "n_tokens": np.exp(between(np.log(sizes), tokens, best)),
            "run": curves.lowest(log_compute, columns["loss"], at),
        }
    )


def falling(table: pd.DataFrame, compute: str = "flops") -> pd.DataFrame:
    """Return the rows of the runs whose loss falls in training by more than rounding.

    A loss that stays as it was says nothing of the compute that was spent. See `frontier` for table and compute.
    """
    rows = table[(table[compute] > 0) & table["loss"].notna()].sort_values(compute, kind="stable")
    losses = rows.groupby("run")["loss"]
    fall = losses.first() - losses.min()
    return table[table["run"].isin(fall.index[fall > FALL * losses.first()])]


def too_few_fall(rows: pd.DataFrame, table: pd.DataFrame) -> str | None:
    """Say how few sizes have a learning curve that falls, where `falling` left rows of a table, or return None."""
    sizes = rows["n_params"].nunique()
    if not sizes and len(table):
        return "no learning curve falls"
    if sizes < min(LEAST, table["n_params"].nunique()):
        return f"the learning curves of {sizes} {'size' if sizes == 1 else 'sizes'} fall; at least {LEAST} are needed"
    return None


def too_few_lead(sizes: Array, point: Point) -> str | None:
    """Say how few best sizes lie between two others that were trained as far, or return None."""
    best = np.unique(sizes[point.leader[np.isfinite(point.log_size)]])
    if len(best) > 1:
        return None
    if not len(best):
        return (
            "at no compute does the best size lie between two others that were trained as far; 2 best sizes are needed"
        )
    return f"{best[0]:.3g} alone is a best size between two others that were trained as far; 2 best sizes are needed"


def _logarithm(column: pd.Series, curves: Curves) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(column.to_numpy(float)[curves.rows])


def between(log_sizes: Array, values: Array, at: Array) -> Array:
    """Interpolate in ln N what was read of each size at each compute, past sizes that were not trained for it.

    values is (n_sizes, n_computes), `at` is ln N at each compute; NaN stays NaN.
    """
    known = np.isfinite(values)
    pairs = enumerate(at)
    return np.array(
        [np.nan if np.isnan(n) else np.interp(n, log_sizes[known[:, j]], values[known[:, j], j]) for j, n in pairs]
    )
