"""Objectives, optimisers and bootstrap replicates: everything that is the same for all laws.

A law predicts the logarithm of its response, m_i(theta), at each point i. A fit minimises

    F(theta) = sum_i w_i rho(r_i),    r_i = ln y_i - m_i(theta)    (for `mse`: r_i = y_i - exp m_i)

`scipy.optimize.least_squares` does so with the exact Jacobian, for every start and bootstrap replicate on its own:
Levenberg and Marquardt's method for squares, a trust region for Huber's function. Since a sum of squares tells its
minimum to half of the digits only, a few steps of Gauss and Newton's method follow, which make the gradient vanish to
rounding: what is written doesn't depend on where the library stops. Least absolute deviation, which the library has
not, goes on from the minimum of a Huber function by linear programmes (`scipy.optimize.linprog`). Where a curve is best
with fewer residuals at zero than it has parameters these creep, and a narrow Huber function stands in for it; that
leaves the objective within some 1e-7 of its minimum.

References
----------
Hoffmann et al. 2022, section 3.3 (Huber loss of log residuals, delta = 1e-3, a grid of starts); Besiroglu et al.
2024 (the sum over points, not the mean, and a solver that does not stop early); Osborne and Watson 1971 (least
absolute deviation of curves by linear programmes). Residuals above and below may count unlike: quantiles for lad
(Koenker and Bassett 1978), expectiles for squares (Newey and Powell 1987), M-quantiles for huber (Breckling and
Chambers 1988). For scaling laws it is done by Takano's `chinchilla` (2024), whose asymmetric absolute error counts
points below the law ten times, since a run that was cut short or badly tuned can only be too high.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from .progress import counted

OBJECTIVES = {
    "huber": "sum over points of w * Huber(ln y - ln f), quadratic up to delta",
    "lad": "sum over points of w * |ln y - ln f|",
    "mse_log": "mean over points (weighted) of (ln y - ln f)^2",
    "mse": "mean over points (weighted) of (y - f)^2",
}
MIDDLE = 0.5  # the quantile of an objective that takes both sides alike
NARROWING = 5.0  # from one Huber width to the next
LAST_STEPS = 20  # of Gauss and Newton's method after the library's search, at most
LAD_WIDTH = 1e-3  # of the Huber function from whose minimum least absolute deviation starts, in ln y
LAD_STEPS = 50  # linear programmes at most
LAD_NARROW = 1e-7  # Huber's width where these don't arrive
LAD_DELTA = 1e-9  # a residual of some such, in ln y, is zero to least absolute deviation

Array = NDArray[np.float64]


class Model(Protocol):
    """What the solver needs of a law on given points: n points, p parameters in well-scaled coordinates."""

    def value(self, theta: Array) -> Array:
        """Return m, the log prediction: (n_problems, n_points) for theta (n_problems, p)."""

    def derivatives(self, theta: Array) -> tuple[Array, Array]:
        """Return m and its Jacobian, (n_problems, p, n_points)."""


@dataclass(frozen=True)
class Objective:
    """Which function of the residuals is minimised.

    Parameters
    ----------
    kind : {"huber", "lad", "mse_log", "mse"}
    delta : float
        Where Huber's function turns from quadratic to linear, in units of ln y; positive. Used by huber only.
    quantile : float
        A point above the law counts 2 q times, one below it 2 (1 - q) times. With lad a share q of them is below.

    Examples
    --------
    >>> Objective("huber", 1e-3).total(np.array([[0.0005, 0.1]]), np.ones((1, 2)))
    array([9.9625e-05])
    >>> Objective("lad", quantile=0.1).total(np.array([[1.0, -1.0]]), np.ones((1, 2)))
    array([2.])
    """

    kind: str
    delta: float = 1e-3
    quantile: float = MIDDLE

    @property
    def logarithmic(self) -> bool:
        """Whether residuals are taken in ln y."""
        return self.kind != "mse"

    def total(self, r: Array, weights: Array) -> Array:
        """Return the objective as reported: a sum for huber and lad, a weighted mean for mse_log and mse."""
        weighed = weights * self.side(r)
        if self.kind == "lad":
            return (weighed * np.abs(r)).sum(-1)
        total = (weighed * _rho(r, self.delta if self.kind == "huber" else None)).sum(-1)
        return total if self.kind == "huber" else total / weights.sum(-1)

    def side(self, r: Array) -> Array | float:
        """Return how many times each residual counts, by its side of the law."""
        if self.quantile == MIDDLE:
            return 1.0
        return np.where(r > 0, 2 * self.quantile, 2 * (1 - self.quantile))

    @property
    def definition(self) -> str:
        """What is minimised, in words."""
        above, below = 2 * self.quantile, 2 * (1 - self.quantile)
        sides = "" if above == below else f"; points above the law count {above:g} times, below it {below:g} times"
        return OBJECTIVES[self.kind] + sides


def _rho(r: Array, width: Array | float | None) -> Array:
    """Huber's function of given width, or the square where there is none."""
    if width is None:
        return r * r
    size = np.abs(r)
    inside = np.minimum(size, width)
    return inside * (size - 0.5 * inside)


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
    model: Model, y: Array, theta: Array, weights: Array, objective: Objective, basis: Array | None = None
) -> Solution:
    """Minimise the objective of many problems, one after another.

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

    Returns
    -------
    Solution
    """
    shape = (len(theta), np.shape(y)[-1])
    weights, y = np.broadcast_to(weights, shape), np.broadcast_to(y, shape)
    theta = theta.copy()
    gradient = np.full((len(theta), theta.shape[1] if basis is None else basis.shape[1]), np.inf)
    converged = np.zeros(len(theta), dtype=bool)
    finish = _finish_lad if objective.kind == "lad" else _finish
    with np.errstate(all="ignore"):  # a trial step may overflow; it is then refused
        for k in counted(len(theta), "fits"):
            problem = _Problem(model, y[k], weights[k], objective, theta[k], basis)
            if np.isfinite(problem.residual(problem.start)).all():
                z, gradient[k], converged[k] = finish(problem, _search(problem))
                theta[k] = problem.place(z)
        total = objective.total(residuals(model, y, theta, objective), weights)
    gradient /= weights.sum(-1, keepdims=True) if objective.kind.startswith("mse") else 1.0
    return Solution(theta, np.where(np.isfinite(total), total, np.inf), gradient, converged)


class _Problem:
    """One fit in its free coordinates z: theta itself, or a step from its start in the span of a basis."""

    def __init__(self, model, y, weights, objective, theta, basis) -> None:
        self.model, self.weights, self.objective = model, weights, objective
        self.target = np.log(y) if objective.logarithmic else y
        self.origin, self.basis = theta, basis
        self.start = theta if basis is None else np.zeros(basis.shape[1])
        self.width = objective.delta if objective.kind == "huber" else None
        small = 1e-15 * max(float(np.abs(self.target).max()), 1.0)
        self.rounding = float(weights.sum() * (small if objective.kind == "lad" else _rho(small, self.width)))

    def place(self, z: Array) -> Array:
        """Return theta."""
        return z if self.basis is None else self.origin + self.basis @ z

    def residual(self, z: Array) -> Array:
        """Return the residuals, (n_points,)."""
        m = self.model.value(self.place(z)[None])[0]
        return self.target - (m if self.objective.logarithmic else np.exp(m))

    def slopes(self, z: Array) -> tuple[Array, Array]:
        """Return the residuals and the Jacobian of the prediction, (q, n_points)."""
        m, jacobian = (part[0] for part in self.model.derivatives(self.place(z)[None]))
        jacobian = jacobian if self.basis is None else self.basis.T @ jacobian
        if self.objective.logarithmic:
            return self.target - m, jacobian
        return self.target - np.exp(m), jacobian * np.exp(m)

    def split(self, r: Array, jacobian: Array | None = None) -> tuple[Array, Array | None]:
        """Return residuals and Jacobian; twice as many where the sides differ: those above, then those below."""
        if self.objective.quantile == MIDDLE:
            return r, jacobian
        above = r > 0
        twice = np.concatenate([np.where(above, r, 0.0), np.where(above, 0.0, r)])
        return twice, None if jacobian is None else np.hstack([jacobian * above, jacobian * ~above])

    def two_sided(self, weights: Array) -> Array:
        """Return the weights of what `split` returns."""
        q = self.objective.quantile
        return weights if q == MIDDLE else np.concatenate([2 * q * weights, 2 * (1 - q) * weights])


def _search(problem: _Problem) -> Array:
    """Return z at the minimum, to as many digits as show in the objective."""
    if problem.objective.kind.startswith("mse"):

        def root(r: Array) -> Array:
            return np.sqrt(problem.weights * problem.objective.side(r))

        def slopes(z: Array) -> Array:
            r, jacobian = problem.slopes(z)
            return -(root(r) * jacobian).T

        return optimize.least_squares(
            lambda z: root(r := problem.residual(z)) * r,
            problem.start,
            slopes,
            method="lm",
            x_scale=1.0,  # "jac" would hold a term still that has nearly vanished
            ftol=1e-15,
            xtol=1e-15,
            gtol=1e-15,
        ).x
    width = LAD_WIDTH if problem.objective.kind == "lad" else problem.objective.delta
    return _search_huber(problem, problem.start, width)


def _search_huber(problem: _Problem, z: Array, width: float) -> Array:
    """Go from z to the minimum of Huber's function of that width.

    Where no point is within the width, the function is flat in its second derivative: it is reached by wider ones.
    """
    loss = partial(huber_loss, weights=problem.two_sided(problem.weights / problem.weights.max()))
    widths = [width]
    typical = min(float(np.median(np.abs(problem.residual(z)))), 0.1)
    while widths[-1] * NARROWING < typical:
        widths.append(widths[-1] * NARROWING)
    for one in reversed(widths):
        ftol, xtol = (1e-13, 1e-8) if one == width else (1e-3, 1e-3)
        z = optimize.least_squares(
            lambda z: problem.split(problem.residual(z))[0],
            z,
            lambda z: -problem.split(*problem.slopes(z))[1].T,
            method="trf",
            x_scale=1.0,
            loss=loss,
            f_scale=one,
            ftol=ftol,
            xtol=xtol,
            gtol=None,
        ).x
    return z


def huber_loss(square: Array, weights: Array) -> Array:
    """Return w rho, w rho' and w rho'' by (r / delta)^2, as `scipy.optimize.least_squares` takes a loss.

    It sums delta^2 rho / 2, which is w times Huber's function. Its own "huber" has no weights, and weighted residuals
    are not the same, since delta is a length in ln y.

    Examples
    --------
    >>> delta, r, w = 1e-3, np.array([0.0005, 0.1]), np.array([1.0, 2.0])
    >>> total = delta**2 / 2 * huber_loss((r / delta) ** 2, w)[0].sum()
    >>> bool(np.isclose(total, Objective("huber", delta).total(r, w)))
    True
    """
    size, inside = np.maximum(np.sqrt(square), 1.0), square <= 1
    return weights * np.stack([np.where(inside, square, 2 * size - 1), 1 / size, np.where(inside, 0, -0.5 / size**3)])


def _finish(problem: _Problem, z: Array) -> tuple[Array, Array, bool]:
    """Return z, the gradient, and whether that is small beside its summands or the objective is rounding error.

    The last half of the digits of z don't show in the objective. Steps of Gauss and Newton find them, as long as the
    gradient shrinks.
    """
    best, width = (z, np.full(len(z), np.inf), False), problem.width
    for _ in range(LAST_STEPS):
        r, jacobian = problem.slopes(z)
        weights = problem.weights * problem.objective.side(r)
        slope = 2.0 if width is None else (np.abs(r) <= width)
        pull = weights * (2 * r if width is None else np.clip(r, -width, width))
        gradient = -jacobian @ pull
        if not np.abs(gradient).max() < np.abs(best[1]).max():
            break
        small = (np.abs(gradient) <= 1e-6 * (np.abs(jacobian) @ np.abs(pull))).all()
        best = (z, gradient, bool(small or (weights * _rho(r, width)).sum() <= 1e4 * problem.rounding))
        z = z - np.linalg.lstsq((jacobian * (weights * slope)) @ jacobian.T, gradient)[0]
    return best


def _finish_lad(problem: _Problem, z: Array) -> tuple[Array, Array, bool]:
    """Go from near a minimum of the sum of absolute residuals into it; return as `_finish` does.

    Each step is the best one if predictions were linear, or a part of it. That is a linear programme; its dual is
    solved, which has a row a parameter, and the multipliers are the step. Its solution says how hard each residual
    that is zero pulls, so that the subgradient is the smallest.
    """
    top = problem.weights.max()
    weights, rounding = problem.weights / top, problem.rounding / top
    side, q = problem.objective.side, problem.objective.quantile
    bounds, nothing = np.stack([-2 * (1 - q) * weights, 2 * q * weights], axis=1), np.zeros(len(z))
    gradient = np.full(len(z), np.inf)

    def total(r: Array) -> float:
        return float(weights @ (side(r) * np.abs(r)))

    for _ in range(LAD_STEPS):
        r, jacobian = problem.slopes(z)
        value, unit = total(r), float(np.abs(r).max())
        if value <= rounding:
            return z, np.zeros(len(z)), True
        dual = optimize.linprog(-r / unit, A_eq=jacobian, b_eq=nothing, bounds=bounds)
        if dual.status:
            break
        zero = np.abs(r) <= 30 * LAD_DELTA
        gradient = -jacobian @ np.where(zero, dual.x, weights * side(r) * np.sign(r))
        step = -unit * dual.eqlin.marginals
        gain, length, new = value - total(r - step @ jacobian), 2.0, np.inf
        while length > 1e-6 and not new <= value - 1e-4 * length * gain:
            length /= 2
            new = total(problem.residual(z + length * step))
        if not (gain > 1e-15 * value and new < value):
            break
        z = z + length * step
    if (np.abs(gradient) <= 1e-6 * (np.abs(jacobian) @ weights)).all():
        return z, gradient * top, True
    # A curve may be best with fewer residuals at zero than it has parameters; there linear programmes creep.
    narrow = _search_huber(problem, z, LAD_NARROW)
    r, jacobian = problem.slopes(narrow)
    if not total(r) < value:
        return z, gradient * top, False
    gradient = -jacobian @ (weights * side(r) * np.clip(r / LAD_NARROW, -1, 1))
    return narrow, gradient * top, bool((np.abs(gradient) <= 1e-6 * (np.abs(jacobian) @ weights)).all())


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


def widening(degrees: float, level: float = 0.95) -> float:
    """Return the factor from a normal's interval to Student's for these degrees of freedom.

    Examples
    --------
    >>> round(widening(6), 3), round(widening(200), 3)
    (1.248, 1.006)
    """
    part = (1 + level) / 2
    return float(stats.t.ppf(part, degrees) / stats.norm.ppf(part))


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
