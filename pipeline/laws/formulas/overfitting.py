"""L(N, D) = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D, Eq 1.5, and the overfitting that it predicts.

D = infinity is allowed and leaves (N_c / N)^alpha_N.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ..fitting.estimate import Array, Objective
from ..fitting.forms import Axis, PowerSum, SoftMaximum
from ..fitting.law import Law
from ..fitting.separable import EXPONENTS, positive_least_squares, starts_of_sum
from ..fitting.terms import Parameter, Term, plain

PAPER = {"alpha_N": 0.076, "alpha_D": 0.103, "N_c": 6.4e13, "D_c": 1.8e13}  # Table 2


class L_N_D(Law):
    """Loss at early stopping of N parameters trained on D tokens."""

    name = "L_N_D"
    equation = "1.5"
    inputs = ("n_params", "n_tokens")
    size = "n_params"
    parameters = (
        Parameter("N_c", "parameters", PAPER["N_c"], log=True),
        Parameter("alpha_N", "", PAPER["alpha_N"]),
        Parameter("D_c", "tokens", PAPER["D_c"], log=True),
        Parameter("alpha_D", "", PAPER["alpha_D"]),
    )
    terms = (Term("ratio", "N_c", "n_params", "alpha_N", "N"), Term("ratio", "D_c", "n_tokens", "alpha_D", "D"))

    def model(self, points: pd.DataFrame) -> SoftMaximum:
        """See `Law.model`."""
        return SoftMaximum(Axis(points["n_params"].to_numpy()), Axis(points["n_tokens"].to_numpy()))

    def starts(
        self, model: SoftMaximum, y: Array, weights: Array, objective: Objective, gone: frozenset[int] = frozenset()
    ) -> Array:
        """For given exponents L^(1/alpha_D) is linear in N_c^(alpha_N/alpha_D) and D_c: a grid of exponents."""
        if gone:  # the model size alone, or the data alone: a power law
            (k,) = {0, 1} - gone
            theta = np.zeros((1, 4))
            theta[:, list(model.columns[k])] = starts_of_sum(PowerSum([model.axes[k]]), y, weights, objective)
            return theta
        a_n, a_d = (grid.ravel() for grid in np.meshgrid(EXPONENTS, EXPONENTS, indexing="ij"))
        steep = (a_n / a_d)[:, None]
        x = np.where(model.size.finite, model.size.x * model.size.scale, np.inf)
        z = np.where(model.data.finite, model.data.x * model.data.scale, np.inf)
        basis = np.stack(np.broadcast_arrays(np.exp(-steep * x), np.exp(-z)[None]), axis=1)
        target = (y[None] / y.mean()) ** (1 / a_d[:, None])
        ones = np.ones_like(y)
        coefficient, _ = positive_least_squares(basis / target[:, None, :], ones, weights)
        floor = 0.01 / (basis / target[:, None, :]).mean(-1)
        c = np.log(np.maximum(coefficient, floor)) * a_d[:, None] + np.log(y.mean())
        theta = np.stack([c[:, 0], a_n * model.size.scale, c[:, 1], a_d * model.data.scale], axis=1)
        error = ((np.log(y) - model.value(theta)) ** 2 * weights).sum(-1)
        return theta[np.argsort(error, kind="stable")]

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """See `Law.evaluate`."""
        ln_nc, a_n, ln_dc, a_d = (vectors[:, k, None] for k in range(4))
        size, data = ln_nc - np.log(inputs["n_params"]), ln_dc - np.log(inputs["n_tokens"])
        both = a_d * np.logaddexp(a_n / a_d * size, data)
        alone = np.where(np.isneginf(ln_dc), a_n * size, a_d * data)  # a side that has vanished has no exponent
        return np.exp(np.where(np.isneginf(ln_dc) | np.isneginf(ln_nc), alone, both))

    def vanished(self, k: int) -> str:
        """See `Law.vanished`: all points are on one side of the law."""
        names, side = (("N_c, alpha_N", "data"), ("D_c, alpha_D", "model size"))[k]
        return f"all points on one side: {names} leave no trace, the {side} alone decides the loss"

    def formula(self, values: Mapping[str, float]) -> str:
        """See `Law.formula`."""
        n_c, d_c = (plain(format(values[name], ".2g")) for name in ("N_c", "D_c"))
        a_n, a_d = values["alpha_N"], values["alpha_D"]
        if 0 in (values["N_c"], values["D_c"]):
            return f"L = ({n_c} / N)^{a_n:.3f}" if values["N_c"] else f"L = ({d_c} / D)^{a_d:.3f}"
        return f"L = [({n_c} / N)^({a_n:.3f}/{a_d:.3f}) + {d_c} / D]^{a_d:.3f}"


def overfitting(
    n_params: ArrayLike,
    n_tokens: ArrayLike,
    alpha_N: ArrayLike,
    alpha_D: ArrayLike,
    N_c: ArrayLike,
    D_c: ArrayLike,
) -> np.ndarray:
    """Return dL = L(N, D) / L(N, infinity) - 1, Eq 4.2 in the form of Eq 4.3.

    All arguments broadcast. N and D come in through N^(alpha_N / alpha_D) / D alone, so that the curve over such an x
    is `overfitting(1.0, 1 / x, ...)`.

    Parameters
    ----------
    n_params, n_tokens : array_like
        N and D; positive, D may be infinite.
    alpha_N, alpha_D, N_c, D_c : array_like
        Of Eq 1.5.

    Examples
    --------
    The paper's bound D = 5e3 N^0.74 leaves about two percent (with 5.5e3, exactly two):

    >>> overfitting([1e6, 1e9], 5.5e3 * np.array([1e6, 1e9]) ** 0.738, **PAPER).round(3)
    array([0.02, 0.02])
    """
    n, d, alpha_N, alpha_D, N_c, D_c = (
        np.asarray(value, dtype=float) for value in (n_params, n_tokens, alpha_N, alpha_D, N_c, D_c)
    )
    power = alpha_N / alpha_D
    return np.expm1(alpha_D * np.log1p(np.exp(power * (np.log(n) - np.log(N_c)) + np.log(D_c) - np.log(d))))
