"""For given exponents the coefficients are a linear least-squares problem: good starts, and for `mse` the answer.

References
----------
Golub and Pereyra 1973, variable projection.
"""

from __future__ import annotations

from itertools import chain, combinations, product

import numpy as np
from scipy import optimize

from .estimate import Array, Objective
from .forms import PowerSum

EXPONENTS = np.geomspace(0.03, 2.0, 8)


def starts_of_sum(model: PowerSum, y: Array, weights: Array, objective: Objective) -> Array:
    """Return starts (n_starts, p) for any sum of power terms, the best first; for `mse` the answer is the first."""
    if len(model.axes) == 1:
        if model.axes[0] is None:
            return np.array([[np.average(np.log(y), weights=weights)]])
        return straight_line(model, y, weights)
    starts = grid_starts(model, y, weights, relative=objective.logarithmic)
    if not objective.logarithmic:
        projected = variable_projection(model, y, weights)
        if np.isfinite(projected).all():
            starts = np.vstack([projected, starts])
    return starts


def straight_line(model: PowerSum, y: Array, weights: Array) -> Array:
    """Return (1, 2): the least-squares line of ln y, the only start that a single power term needs."""
    x, log_y = model.axes[0].x, np.log(y)
    centre = np.average(x, weights=weights)
    slope = np.average((x - centre) * log_y, weights=weights) / np.average((x - centre) ** 2, weights=weights)
    return np.array([[np.average(log_y, weights=weights) - slope * centre, -slope]])


def positive_least_squares(basis: Array, target: Array, weights: Array) -> tuple[Array, Array]:
    """Solve min_b sum w (target - b basis)^2 with b >= 0 exactly, for many bases at once.

    Each subset of the few coefficients is tried as the positive ones; the best that is feasible is the optimum.

    Parameters
    ----------
    basis : ndarray of shape (n_problems, K, n_points)
    target, weights : ndarray of shape (n_points,)

    Returns
    -------
    coefficients : ndarray of shape (n_problems, K)
    objective : ndarray of shape (n_problems,)
    """
    n_problems, k, _ = basis.shape
    size = np.sqrt(np.einsum("rkn,n->rk", basis**2, weights)) + 1e-300
    scaled = basis / size[:, :, None]
    gram = (scaled * weights) @ scaled.transpose(0, 2, 1)
    moment = (scaled * weights) @ target
    total = float((weights * target**2).sum())
    best, lowest = np.zeros((n_problems, k)), np.full(n_problems, total)
    subsets = chain.from_iterable(combinations(range(k), m) for m in range(1, k + 1))
    for subset in map(list, subsets):
        part = gram[:, subset][:, :, subset] + 1e-14 * np.eye(len(subset))
        b = np.linalg.solve(part, moment[:, subset, None])[:, :, 0]
        value = total - (b * moment[:, subset]).sum(-1)
        better = (b >= 0).all(-1) & (value < lowest)
        lowest = np.where(better, value, lowest)
        full = np.zeros((n_problems, k))
        full[:, subset] = b
        best = np.where(better[:, None], full, best)
    return best / size, lowest


def grid_starts(model: PowerSum, y: Array, weights: Array, relative: bool, exponents: Array = EXPONENTS) -> Array:
    """Return a start for each combination of exponents on a grid, the best first.

    Parameters
    ----------
    relative : bool
        Weigh residuals by 1 / y, which is least squares in ln y for small residuals.
    """
    powers = [k for k, axis in enumerate(model.axes) if axis is not None]
    combos = np.array(list(product(exponents, repeat=len(powers))))
    theta = np.zeros((len(combos), model.p))
    for column, k in enumerate(powers):
        theta[:, model.columns[k][1]] = combos[:, column] * model.axes[k].scale
    lines = model.terms(theta)
    top = [line[np.isfinite(line)].max() if np.isfinite(line).any() else 0.0 for line in lines]
    basis = np.stack([np.exp(line - t) for line, t in zip(lines, top, strict=True)], axis=1)
    scale = y if relative else np.ones_like(y)
    coefficient, value = positive_least_squares(basis / scale, y / scale, weights)
    # A coefficient of zero has no logarithm: it starts at a share of one percent.
    floor = 0.01 * np.mean(y) / basis.mean(-1)
    with np.errstate(divide="ignore"):
        for k, column in enumerate(model.columns):
            theta[:, column[0]] = np.log(np.maximum(coefficient[:, k], floor[:, k])) - top[k]
    return theta[np.argsort(value, kind="stable")]


def variable_projection(model: PowerSum, y: Array, weights: Array, n_starts: int = 4) -> Array:
    """Return (p,): the least-squares fit of y itself, by a search over the exponents alone.

    At each point of the search the coefficients are the positive least-squares solution, so the search has half of
    the dimensions and no scale of coefficients to get lost in. The search from many starts must find the
    same.
    """
    columns = [column[1] for column in model.columns if len(column) == 2]

    def solve(exponents: Array) -> tuple[Array, Array]:
        theta = np.zeros((1, model.p))
        theta[0, columns] = exponents
        basis = np.stack([np.exp(line) for line in model.terms(theta)], axis=1)
        coefficient, _ = positive_least_squares(basis, y, weights)
        with np.errstate(divide="ignore"):
            theta[0, [column[0] for column in model.columns]] = np.log(coefficient[0])
        return theta[0], np.sqrt(weights) * (y - coefficient[0] @ basis[0])

    best, lowest = None, np.inf
    for start in grid_starts(model, y, weights, relative=False)[:n_starts]:
        found = optimize.least_squares(
            lambda exponents: solve(exponents)[1], start[columns], xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale="jac"
        )
        if found.cost < lowest:
            best, lowest = found.x, found.cost
    return solve(best)[0]
