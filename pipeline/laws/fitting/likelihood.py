"""Profile-likelihood intervals: how far one parameter can be moved before the others can't make up for it.

The objective is read as a likelihood with one scale of its own: residuals are normal for mse and mse_log, Laplace for
lad, and have the density exp(-Huber(r) / s) / Z(s) for huber, each point independent. A value of a parameter is inside
the interval when twice the loss of log likelihood stays below the square of Student's quantile.

References
----------
Besiroglu et al. 2024 use the same family with the width of Huber's function in units of the scale.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg, optimize, special, stats

from . import estimate
from .estimate import Array, Model, Objective

REACH = 2.5  # standard errors to either side on the first try, doubled until the interval ends
FARTHEST = 160.0  # an interval that goes on beyond so many is open


def profile_intervals(
    model: Model, y: Array, theta: Array, weights: Array, objective: Objective, functionals: Array, level: float = 0.95
) -> list[tuple[float | None, float | None]]:
    """Return intervals of linear functions of theta.

    Parameters
    ----------
    model : Model
    y, weights : ndarray of shape (n_points,)
    theta : ndarray of shape (p,)
        The minimum.
    objective : Objective
    functionals : ndarray of shape (n, p)
        Row k asks for the interval of functionals[k] @ theta.

    Returns
    -------
    list of (low, high)
        None for an end that is not found within 160 standard errors.
    """
    m, jacobian = model.derivatives(theta[None])
    design = jacobian[0] if objective.logarithmic else jacobian[0] * np.exp(m)
    weights = weights / weights.mean()
    covariance = np.linalg.pinv((design * weights) @ design.T)
    n, p = len(y), len(theta)
    unit = "mse_log" if objective.logarithmic else "mse"
    residual = estimate.residuals(model, y, theta[None], Objective(unit))[0]
    scale = np.sqrt((weights * residual**2).sum() / (n - p))
    limit = float(stats.t.ppf((1 + level) / 2, n - p) * np.sqrt(inflation(residual, weights, p, objective)))
    lowest = float(objective.total(estimate.residuals(model, y, theta[None], objective), weights[None])[0])
    intervals = []
    for row in functionals:
        variance = row @ covariance @ row
        step = covariance @ row / variance  # the least-squares fit moves along this when row @ theta grows by 1
        error = scale * np.sqrt(variance)
        basis, known, values = linalg.null_space(row[None]), {0.0: theta}, {0.0: -limit}

        def beyond(reach: float, unit=error * step, basis=basis, known=known, values=values) -> float:
            """Return how far the root of the deviance is above its limit, so many standard errors away."""
            if reach not in values:  # another start may end elsewhere: each place has one value
                near = min(known, key=lambda one: abs(one - reach))
                start = known[near] + (reach - near) * unit
                found = estimate.minimise(model, y, start[None], weights[None], objective, basis=basis)
                if np.isfinite(found.objective[0]):
                    known[reach] = found.theta[0]
                distance = np.sqrt(np.maximum(deviance(found.objective, lowest, n, p, objective)[0], 0.0))
                values[reach] = min(float(distance), 1e6) - limit  # what can't be is far away
            return values[reach]

        ends: list[float | None] = []
        for sign in (-1, 1):
            inner, outer = 0.0, sign * REACH
            while beyond(outer) <= 0 and abs(outer) < FARTHEST:
                inner, outer = outer, 2 * outer
            if abs(outer) >= FARTHEST:
                ends.append(None)
                continue
            ends.append(float(row @ theta + error * optimize.brentq(beyond, inner, outer, xtol=1e-5, rtol=1e-5)))
        intervals.append((ends[0], ends[1]))
    return intervals


def inflation(residual: Array, weights: Array, p: int, objective: Objective) -> float:
    """Return by how much the deviance of a true parameter is larger on average than a chi square's, 1 for squares.

    A robust objective is the likelihood of residuals with long tails. Where theirs are shorter the deviance grows,
    by mean psi^2 / (s mean psi') with s the scale of the fitted density (Heritier and Ronchetti 1994).

    Examples
    --------
    Normal residuals and least absolute deviation, pi / 2:

    >>> r = stats.norm.ppf((np.arange(400) + 0.5) / 400)
    >>> round(inflation(r, np.ones(400), 0, Objective("lad")), 2)
    1.57
    """
    if objective.kind.startswith("mse"):
        return 1.0
    pull, slope = estimate.influence(residual, weights, p, objective)
    n, psi = len(residual), pull * slope
    if objective.kind == "lad":
        return float(estimate.LAD_DELTA / slope * n / np.abs(residual).sum())
    total = float(objective.total(residual[None], np.ones((1, n)))[0])
    return float(np.mean(psi**2) / (slope * fitted_scale(total, n, objective)))


def fitted_scale(total: float, n: int, objective: Objective) -> float:
    """Return the s at which the density exp(-Huber(r) / s) / Z(s) is most likely, for the sum of Huber(r)."""
    return float(np.exp(_most_likely(total, n, objective).x))


def _most_likely(total: float, n: int, objective: Objective) -> optimize.OptimizeResult:
    """Minimise the negative log likelihood over ln s; each side of a quantile has a scale of its own."""
    delta, sides = objective.delta, objective.side(np.array([1.0, -1.0]))

    def negative(log_s: float) -> float:
        s = np.exp(log_s) / sides
        inside = np.sqrt(2 * np.pi * s) * special.erf(delta / np.sqrt(2 * s))
        whole = inside + 2 * s / delta * np.exp(-(delta**2) / (2 * s))
        return total / np.exp(log_s) + n * np.log(whole.mean())

    middle = np.log(total / n)
    return optimize.minimize_scalar(negative, bounds=(middle - 5, middle + 5), method="bounded")


def deviance(value: Array, lowest: float, n: int, p: int, objective: Objective) -> Array:
    """Return twice the loss of log likelihood from the objective `lowest` to `value`, the scale refitted.

    For squares it is the F statistic (n - p) (value / lowest - 1), which is exact for a linear model.

    Examples
    --------
    >>> deviance(np.array([1.0, 1.5]), 1.0, 12, 2, Objective("mse_log"))
    array([0., 5.])
    """
    if objective.kind.startswith("mse"):
        return (n - p) * (value / lowest - 1)
    if objective.kind == "lad":
        return 2 * n * np.log(value / lowest)

    def log_likelihood(total: float) -> float:
        return -_most_likely(total, n, objective).fun

    top = log_likelihood(lowest)
    return np.array([2 * (top - log_likelihood(one)) if np.isfinite(one) else np.inf for one in value])
