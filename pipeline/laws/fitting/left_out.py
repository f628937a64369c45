"""A law judged on what it has not seen: fitted again without some of its points, from the optimum of them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import estimate
from .constraint import hold
from .estimate import Array, Objective
from .findings import Settled, no_optimum
from .law import Law
from .resample import with_all_terms, without_the_vanished


def folds_of_runs(runs: Sequence[str], folds: int, seed: int = 0) -> NDArray[np.bool_]:
    """Return which points each fold leaves out, (folds, n_points): whole runs, dealt at random and evenly.

    Parameters
    ----------
    runs : sequence of str
        The run of each point.
    folds : int
        From 2 to the number of runs; as many as runs leave out one each, in their order.

    Examples
    --------
    >>> folds_of_runs(["a", "a", "b", "c"], 3).astype(int).tolist()
    [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    """
    of_run, names = pd.factorize(np.asarray(runs))
    order = np.arange(len(names))
    if folds < len(names):
        order = np.random.default_rng(seed).permutation(order)
    fold = np.empty(len(names), dtype=int)
    fold[order] = np.arange(len(names)) % folds
    return np.equal.outer(np.arange(folds), fold[of_run])


def errors_left_out(law: Law, points: pd.DataFrame, out: NDArray[np.bool_], objective: Objective) -> Array | str:
    """Return ln y - ln f at each point, f being the fit without the fold that the point is in.

    Parameters
    ----------
    law : Law
    points : DataFrame
        As `Law.prepare` gives them.
    out : ndarray of shape (n_folds, n_points)
        Which points each fold leaves out: every point is in one.
    objective : Objective

    Returns
    -------
    ndarray of shape (n_points,), or str
        Why there is no optimum, of all points or without a fold.
    """
    y, w = points[law.response].to_numpy(), points["weight"].to_numpy()
    held = hold(law, law.model(points), {}, {})
    reason = law.too_few(points, held)
    if reason:
        return reason
    _, at = law.optimum(held, y, w, objective)
    reason = no_optimum(law, at, y, w, objective)
    if reason:
        return reason
    for one in out:
        reason = law.too_few(points[~one], held)
        if reason:
            return _without(points, one, reason)
    weights = np.where(out, 0.0, w)
    mean = float(at.held.value(at.z[None]).mean())
    start = held.project(with_all_terms(held, at, mean)[None])
    solution = estimate.minimise(held, y, np.tile(start, (len(out), 1)), weights, objective)
    theta, gone = without_the_vanished(held, solution, y[None], weights, objective)
    for k, one in enumerate(out):
        rest = held.without(*(set(np.flatnonzero(gone[k]).tolist()) - held.gone))
        found = Settled(rest, rest.project(theta[k][None])[0], 0.0, 0.0, True, {})
        reason = no_optimum(law, found, y, weights[k], objective)
        if reason:
            return _without(points, one, reason)
    with np.errstate(all="ignore"):
        predicted = held.model.value(theta)
    return np.log(y) - predicted[out.argmax(0), np.arange(len(y))]


def _without(points: pd.DataFrame, out: NDArray[np.bool_], reason: str) -> str:
    runs = points["run"][out].unique()
    more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
    return f"without run {runs[0]!r}{more}: {reason}"
