"""Bootstrap replicates over runs of a law at its optimum, each fitted again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import estimate
from .constraint import Held
from .draws import wild_replicates
from .estimate import Array, Objective
from .findings import FAINT, Settled, has_vanished

RETURN = 0.05  # the share of the response at which a term that has vanished starts in a replicate, with exponent 0.3


def replicates(
    held: Held,
    at: Settled,
    y: Array,
    weights: Array,
    runs: Sequence[str],
    run_index: NDArray[np.intp],
    objective: Objective,
    method: str,
    n_boot: int,
    seed: int,
    level: float,
) -> tuple[Array, NDArray[np.bool_], dict[str, Any]]:
    """Refit replicates over runs.

    Parameters
    ----------
    held : Held
        The law with all its terms but those that the caller left out.
    at : Settled
        Its optimum, where some of these may have vanished. A replicate may need them again.
    method : {"wild", "pairs"}

    Returns
    -------
    theta : ndarray of shape (n_boot, p)
        Moved away from the optimum for the few runs that there are; minus infinity for a coefficient of 0.
    gone : ndarray of shape (n_boot, n_terms)
        Which terms have vanished.
    record : dict
        How it was done.
    """
    m, jacobian = (part[0] for part in at.held.derivatives(at.z[None]))
    record: dict[str, Any] = {"unit": "run", "method": method, "seed": seed}
    factor = 1.0
    if method == "wild":
        f = m if objective.logarithmic else np.exp(m)
        residual = (np.log(y) if objective.logarithmic else y) - f
        design = (jacobian if objective.logarithmic else jacobian * f).T * np.sqrt(weights)[:, None]
        pull = None
        if objective.kind in ("huber", "lad"):
            pull = estimate.influence(residual, weights, len(at.z), objective)[0] * np.sqrt(weights)
        residual, degrees = estimate.leverage_correction(design, run_index, residual * np.sqrt(weights), pull)
        responses = wild_replicates(f, residual / np.sqrt(weights), runs, run_index, n_boot, seed)
        responses, drawn = np.exp(responses) if objective.logarithmic else responses, weights[None]
        factor = estimate.widening(degrees, level)
        record |= {"degrees_of_freedom": degrees, "widening": factor}
    else:
        limit = 1e-6 * estimate.condition(jacobian, weights[None])[0]
        drawn, redrawn = estimate.pairs_replicates(
            run_index, weights, n_boot, seed, lambda some: estimate.condition(jacobian, some) > limit
        )
        responses = y[None]
        record |= {"redrawn": redrawn}
    start = held.project(with_all_terms(held, at, float(m.mean()))[None])
    n = max(len(responses), len(drawn))
    solution = estimate.minimise(held, responses, np.tile(start, (n, 1)), drawn, objective)
    theta, gone = without_the_vanished(held, solution, responses, drawn, objective)
    record |= {
        "not_converged": int((~solution.converged).sum()),
        "largest_gradient": float(solution.gradient_norm.max(initial=0.0)),
        "at_the_edge": int((gone & ~np.isin(np.arange(gone.shape[1]), list(held.gone))).any(-1).sum()),
    }
    for pattern in np.unique(gone, axis=0):
        rows = (gone == pattern).all(-1)
        theta[rows] = _widened(_centre(held, at, pattern, y, weights, objective), theta[rows], factor)
    return theta, gone, record


def _centre(
    held: Held, at: Settled, pattern: NDArray[np.bool_], y: Array, weights: Array, objective: Objective
) -> Array:
    """Return theta of the optimum of the points without the terms of a pattern too: where such replicates lie about."""
    more = set(np.flatnonzero(pattern).tolist()) - at.held.gone
    rest = at.held.without(*more) if more else at.held
    found = rest.project(at.theta[None])
    if more:
        found = estimate.minimise(rest, y, found, weights[None], objective).theta
    centre = rest.place(found)[0]
    for k in rest.gone:
        centre[list(held.model.columns[k][1:])] = np.nan
    return centre


def _widened(centre: Array, theta: Array, factor: float) -> Array:
    """Return replicates moved away from their centre; an exponent that is nothing there stays as it is."""
    there = np.isfinite(centre)
    moved = theta + np.where(
        np.isneginf(centre), np.log(factor), 0.0
    )  # a coefficient about 0 is so many times as large
    moved[:, there] = centre[there] + factor * (theta[:, there] - centre[there])
    return moved


def with_all_terms(held: Held, at: Settled, mean: float) -> Array:
    """Return theta of the optimum with the terms that have vanished there at a small share of the response."""
    theta = at.theta
    for k in at.held.gone - held.gone:
        coefficient, *exponent = held.model.columns[k]
        theta[coefficient] = mean + np.log(RETURN)
        theta[exponent] = 0.3 * held.model.axes[k].scale if exponent else []
    return theta


def without_the_vanished(
    held: Held, solution: estimate.Solution, y: Array, weights: Array, objective: Objective
) -> tuple[Array, NDArray[np.bool_]]:
    """Return theta of each replicate, with the terms at 0 that have vanished in it, and which have."""
    theta, value = held.place(solution.theta), solution.objective.copy()
    n = len(theta)
    y, weights = (np.broadcast_to(each, (n, each.shape[-1])) for each in (y, weights))
    gone = np.zeros((n, len(held.model.columns)), dtype=bool)
    gone[:, list(held.gone)] = True
    for term in held.optional:
        with np.errstate(all="ignore"):
            share = held.model.shares(theta)[term].max(-1)
        for pattern in np.unique(gone[share < FAINT], axis=0):
            if (~pattern).sum() < 2:
                continue
            rows = np.flatnonzero((share < FAINT) & (gone == pattern).all(-1))
            rest = held.without(*(set(np.flatnonzero(pattern).tolist()) - held.gone), term)
            found = estimate.minimise(rest, y[rows], rest.project(theta[rows]), weights[rows], objective)
            better = has_vanished(share[rows], value[rows], found.objective)
            theta[rows[better]] = rest.place(found.theta[better])
            value[rows[better]] = found.objective[better]
            solution.converged[rows[better]] = found.converged[better]
            norm = found.gradient_norm[better]
            solution.gradient[rows[better]] = np.where(np.arange(held.p) == 0, norm[:, None], 0.0)
            gone[rows[better], term] = True
    return theta, gone
