"""For given exponents the coefficients are a linear least-squares problem: good starts, and for `mse` the answer.

References
----------
Golub and Pereyra 1973, variable projection.
"""

from __future__ import annotations

from itertools import chain, combinations, product

import numpy as np

from pipeline.laws.estimate import Array
from pipeline.laws.models import PowerSum

EXPONENTS = np.geomspace(0.03, 2.0, 8)


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
    lines = np.broadcast_arrays(*model.terms(theta))
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
