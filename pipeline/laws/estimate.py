"""Objectives, optimisers and intervals: everything that is the same for all laws.

A law predicts the logarithm of its response, m_i(theta), at each point i. A fit minimises

    F(theta) = sum_i w_i rho(r_i),    r_i = ln y_i - m_i(theta)    (for `mse`: r_i = y_i - exp m_i)

Many problems of one kind are solved at once: a row of `theta` is a start or a bootstrap replicate, and a row of
`weights` says how often each point counts in it. The exact gradient and Hessian are cheap for every law here, so
the solver is a damped Newton iteration on the whole batch, run until the gradient vanishes to rounding.

References
----------
Hoffmann et al. 2022, section 3.3 (Huber loss of log residuals, delta = 1e-3, a grid of starts); Besiroglu et al.
2024 (the sum over points, not the mean, and a solver that does not stop early); Madsen and Nielsen 1993 (least
absolute deviation as the limit of Huber problems).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

OBJECTIVES = {
    "huber": "sum over points of w * Huber(ln y - ln f), quadratic up to delta",
    "lad": "sum over points of w * |ln y - ln f|",
    "mse_log": "mean over points (weighted) of (ln y - ln f)^2",
    "mse": "mean over points (weighted) of (y - f)^2",
}
LAD_DELTA = 1e-9  # the last Huber width on the way to least absolute deviation, in ln y
CHUNK = 1 << 15  # numbers in one array of a batch: small enough to stay in the cache

Array = NDArray[np.float64]


class Model(Protocol):
    """What the solver needs of a law on given points: n points, p parameters in well-scaled coordinates."""

    def value(self, theta: Array) -> Array:
        """Return m, the log prediction: (n_problems, n_points) for theta (n_problems, p)."""

    def derivatives(self, theta: Array) -> tuple[Array, Array, Callable[[Array], Array]]:
        """Return m, its Jacobian (n_problems, p, n_points), and a function of s (n_problems, n_points).

        That function gives sum_i s_i Hessian(m_i), of shape (n_problems, p, p).
        """


@dataclass(frozen=True)
class Objective:
    """Which function of the residuals is minimised.

    Parameters
    ----------
    kind : {"huber", "lad", "mse_log", "mse"}
    delta : float
        Where Huber's function turns from quadratic to linear, in units of ln y; positive. Used by huber only.

    Examples
    --------
    >>> Objective("huber", 1e-3).total(np.array([[0.0005, 0.1]]), np.ones((1, 2)))
    array([9.9625e-05])
    """

    kind: str
    delta: float = 1e-3

    @property
    def logarithmic(self) -> bool:
        """Whether residuals are taken in ln y."""
        return self.kind != "mse"

    def rho(self, r: Array) -> Array:
        """Return the contribution of each residual."""
        if self.kind == "huber":
            size = np.abs(r)
            inside = np.minimum(size, self.delta)
            return inside * (size - 0.5 * inside)
        return np.abs(r) if self.kind == "lad" else r * r

    def slopes(self, r: Array) -> tuple[Array, Array]:
        """Return the first and second derivative of rho at each residual (not for lad)."""
        if self.kind == "huber":
            return np.clip(r, -self.delta, self.delta), (np.abs(r) <= self.delta).astype(float)
        return 2 * r, np.full_like(r, 2.0)

    def total(self, r: Array, weights: Array) -> Array:
        """Return the objective as reported: a sum for huber and lad, a weighted mean for mse_log and mse."""
        total = (weights * self.rho(r)).sum(-1)
        return total / weights.sum(-1) if self.kind.startswith("mse") else total


@dataclass
class Solution:
    """Minima of a batch of problems: one row or entry a problem."""

    theta: Array  # (n_problems, p)
    objective: Array  # as `Objective.total` reports it
    gradient: Array  # (n_problems, p), of the reported objective; for lad its smallest subgradient found
    converged: NDArray[np.bool_]

    @property
    def gradient_norm(self) -> Array:
        """The largest component of each gradient."""
        return np.abs(self.gradient).max(-1)

    def best(self) -> int:
        """Index of the lowest objective, of those that are finite."""
        return int(np.nanargmin(np.where(np.isfinite(self.objective), self.objective, np.inf)))


def residuals(model: Model, y: Array, theta: Array, objective: Objective) -> Array:
    """Return the residuals (n_problems, n_points) that the objective is a function of."""
    m = model.value(theta)
    return np.log(y) - m if objective.logarithmic else y - np.exp(m)


def minimise(
    model: Model,
    y: Array,
    theta: Array,
    weights: Array,
    objective: Objective,
    basis: Array | None = None,
    max_iterations: int = 300,
) -> Solution:
    """Minimise the objective of many problems at once.

    Parameters
    ----------
    model : Model
    y : ndarray of shape (n_points,)
        The response, positive.
    theta : ndarray of shape (n_problems, p)
        Where each problem starts.
    weights : ndarray of shape (n_problems, n_points) or (1, n_points)
        Not negative.
    objective : Objective
    basis : ndarray of shape (p, q), optional
        Only steps in the span of its columns are taken: a fit with some combination of parameters held still.
    max_iterations : int
        Of Newton's method, for each width of Huber's function.

    Returns
    -------
    Solution
    """
    n_problems, n_points = len(theta), len(y)
    weights = np.broadcast_to(weights, (n_problems, n_points))
    size = max(1, CHUNK // n_points)
    with np.errstate(all="ignore"):  # a trial step may overflow; it is then refused
        parts = [
            _minimise_chunk(model, y, theta[i : i + size], weights[i : i + size], objective, basis, max_iterations)
            for i in range(0, n_problems, size)
        ]
    theta, gradient, converged = (np.concatenate(part) for part in zip(*parts, strict=True))
    total = objective.total(residuals(model, y, theta, objective), weights)
    return Solution(theta, np.where(np.isfinite(total), total, np.inf), gradient, converged)


def _minimise_chunk(model, y, theta, weights, objective, basis, max_iterations):
    """Solve one batch; Huber and lad are reached through a sequence of shrinking widths."""
    scale = weights.sum(-1, keepdims=True) if objective.kind.startswith("mse") else 1.0
    if objective.kind in ("mse", "mse_log"):
        theta, gradient, converged = _newton(model, y, theta, weights, objective, basis, max_iterations)
        return theta, gradient / scale, converged
    last = objective.delta if objective.kind == "huber" else LAD_DELTA
    first = np.median(np.abs(residuals(model, y, theta, Objective("huber"))))
    first = min(max(first, last), 0.1) if np.isfinite(first) else 0.1
    widths = last * (first / last) ** np.linspace(1, 0, 1 + max(1, int(np.ceil(np.log(first / last) / np.log(5)))))
    for width in widths:
        theta, gradient, converged = _newton(
            model, y, theta, weights, Objective("huber", float(width)), basis, max_iterations
        )
    return theta, gradient / (last if objective.kind == "lad" else 1.0), converged


def _newton(model, y, theta, weights, objective, basis, max_iterations):
    """Damped Newton with |eigenvalues| of the exact Hessian; each problem has its own damping.

    A problem is done when its gradient is rounding error, or when three steps in a row could only gain less than
    rounding error.
    """
    theta, weights = theta.copy(), np.ascontiguousarray(weights)
    n_problems, p = theta.shape
    gradients = np.full((n_problems, p if basis is None else basis.shape[1]), np.inf)
    converged = np.zeros(n_problems, dtype=bool)
    damping, polished = np.full(n_problems, 1e-3), np.zeros(n_problems, dtype=int)
    value = _total(model, y, theta, weights, objective)
    floor = objective.rho(np.array(1e-15)) * weights.sum(-1)
    active = np.flatnonzero(np.isfinite(value))
    for _ in range(max_iterations):
        gradient, hessian, size = _slopes(model, y, theta[active], weights[active], objective)
        if basis is not None:
            gradient, hessian, size = gradient @ basis, basis.T @ hessian @ basis, size @ np.abs(basis)
        gradients[active] = gradient
        flat = (np.abs(gradient) <= 1e-14 * size).all(-1) | (value[active] <= floor[active])
        finished = flat | (polished[active] >= 3)
        converged[active[finished]] = True
        active, gradient, hessian = active[~finished], gradient[~finished], hessian[~finished]
        if not len(active):
            break
        eigenvalue, vector = np.linalg.eigh(np.nan_to_num(hessian))
        eigenvalue = np.abs(eigenvalue)
        largest = eigenvalue.max(-1, keepdims=True) + 1e-300
        along = (gradient[:, None, :] @ vector)[:, 0]
        pending = np.arange(len(active))
        for _attempt in range(15):
            index = active[pending]
            coefficient = -along[pending] / (eigenvalue[pending] + damping[index, None] * largest[pending])
            step = (vector[pending] @ coefficient[:, :, None])[:, :, 0]
            if basis is not None:
                step = step @ basis.T
            predicted = -(along[pending] * coefficient + 0.5 * eigenvalue[pending] * coefficient**2).sum(-1)
            trial = theta[index] + step
            new = _total(model, y, trial, weights[index], objective)
            gain = value[index] - new
            tiny = predicted <= 1e-13 * value[index]
            good = np.where(tiny, gain >= -1e-13 * value[index], gain >= 1e-3 * predicted)  # False for NaN
            theta[index[good]], value[index[good]] = trial[good], new[good]
            ratio = gain / predicted
            factor = np.where(good, np.where(ratio > 0.7, 0.1, np.where(ratio < 0.3, 3.0, 1.0)), 8.0)
            damping[index] = np.clip(damping[index] * np.where(tiny & good, 0.01, factor), 1e-16, 1e8)
            polished[index[tiny]] += 1
            pending = pending[~good & ~tiny]
            if not len(pending):
                break
        polished[active[pending]] += 1  # no decrease at any damping
    return theta, gradients, converged


def _total(model, y, theta, weights, objective) -> Array:
    with np.errstate(all="ignore"):
        return (weights * objective.rho(residuals(model, y, theta, objective))).sum(-1)


def _slopes(model, y, theta, weights, objective) -> tuple[Array, Array, Array]:
    """Gradient, Hessian, and the size of the gradient's summands (its rounding error is this times 1e-16)."""
    with np.errstate(all="ignore"):
        m, jacobian, curvature = model.derivatives(theta)
        if objective.logarithmic:
            psi, slope = objective.slopes(np.log(y) - m)
            pull = weights * psi
            outer = weights * slope
        else:  # q = exp m: grad q = q grad m, Hessian q = q (grad m grad m' + Hessian m)
            f = np.exp(m)
            psi, slope = objective.slopes(y - f)
            pull = weights * psi * f
            outer = weights * slope * f * f - pull
        gradient = -np.einsum("rpn,rn->rp", jacobian, pull)
        size = np.einsum("rpn,rn->rp", np.abs(jacobian), np.abs(pull))
        hessian = (jacobian * outer[:, None, :]) @ jacobian.transpose(0, 2, 1) - curvature(pull)
    return gradient, hessian, size


def widening(n_runs: int, p: int) -> float:
    """Return the factor by which bootstrap deviations are stretched for a small number of runs.

    A percentile bootstrap over n runs is too narrow: its variance lacks n / (n - p) and its quantiles are those of
    a normal, not of Student's t with n - p degrees of freedom. Stretching the replicates about the estimate mends
    both and tends to 1 for many runs.

    Examples
    --------
    >>> round(widening(8, 2), 2), round(widening(240, 5), 3)
    (1.44, 1.016)
    """
    degrees = n_runs - p
    return float(np.sqrt(n_runs / degrees) * stats.t.ppf(0.975, degrees) / stats.norm.ppf(0.975))


def replicate_weights(
    run_index: NDArray[np.intp], weights: Array, n_boot: int, seed: int, usable: Callable[[Array], NDArray[np.bool_]]
) -> tuple[Array, int]:
    """Draw bootstrap replicates over runs, as weights of the points.

    Parameters
    ----------
    run_index : ndarray of shape (n_points,)
        Which run each point belongs to, from 0.
    weights : ndarray of shape (n_points,)
    n_boot, seed : int
    usable : callable
        Tells of weights (n, n_points) which replicates can be fitted; the others are drawn again.

    Returns
    -------
    weights : ndarray of shape (n_boot, n_points)
    redrawn : int
        How many draws could not be fitted, such as one run n times.
    """
    rng = np.random.default_rng(seed)
    n_runs = int(run_index.max()) + 1
    accepted: list[Array] = []
    missing, drawn = n_boot, 0
    while missing and drawn < 100 * n_boot:
        counts = rng.multinomial(n_runs, np.full(n_runs, 1 / n_runs), size=missing).astype(float)
        drawn += missing
        candidates = counts[:, run_index] * weights
        accepted.append(candidates[usable(candidates)])
        missing -= len(accepted[-1])
    kept = np.concatenate(accepted) if accepted else np.empty((0, len(weights)))
    return kept, drawn - len(kept)


def condition(jacobian: Array, weights: Array) -> Array:
    """Return the smallest eigenvalue of J' W J scaled to unit diagonal, for each row of weights.

    It is 1 for orthogonal columns and 0 where some combination of parameters moves no prediction.
    jacobian is (p, n_points), weights (n_problems, n_points).
    """
    gram = (jacobian * weights[:, None, :]) @ jacobian.T
    diagonal = np.sqrt(np.einsum("rii->ri", gram))
    with np.errstate(all="ignore"):
        scaled = gram / (diagonal[:, :, None] * diagonal[:, None, :])
    return np.linalg.eigvalsh(np.nan_to_num(scaled))[:, 0]
