"""How far each run's learning curve lies off a smooth surface: the noise between runs, to be drawn again.

A frontier has no residuals of its own, since it is the lowest of several curves. What runs do have is a residual from
the loss that is smooth in size and training, ln L = s(ln N, ln x), x being steps, tokens or compute per parameter. The
surface is (N_c / N)^alpha + (x_c / x)^beta times the exponential of a polynomial, of degree 2 in ln N and 4 in ln x,
fitted to all rows: all runs share the shape along training, few the one along size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import estimate
from .estimate import Array, Objective
from .forms import Axis, PowerSum
from .separable import starts_of_sum


@dataclass(frozen=True)
class RunNoise:
    """The smooth surface at each row, and what a run is off there.

    Attributes
    ----------
    smooth : ndarray of shape (n_rows,)
        ln L.
    shift : ndarray of shape (n_runs,)
        What each run is off as a whole, with the sign that it has and the size that all runs share: the paper finds
        that it is the same part of the loss at all sizes, and a few runs of their own tell it badly.
    within : ndarray of shape (n_rows,)
        What the rows of a run are off besides.
    run_index : ndarray of shape (n_rows,)
        Which run each row belongs to, from 0.
    degrees : float
        Degrees of freedom of the size of the shifts.
    """

    smooth: Array
    shift: Array
    within: Array
    run_index: NDArray[np.intp]
    degrees: float

    def drawn(self, normal: Array) -> Array:
        """Return ln L of the rows with noise drawn again, (n_rows,); `normal` holds a number a run."""
        return self.smooth + (normal * self.shift)[self.run_index] + np.sign(normal)[self.run_index] * self.within


def run_noise(log_size: Array, log_length: Array, log_loss: Array, run_index: NDArray[np.intp]) -> RunNoise | None:
    """Fit the surface; None where the runs are too few to leave any noise.

    Parameters
    ----------
    log_size, log_length, log_loss : ndarray of shape (n_rows,)
        ln N, ln x and ln L.
    run_index : ndarray of shape (n_rows,)
        Which run each row belongs to, from 0.
    """
    n_runs = int(run_index.max()) + 1
    if len(np.unique(log_size)) < 4 or n_runs < 5:
        return None
    model = PowerSum([Axis(np.exp(log_size)), Axis(np.exp(log_length))])
    y, weights = np.exp(log_loss), np.ones(len(log_loss))
    starts = starts_of_sum(model, y, weights, Objective("mse_log"))[:4]
    solution = estimate.minimise(model, y, starts, weights[None], Objective("mse_log"))
    theta = solution.theta[solution.best()]
    m, jacobian = (part[0] for part in model.derivatives(theta[None]))
    n, x = ((values - values.mean()) / (values.std() or 1.0) for values in (log_size, log_length))
    powers = np.stack([n**i * x**j for i in range(3) for j in range(5)], axis=1)
    smooth = m + powers @ np.linalg.lstsq(powers, log_loss - m)[0]
    design = np.column_stack([jacobian.T, powers])
    return noise_about(smooth, design, log_loss, run_index)


def noise_about(smooth: Array, design: Array, log_loss: Array, run_index: NDArray[np.intp]) -> RunNoise:
    """Return what runs are off a fit.

    Parameters
    ----------
    smooth : ndarray of shape (n_rows,)
        ln L of the fit.
    design : ndarray of shape (n_rows, p)
        Its derivatives by its parameters, which say what of the noise the fit took.
    log_loss : ndarray of shape (n_rows,)
    run_index : ndarray of shape (n_rows,)
    """
    n_runs = int(run_index.max()) + 1
    u, s, _ = np.linalg.svd(design / np.linalg.norm(design, axis=0), full_matrices=False)
    basis = u[:, s > 1e-9 * s[0]]
    members = np.equal.outer(np.arange(n_runs), run_index).astype(float)
    rows = members.sum(1)
    seen = np.eye(n_runs) - (members @ basis) @ (basis.T @ members.T) / rows[:, None]  # mean residuals of runs off by 1
    by_run = members @ (log_loss - smooth) / rows
    left = seen @ seen.T
    size = np.sqrt((by_run**2).sum() / np.trace(left))
    degrees = float(np.trace(left) ** 2 / (left**2).sum())
    shift = size * np.where(by_run < 0, -1.0, 1.0)
    return RunNoise(smooth, shift, log_loss - smooth - by_run[run_index], run_index, degrees)
