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
from scipy import special, stats

OBJECTIVES = {
    "huber": "sum over points of w * Huber(ln y - ln f), quadratic up to delta",
    "lad": "sum over points of w * |ln y - ln f|",
    "mse_log": "mean over points (weighted) of (ln y - ln f)^2",
    "mse": "mean over points (weighted) of (y - f)^2",
}
LAD_DELTA = 1e-9  # the last Huber width on the way to least absolute deviation, in ln y
CHUNK = 1 << 16  # numbers in one array of a batch: small enough to stay in the cache

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

    def total(self, r: Array, weights: Array) -> Array:
        """Return the objective as reported: a sum for huber and lad, a weighted mean for mse_log and mse."""
        if self.kind == "lad":
            return (weights * np.abs(r)).sum(-1)
        total = (weights * _rho(r, self.delta if self.kind == "huber" else None)).sum(-1)
        return total if self.kind == "huber" else total / weights.sum(-1)


def _rho(r: Array, width: Array | float | None) -> Array:
    """Huber's function of given width, or the square where there is none."""
    if width is None:
        return r * r
    size = np.abs(r)
    inside = np.minimum(size, width)
    return inside * (size - 0.5 * inside)


def _rho_slopes(r: Array, width: Array | None) -> tuple[Array, Array, Array]:
    """Return rho', rho'' and rho' / r."""
    if width is None:
        two = np.full_like(r, 2.0)
        return 2 * r, two, two
    size = np.abs(r)
    return np.clip(r, -width, width), (size <= width).astype(float), width / np.maximum(size, width)


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
    return _residuals(model, np.log(y) if objective.logarithmic else y, theta, objective)


def _residuals(model: Model, target: Array, theta: Array, objective: Objective) -> Array:
    """The same from ln y, or y for mse."""
    m = model.value(theta)
    return target - (m if objective.logarithmic else np.exp(m))


def minimise(
    model: Model,
    y: Array,
    theta: Array,
    weights: Array,
    objective: Objective,
    basis: Array | None = None,
    max_iterations: int = 200,
) -> Solution:
    """Minimise the objective of many problems at once.

    Parameters
    ----------
    model : Model
    y : ndarray of shape (n_points,) or (n_problems, n_points)
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
    shape = (len(theta), np.shape(y)[-1])
    weights, y = np.broadcast_to(weights, shape), np.broadcast_to(y, shape)
    with np.errstate(all="ignore"):  # a trial step may overflow; it is then refused
        theta, gradient, converged = _newton(model, y, theta, weights, objective, basis, max_iterations)
        total = objective.total(residuals(model, y, theta, objective), weights)
    return Solution(theta, np.where(np.isfinite(total), total, np.inf), gradient, converged)


def _first_and_last_width(model, y, theta, objective) -> tuple[Array, float] | tuple[None, None]:
    """Huber's function is reached through wider ones, and lad through narrower and narrower ones."""
    if objective.kind in ("mse", "mse_log"):
        return None, None
    last = objective.delta if objective.kind == "huber" else LAD_DELTA
    typical = np.median(np.abs(residuals(model, y, theta, objective)), axis=-1)
    return np.fmax(np.fmin(typical, 0.1), last), last


def _newton(model, y, theta, weights, objective, basis, max_iterations):
    """Damped Newton: eigenvalues of the exact Hessian, made positive, in the metric of the Gauss-Newton matrix.

    With no damping this is Newton's method; with much it is a short step of reweighted least squares, which goes
    down even where Huber's function is flat in its second derivative. A problem is done with one width when its
    gradient is rounding error, or when three steps in a row could only gain less than rounding error; then it goes
    on with a fifth of the width, down to the last. As problems end, others take their place in the batch.
    """
    theta = theta.copy()
    n_problems, p = theta.shape
    gradients = np.full((n_problems, p if basis is None else basis.shape[1]), np.inf)
    converged = np.zeros(n_problems, dtype=bool)
    damping, polished = np.full(n_problems, 1e-3), np.zeros(n_problems, dtype=int)
    iterations, value = np.zeros(n_problems, dtype=int), np.empty(n_problems)
    width, last = _first_and_last_width(model, y, theta, objective)
    target = np.log(y) if objective.logarithmic else y
    rounding = _rho(1e-15 * np.maximum(np.abs(target).max(-1), 1.0), last)  # of one residual

    def total(which: Array, trial: Array) -> Array:
        r = _residuals(model, target[which], trial, objective)
        return (weights[which] * _rho(r, None if width is None else width[which, None])).sum(-1)

    active, waiting = np.empty(0, dtype=int), 0
    while True:
        joining = np.arange(waiting, min(n_problems, waiting + max(1, CHUNK // y.shape[1]) - len(active)))
        waiting += len(joining)
        value[joining] = total(joining, theta[joining])
        active = np.append(active, joining[np.isfinite(value[joining])])
        if not len(active):
            if waiting < n_problems:
                continue
            return theta, gradients * _reported(weights, objective), converged

        widths = None if width is None else width[active, None]
        gradient, hessian, metric, size = _slopes(
            model, target[active], theta[active], weights[active], objective, widths
        )
        if basis is not None:
            gradient, size = gradient @ basis, size @ np.abs(basis)
            hessian, metric = basis.T @ hessian @ basis, basis.T @ metric @ basis
        gradients[active] = gradient
        floor = rounding[active] * weights[active].sum(-1)
        flat = (np.abs(gradient) <= 1e-14 * size).all(-1) | (value[active] <= floor)
        finished = flat | (polished[active] >= 3)
        if width is not None:
            narrowing = active[finished & (width[active] > last)]
            width[narrowing] = np.maximum(width[narrowing] / 5, last)
            polished[narrowing], damping[narrowing] = 0, 1e-3
            value[narrowing] = total(narrowing, theta[narrowing])
            finished &= ~np.isin(active, narrowing)
        else:
            narrowing = active[:0]
        exact = flat | (np.abs(gradient) <= 1e-6 * size).all(-1) | (value[active] <= 1e4 * floor)
        converged[active[finished]] = exact[finished]
        iterations[active] += 1
        going = ~finished & (iterations[active] <= max_iterations) & np.isfinite(hessian).all((-1, -2))
        stepping = going & ~np.isin(active, narrowing)
        rows = active[stepping]
        _step(
            theta, value, damping, polished, rows, gradient[stepping], hessian[stepping], metric[stepping], basis, total
        )
        active = active[going]


def _step(theta, value, damping, polished, rows, gradient, hessian, metric, basis, total) -> None:
    """Take a step that goes down in each of the problems `rows`, changing theta, value, damping and polished."""
    root = _inverse_root(metric)
    eigenvalue, vector = np.linalg.eigh(root.transpose(0, 2, 1) @ hessian @ root)
    # Against a negative curvature the step may be longer: a valley that falls away is followed in fewer of them.
    eigenvalue, vector = np.where(eigenvalue < 0, -0.3 * eigenvalue, eigenvalue), root @ vector
    along = (gradient[:, None, :] @ vector)[:, 0]
    pending = np.arange(len(rows))
    for _ in range(15):
        if not len(pending):
            return
        index = rows[pending]
        coefficient = -along[pending] / (eigenvalue[pending] + damping[index, None])
        step = (vector[pending] @ coefficient[:, :, None])[:, :, 0]
        if basis is not None:
            step = step @ basis.T
        predicted = -(along[pending] * coefficient + 0.5 * eigenvalue[pending] * coefficient**2).sum(-1)
        trial = theta[index] + step
        new = total(index, trial)
        gain = value[index] - new
        tiny = predicted <= 1e-13 * value[index]
        good = np.where(tiny, gain >= -1e-13 * value[index], gain >= 1e-3 * predicted)  # False for NaN
        theta[index[good]], value[index[good]] = trial[good], new[good]
        ratio = gain / predicted
        factor = np.where(good, np.where(ratio > 0.7, 0.1, np.where(ratio < 0.3, 3.0, 1.0)), 8.0)
        damping[index] = np.clip(damping[index] * np.where(tiny & good, 0.01, factor), 1e-16, 1e8)
        polished[index[tiny]] += 1
        pending = pending[~good & ~tiny]
    polished[rows[pending]] += 1  # no decrease at any damping


def _reported(weights: Array, objective: Objective) -> Array | float:
    """The factor from the sum that is minimised to the objective as it is reported."""
    if objective.kind.startswith("mse"):
        return 1 / weights.sum(-1, keepdims=True)
    return 1 / LAD_DELTA if objective.kind == "lad" else 1.0


def _inverse_root(metric: Array) -> Array:
    """Return W with W' metric W = 1, for matrices (n, p, p) that are positive but may be nearly singular."""
    diagonal = np.einsum("rii->ri", metric)
    scale = 1 / np.sqrt(np.maximum(diagonal, 1e-30 * diagonal.max(-1, keepdims=True) + 1e-300))
    scaled = metric * scale[:, :, None] * scale[:, None, :] + 1e-10 * np.eye(metric.shape[1])
    return scale[:, :, None] * np.linalg.inv(np.linalg.cholesky(scaled)).transpose(0, 2, 1)


def _slopes(model, target, theta, weights, objective, width) -> tuple[Array, Array, Array, Array]:
    """Gradient, Hessian, Gauss-Newton matrix, and the size of the gradient's summands.

    The rounding error of the gradient is 1e-16 times that size. The Gauss-Newton matrix has the weights of
    reweighted least squares, w rho'(r) / r.
    """
    m, jacobian, curvature = model.derivatives(theta)
    f = None if objective.logarithmic else np.exp(m)
    r = target - (m if f is None else f)
    psi, slope, secant = _rho_slopes(r, width)
    pull, outer, inner = weights * psi, weights * slope, weights * secant
    if f is not None:  # q = exp m: grad q = q grad m, Hessian q = q (grad m grad m' + Hessian m)
        pull, outer, inner = pull * f, outer * f * f - pull * f, inner * f * f
    turned = jacobian.transpose(0, 2, 1)
    gradient = -(jacobian @ pull[:, :, None])[:, :, 0]
    size = (np.abs(jacobian) @ np.abs(pull)[:, :, None])[:, :, 0]
    metric = (jacobian * inner[:, None, :]) @ turned
    same = width is None and f is None  # a square in ln y: rho'' is rho' / r
    hessian = (metric if same else (jacobian * outer[:, None, :]) @ turned) - curvature(pull)
    return gradient, hessian, metric, size


def finish_lad(model: Model, y: Array, theta: Array, weights: Array) -> tuple[Array, float, float]:
    """Put a minimum of least absolute deviation exactly where it is, from the nearby minimum of a narrow Huber.

    At the optimum some residuals are exactly zero. With those as constraints the rest is smooth, and Newton's
    method on the conditions of Karush, Kuhn and Tucker converges to rounding.

    Parameters
    ----------
    theta : ndarray of shape (p,)
    weights : ndarray of shape (n_points,)

    Returns
    -------
    theta : ndarray of shape (p,)
        The argument itself when the conditions don't hold (a degenerate optimum).
    objective : float
    gradient_norm : float
        Largest component of the smallest subgradient.
    """
    start, log_y = theta, np.log(y)
    lad = Objective("lad")
    zero = np.abs(log_y - model.value(theta[None])[0]) <= 30 * LAD_DELTA
    best = (theta, float(lad.total(residuals(model, y, theta[None], lad), weights)[0]), np.inf)
    pull = np.zeros(int(zero.sum()))
    for _ in range(12):
        m, jacobian, curvature = model.derivatives(theta[None])
        r, jacobian = log_y - m[0], jacobian[0]
        force = np.where(zero, 0.0, weights * np.sign(r))
        if np.isfinite(best[2]):
            force[zero] = pull
        constraint = jacobian[:, zero]
        matrix = np.block([[-curvature(force[None])[0], -constraint], [-constraint.T, np.zeros((len(pull),) * 2)]])
        smooth = -jacobian @ np.where(zero, 0.0, force)
        solved = np.linalg.lstsq(matrix, -np.concatenate([smooth, r[zero]]), rcond=None)[0]
        pull = solved[len(theta) :]
        subgradient = float(np.abs(smooth - constraint @ np.clip(pull, -weights[zero], weights[zero])).max())
        value = float((weights * np.abs(r)).sum())
        if value <= best[1] * (1 + 1e-9) and subgradient <= best[2]:
            best = (theta, value, subgradient)
        theta = theta + solved[: len(theta)]
        if not np.isfinite(theta).all():
            break
    limit = 1e-6 * float((np.abs(jacobian) @ weights).max())
    return best if best[2] <= limit else (start, best[1], best[2])


def influence(residual: Array, weights: Array, p: int, objective: Objective) -> tuple[Array, float]:
    """Return how hard each point pulls at the fit, psi(r) / mean psi', in units of the residual, and mean psi'.

    It is the residual itself for least squares. For Huber's function and least absolute deviation mean psi' is the
    share of residuals within delta; few are, so it is taken from a normal distribution of the residuals' spread.
    """
    if objective.kind.startswith("mse"):
        return residual, 1.0
    delta = objective.delta if objective.kind == "huber" else LAD_DELTA
    n = len(residual)
    spread = 1.4826 * np.median(np.abs(residual)) * np.sqrt(n / max(n - p, 1))
    slope = float(special.erf(delta / (np.sqrt(2) * max(spread, 1e-300))))
    return np.clip(residual, -delta, delta) / slope, slope


def leverage_correction(
    design: Array,
    run_index: NDArray[np.intp],
    residual: Array,
    pull: Array | None = None,
    contrasts: Array | None = None,
    correlation: float = 0.5,
) -> tuple[Array, float]:
    """Correct residuals for what the fit took of them, and count the degrees of freedom that are left.

    A point with much leverage pulls the fit towards itself, so its residual is too small. With H the hat matrix and
    g a run, r_g is replaced by (1 - H_gg)^(-1/2) r_g (CR2 of Bell and McCaffrey 2002). Where the fit is robust, the
    pull is not the residual, and r_g is replaced by what it would be in a fit without the run, to first order:
    r_g + (1 - H_gg)^(-1) H_gg pull_g (Feng, He and Hu 2011 do so for least absolute deviation).

    Parameters
    ----------
    design : ndarray of shape (n_points, p)
        Derivatives of the prediction by the parameters, times the root of the weights.
    run_index : ndarray of shape (n_points,)
    residual : ndarray of shape (n_points,)
        Times the root of the weights.
    pull : ndarray of shape (n_points,), optional
        Of a robust fit, from `influence`, times the root of the weights.
    contrasts : ndarray of shape (n, p), optional
        The combinations of parameters that matter; each parameter by itself when not given.
    correlation : float
        Between residuals of one run, assumed when degrees of freedom are counted.

    Returns
    -------
    residual : ndarray of shape (n_points,)
    degrees : float
        Satterthwaite's number for the variance of the contrast that the fewest runs decide.

    Examples
    --------
    The mean of four points has three degrees of freedom and a leverage of a quarter:

    >>> r, degrees = leverage_correction(np.ones((4, 1)), np.arange(4), np.array([1.0, -1, 1, -1]))
    >>> (r**2).round(3), round(degrees, 6)
    (array([1.333, 1.333, 1.333, 1.333]), 3.0)
    """
    q, _ = np.linalg.qr(design)
    reach = np.linalg.pinv(design)  # (p, n_points): how each point moves each parameter
    reach = reach if contrasts is None else contrasts @ reach
    n_runs = int(run_index.max()) + 1
    corrected, adjusted = residual.copy(), reach.copy()
    for run in range(n_runs):
        rows = run_index == run
        u, s, _ = np.linalg.svd(q[rows], full_matrices=False)
        left = np.clip(1 - s**2, 1e-3, None)
        stretch = 1 / np.sqrt(left) - 1
        if pull is None:
            corrected[rows] += u @ (stretch * (u.T @ residual[rows]))
        else:
            corrected[rows] += u @ ((1 / left - 1) * (u.T @ pull[rows]))
        adjusted[:, rows] += ((adjusted[:, rows] @ u) * stretch) @ u.T
    members = np.equal.outer(np.arange(n_runs), run_index).astype(float)  # (n_runs, n_points)
    by_run = members @ q
    degrees = np.inf
    for a in adjusted:
        projected = members @ (a[:, None] * q)
        alone = np.diag(members @ a**2) - projected @ projected.T
        summed = np.diag(members @ a) - by_run @ projected.T
        spread = (1 - correlation) * alone + correlation * summed.T @ summed
        degrees = min(degrees, float(np.trace(spread) ** 2 / (spread**2).sum()))
    return corrected, degrees


WEBB = np.sqrt([0.5, 1.0, 1.5])  # with either sign: six values of variance 1 (Webb 2014)
FEW_RUNS = 11  # fewer than so many have fewer than 1,000 patterns of signs


def wild_replicates(prediction: Array, residual: Array, run_index: NDArray[np.intp], n_boot: int, seed: int) -> Array:
    """Return responses of a wild bootstrap over runs, (n_boot, n_points).

    Every point stays where it is; the residuals of a run are multiplied by one random number of mean 0 and variance
    1, so that the correlation within a run stays too. It is a sign, which keeps the residuals' density at 0, that
    robust fits depend on; for few runs, which have few patterns of signs, one of Webb's six values.
    """
    rng = np.random.default_rng(seed)
    n_runs = int(run_index.max()) + 1
    sign = rng.choice([-1.0, 1.0], size=(n_boot, n_runs))
    if n_runs < FEW_RUNS:
        sign *= rng.choice(WEBB, size=(n_boot, n_runs))
    return prediction + residual * sign[:, run_index]


def widening(degrees: float) -> float:
    """Return the factor from a normal's 95 % interval to Student's for these degrees of freedom.

    Examples
    --------
    >>> round(widening(6), 3), round(widening(200), 3)
    (1.248, 1.006)
    """
    return float(stats.t.ppf(0.975, degrees) / stats.norm.ppf(0.975))


def interval_ends(draws: Array, level: float = 0.95) -> Array:
    """Return the ends of the percentile interval over the first axis, (2, ...), unbiased for few draws.

    Examples
    --------
    >>> interval_ends(np.arange(1.0, 40))
    array([ 1., 39.])
    """
    return np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")


def pairs_replicates(
    run_index: NDArray[np.intp], weights: Array, n_boot: int, seed: int, usable: Callable[[Array], NDArray[np.bool_]]
) -> tuple[Array, int]:
    """Draw runs with replacement, as weights of the points.

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
