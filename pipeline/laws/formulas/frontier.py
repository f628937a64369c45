"""The compute frontier: which model reaches the lowest loss at each compute, and the loss, size and steps there.

For a given C every model is read at the step where its training has cost C, S = C / (6 N B), interpolated on its
learning curve in logarithms (section 3.3 of the paper). The lowest of these losses over all models is the frontier;
its trends are N_opt(C), S_opt(C) and L(C).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.laws.fitting.estimate import Array

PER_DECADE = 12
"""Points of the frontier in a decade of compute."""
LEAST = 3
"""Sizes that must take the lead in turn, so that the ends can be told from the middle."""
FALL = 1e-6
"""A learning curve whose loss falls by no more than this part of it is flat: it may be single precision's rounding."""


def frontier(table: pd.DataFrame, compute: str = "flops", per_decade: int = PER_DECADE) -> pd.DataFrame:
    """Return points of the lower envelope of learning curves, evenly spaced in the logarithm of compute.

    The frontier begins where the smallest model is no longer the best (before that, smaller ones than were trained
    would be) and ends where the largest model takes over.

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
        Columns flops (the compute), loss, n_params, steps, n_tokens and run: the model that is best there.

    Raises
    ------
    UserError
        When no learning curve falls, when fewer than three sizes take the lead in turn, so that the ends can't be told
        from the middle, or only one does so between the smallest and the largest: its size is no trend.

    Examples
    --------
    Loss N^-0.1 + (C / 6 N)^-0.3, so that each compute has its best size:

    >>> flops = np.geomspace(1e9, 1e15, 60)
    >>> curves = [
    ...     pd.DataFrame({"run": str(n), "n_params": n, "step": flops / n, "n_tokens": flops / n, "flops": flops,
    ...                   "loss": n**-0.1 + (flops / 6 / n) ** -0.3})
    ...     for n in np.geomspace(1e3, 1e7, 17)
    ... ]
    >>> points = frontier(pd.concat(curves))
    >>> slope, _ = np.polyfit(np.log(points.flops), np.log(points.n_params), 1)
    >>> float(round(slope, 2))  # 0.3 / (0.1 + 0.3)
    0.75
    """
    rows = falling(table, compute)
    if few := too_few_fall(rows, table):
        raise UserError(f"frontier: {few}")
    names, grid, (losses, steps, n_tokens), sizes = readings(rows, ("loss", "step", "n_tokens"), compute, per_decade)
    best, inside = leaders(losses, sizes)
    if few := too_few_lead(losses, sizes, best, inside):
        raise UserError(f"frontier: {few}")
    at = best[inside], np.flatnonzero(inside)
    return pd.DataFrame(
        {
            "flops": grid[inside],
            "loss": losses[at],
            "n_params": sizes[best[inside]],
            "steps": steps[at],
            "n_tokens": n_tokens[at],
            "run": np.array(names)[best[inside]],
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


def too_few_lead(losses: Array, sizes: Array, best: Array, inside: Array) -> str | None:
    """Say how few sizes take the lead, at all or between the ends, or return None; see `leaders`."""
    leading = np.unique(sizes[best[np.isfinite(losses).any(axis=0)]])
    if not inside.any() or len(leading) < LEAST:
        return f"{len(leading)} sizes take the lead in turn; at least {LEAST} are needed"
    return too_few_between(sizes[best[inside]])


def readings(
    table: pd.DataFrame, columns: Sequence[str], compute: str = "flops", per_decade: int = PER_DECADE
) -> tuple[list[str], Array, list[Array], Array]:
    """Read every learning curve at computes evenly spaced in the logarithm; see `frontier` for table and compute.

    Returns
    -------
    names : list of str
        The runs.
    grid : ndarray of shape (n_computes,)
        In FLOP.
    values : list of ndarray of shape (n_runs, n_computes)
        Each of `columns`; NaN outside what a run was trained for.
    sizes : ndarray of shape (n_runs,)
        n_params of each run.
    """
    rows = table[table[compute] > 0]
    curves = {run: curve.sort_values(compute) for run, curve in rows.groupby("run", sort=True)}
    if not curves:
        raise UserError("frontier: no learning curve is given")
    low, high = np.log(rows[compute].min()), np.log(rows[compute].max())
    grid = np.linspace(low, high, max(2, round((high - low) / np.log(10) * per_decade) + 1))
    values = [np.stack([_read(curve, compute, column, grid) for curve in curves.values()]) for column in columns]
    sizes = np.array([curve["n_params"].iloc[0] for curve in curves.values()], dtype=float)
    return list(curves), np.exp(grid), values, sizes


def leaders(losses: Array, sizes: Array) -> tuple[Array, Array]:
    """Return which run has the lowest loss at each compute, and where that tells the best size.

    It does not where the smallest or the largest size leads, since one beyond might be better, nor where no run is.

    Parameters
    ----------
    losses : ndarray of shape (n_runs, n_computes)
        NaN where a run has none.
    sizes : ndarray of shape (n_runs,)

    Examples
    --------
    >>> leaders(np.array([[1.0, 3, 3], [2, 2, 2], [3, 3, 1]]), np.array([1.0, 2, 3]))
    (array([0, 1, 2]), array([False,  True, False]))
    """
    best = np.argmin(np.where(np.isnan(losses), np.inf, losses), axis=0)
    inside = (sizes[best] > sizes.min()) & (sizes[best] < sizes.max()) & np.isfinite(losses).any(axis=0)
    return best, inside


def too_few_between(leading: Array) -> str | None:
    """Say which one size leads between the smallest and the largest, when no second does; else return None."""
    between = np.unique(leading)
    if len(between) > 1:
        return None
    return f"{between[0]:.3g} alone leads between the smallest and the largest size; at least 2 sizes must"


def _read(curve: pd.DataFrame, compute: str, column: str, places: Array) -> Array:
    """Interpolate a column of one curve at ln(compute) = places: in logarithms, NaN outside what was trained."""
    known = np.log(curve[compute].to_numpy(dtype=float))
    with np.errstate(divide="ignore"):
        values = np.log(curve[column].to_numpy(dtype=float))
    return np.exp(np.interp(places, known, values, left=np.nan, right=np.nan))
