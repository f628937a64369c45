"""Rows of a sweep table that figures share: finished runs, end points, means over seeds.

A sweep table has one row a (run, evaluation). Runs that diverged are left out by rule and counted in the caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pipeline.errors import UserError
from pipeline.laws.formulas.frontier import FALL

SHAPE = ["family", "n_layer", "d_model", "n_head", "d_ff", "n_ctx", "n_reuse"]
"""Columns that tell models apart; runs that differ in their seed alone are repeats."""


_TRAINING = [
    *SHAPE,
    *("n_vocab", "batch_sequences", "n_unique_tokens", "lr_peak", "lr_hidden", "schedule", "dropout", "weight_decay"),
    "precision",
]
TRAINED = [*_TRAINING, "seed"]
"""Columns in which runs agree that differ in their length alone (and in what follows from it: warmup, cooldown)."""
SETTINGS = [*_TRAINING, "n_steps", "branch_point", "warmup_steps"]
"""Columns that tell runs apart; runs that agree in them are repeats with another seed."""


def longest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the longest of each model's runs that differ in their length alone.

    Lengths of one trunk have it in common: its curve is one, and so is what its seed is off by.

    Examples
    --------
    >>> same = dict.fromkeys(TRAINED, 0)
    >>> runs = pd.DataFrame([{"run": "a", "n_steps": 5}, {"run": "b", "n_steps": 9}]).assign(**same)
    >>> longest(runs).run.tolist(), longest(runs.assign(seed=[0, 1])).run.tolist()
    (['b'], ['a', 'b'])
    """
    return rows[rows["n_steps"] == rows.groupby(TRAINED, dropna=False)["n_steps"].transform("max")]


def usable(sweep: pd.DataFrame, name: str) -> tuple[pd.DataFrame, str]:
    """Return the rows of runs that did not diverge, and a sentence for the caption about those that did.

    Raises
    ------
    UserError
        When no run is left; it names the sweep.
    """
    diverged = sweep[sweep.status == "diverged"].run.nunique()
    kept = sweep[sweep.status != "diverged"].reset_index(drop=True)
    if kept.empty:
        raise UserError(f"sweep {name}: no run that did not diverge ({diverged} diverged)")
    runs = "run" if diverged == 1 else "runs"
    return kept, f"{diverged} {runs} of sweep {name} diverged and {'is' if diverged == 1 else 'are'} left out." * (
        diverged > 0
    )


def none_learned(sweep: pd.DataFrame) -> bool:
    """Return whether there are learning curves and none of them falls by more than rounding, as at a rate of 0.

    Examples
    --------
    >>> flat = pd.DataFrame({"run": ["a", "a", "b", "b"], "loss": [4.0, 4.0, 5.0, 5.0 - 1e-9]})
    >>> none_learned(flat), none_learned(flat.assign(loss=[4.0, 3.9, 5.0, 5.0])), none_learned(flat[::2])
    (True, False, False)
    """
    losses = sweep.groupby("run", sort=False)["loss"]
    first, lowest, rows = losses.first(), losses.min(), losses.size()
    return bool((rows > 1).any() and not (lowest < first * (1 - FALL)).any())


def end_points(sweep: pd.DataFrame, which: str = "best") -> pd.DataFrame:
    """Return one row a run: of its lowest test loss ("best") or its last ("final")."""
    return sweep[sweep[which]].drop_duplicates("run").reset_index(drop=True)


def labelled(rows: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return the rows of runs with a label of their sweep; a run may have several, with commas between.

    Examples
    --------
    >>> labelled(pd.DataFrame({"label": ["aspect", "aspect,heads", "heads"]}), "heads").index.tolist()
    [1, 2]
    """
    return rows[[label in text.split(",") for text in rows.label]]


def require(frame: pd.DataFrame, sweep: str, wanted: str, least: int = 1, column: str = "run") -> None:
    """Raise a `UserError` unless `frame` has `least` different values of `column`; it says what is missing.

    Examples
    --------
    >>> require(pd.DataFrame({"run": []}), "depths", "a run of 0 layers")
    Traceback (most recent call last):
    ...
    pipeline.errors.UserError: sweep depths lacks a run of 0 layers
    """
    found = frame[column].nunique()
    if found < least:
        raise UserError(f"sweep {sweep} lacks {wanted}" + (f": {found} of {least} there" if found else ""))


def mean_over_seeds(points: pd.DataFrame, x: str, y: str = "loss", by: Sequence[str] = ()) -> pd.DataFrame:
    """Return the mean of `y` over repeats, with its 95 % t-interval.

    Repeats are the rows that agree in `by` and `x`. The spread is taken relative to the mean and pooled over all
    groups that have repeats (the paper finds it independent of size), which gives the interval its degrees of freedom.

    Parameters
    ----------
    points
        One row a run.
    x, y
        Columns. y must be positive.
    by
        Further columns that tell groups apart.

    Returns
    -------
    DataFrame
        Columns `by`, x, y (mean), low, high (NaN without repeats in that group), n (runs) and `fitted`, sorted by x.

    Examples
    --------
    >>> runs = pd.DataFrame({"n_params": [1, 1, 2], "loss": [3.96, 4.04, 3.0], "fitted": True})
    >>> mean_over_seeds(runs, "n_params").round(3).values.tolist()
    [[1, 4.0, 3.492, 4.508, 2, True], [2, 3.0, nan, nan, 1, True]]
    """
    keys = [*by, x]
    groups = points.groupby(keys, sort=True, dropna=False)[y]
    if points.empty:
        return pd.DataFrame(columns=[*keys, y, "low", "high", "n", "fitted"])
    means, counts = groups.mean(), groups.size()
    relative = points[y] / groups.transform("mean") - 1
    freedom = int((counts - 1).sum())
    table = pd.DataFrame({"y": means, "n": counts}).reset_index()
    half = np.full(len(table), np.nan)
    if freedom > 0:
        spread = np.sqrt((relative**2).sum() / freedom)
        half = np.where(table.n > 1, stdtrit(freedom, 0.975) * spread / np.sqrt(table.n), np.nan)
    table["low"], table["high"] = table.y * (1 - half), table.y * (1 + half)
    fitted = points.groupby(keys, sort=True, dropna=False)["fitted"].all()
    table["fitted"] = fitted.to_numpy()
    table = table.rename(columns={"y": y})
    return table[[*keys, y, "low", "high", "n", "fitted"]].sort_values(keys, ignore_index=True)


def lower_envelope(flops: Any, loss: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower envelope of all (compute, loss) points: compute at each new lowest loss, and that loss.

    Examples
    --------
    >>> x, y = lower_envelope([1, 2, 3, 4], [5.0, 4.0, 4.5, 3.0])
    >>> x.tolist(), y.tolist()
    ([1.0, 2.0, 4.0], [5.0, 4.0, 3.0])
    """
    flops, loss = np.asarray(flops, float), np.asarray(loss, float)
    order = np.lexsort((loss, flops))
    flops, loss = flops[order], loss[order]
    lowest = np.minimum.accumulate(loss)
    new = np.r_[True, lowest[1:] < lowest[:-1]]
    return flops[new], lowest[new]


def anchored(x: Any, exponent: float, at_x: Any, at_y: Any) -> np.ndarray:
    """Return the power law x^-exponent through the geometric mean of the points (at_x, at_y).

    Examples
    --------
    >>> anchored([1.0, 10.0, 100.0], 1.0, [10.0], [2.0]).round(9).tolist()
    [20.0, 2.0, 0.2]
    """
    centre_x = np.exp(np.mean(np.log(np.asarray(at_x, float))))
    centre_y = np.exp(np.mean(np.log(np.asarray(at_y, float))))
    return centre_y * (np.asarray(x, float) / centre_x) ** -exponent


def extent(values: Any) -> tuple[float, float]:
    """Return the smallest and the largest value."""
    values = np.asarray(values, float)
    return float(values.min()), float(values.max())


def plural(n: int, word: str) -> str:
    """Write a count.

    Examples
    --------
    >>> plural(1, "run"), plural(3, "size")
    ('1 run', '3 sizes')
    """
    return f"{n} {word}{'' if n == 1 else 's'}"
