"""The compute frontier: which model reaches the lowest loss at each compute, and the loss, size and steps there.

For a given C every model is read at the step where its training has cost C, S = C / (6 N B), interpolated on its
learning curve in logarithms (section 3.3 of the paper). The lowest of these losses over all models is the frontier;
its trends are N_opt(C), S_opt(C) and L(C).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.errors import UserError

PER_DECADE = 12
"""Points of the frontier in a decade of compute."""


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
        When fewer than three sizes take the lead in turn, so that the ends can't be told from the middle.

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
    rows = table[table[compute] > 0]
    curves = {run: curve.sort_values(compute) for run, curve in rows.groupby("run", sort=True)}
    if not curves:
        raise UserError("frontier: no learning curve is given")
    low, high = np.log(rows[compute].min()), np.log(rows[compute].max())
    grid = np.linspace(low, high, max(2, round((high - low) / np.log(10) * per_decade) + 1))
    names = list(curves)
    losses = np.stack([_read(curves[run], compute, "loss", grid) for run in names])
    sizes = np.array([curves[run]["n_params"].iloc[0] for run in names], dtype=float)
    some = ~np.isnan(losses).all(axis=0)
    grid, losses = grid[some], losses[:, some]
    best = np.nanargmin(losses, axis=0)
    inside = (sizes[best] > sizes.min()) & (sizes[best] < sizes.max())
    if len(np.unique(sizes[best][inside])) < 1 or len(np.unique(sizes[best])) < 3:
        raise UserError(f"frontier: {len(np.unique(sizes[best]))} sizes take the lead in turn; at least 3 are needed")
    points = [
        {
            "flops": float(np.exp(place)),
            "loss": float(losses[index, column]),
            "n_params": sizes[index],
            "steps": float(np.exp(_read(curves[names[index]], compute, "step", np.array([place]), log=True)[0])),
            "n_tokens": float(np.exp(_read(curves[names[index]], compute, "n_tokens", np.array([place]), log=True)[0])),
            "run": names[index],
        }
        for column, (place, index) in enumerate(zip(grid, best, strict=True))
        if inside[column]
    ]
    return pd.DataFrame(points)


def _read(curve: pd.DataFrame, compute: str, column: str, places: np.ndarray, log: bool = False) -> np.ndarray:
    """Interpolate a column of one curve at ln(compute) = places: in logarithms, NaN outside what was trained."""
    known = np.log(curve[compute].to_numpy(dtype=float))
    values = np.interp(places, known, np.log(curve[column].to_numpy(dtype=float)), left=np.nan, right=np.nan)
    return values if log else np.exp(values)
