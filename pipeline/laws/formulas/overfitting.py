"""L(N, D) = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D, Eq 1.5, and the overfitting that it predicts.

D = infinity is allowed and leaves (N_c / N)^alpha_N.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pipeline.laws.fitting.estimate import Array, Objective
from pipeline.laws.fitting.forms import Axis, PowerSum, SoftMaximum
from pipeline.laws.fitting.law import INVISIBLE, Law, Parameter, plain
from pipeline.laws.fitting.separable import EXPONENTS, positive_least_squares, starts_of_sum

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

    def model(self, points: pd.DataFrame) -> SoftMaximum:
        """See `Law.model`."""
        return SoftMaximum(Axis(points["n_params"].to_numpy()), Axis(points["n_tokens"].to_numpy()))

    def starts(self, model: SoftMaximum, y: Array, weights: Array, objective: Objective) -> Array:
        """For given exponents L^(1/alpha_D) is linear in N_c^(alpha_N/alpha_D) and D_c: a grid of exponents."""
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

    def report(self, model: SoftMaximum, theta: Array) -> Array:
        """See `Law.report`."""
        c_n, a_n = model.size.raw(theta[:, 0], theta[:, 1])
        c_d, a_d = model.data.raw(theta[:, 2], theta[:, 3])
        with np.errstate(all="ignore"):
            return np.stack([c_n / a_n, a_n, c_d / a_d, a_d], axis=1)

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """See `Law.evaluate`."""
        ln_nc, a_n, ln_dc, a_d = (vectors[:, k, None] for k in range(4))
        size = a_n / a_d * (ln_nc - np.log(inputs["n_params"]))
        return np.exp(a_d * np.logaddexp(size, ln_dc - np.log(inputs["n_tokens"])))

    def edge(self, model: SoftMaximum, theta: Array, y: Array) -> str | None:
        """See `Law.edge`: all points on one side of the law."""
        for share, name, side in zip(
            model.shares(theta[None]), ("N_c, alpha_N", "D_c, alpha_D"), ("data", "model size"), strict=True
        ):
            if share.max() < INVISIBLE:
                return f"all points on one side: {name} leave no trace, the {side} alone decides the loss"
        return None

    def simpler(self, model: SoftMaximum) -> list[tuple[str, PowerSum, Callable[[Array, Array, Objective], Array]]]:
        """See `Law.simpler`: the model size alone, or the data alone where no D is infinite."""
        sides = (("D_c, alpha_D", model.size), ("N_c, alpha_N", model.data))
        alone = [(names, PowerSum([axis])) for names, axis in sides if axis.finite.all()]
        return [(names, rest, partial(starts_of_sum, rest)) for names, rest in alone]

    def positive(self) -> dict[int, str]:
        """See `Law.positive`."""
        return {1: "alpha_N", 3: "alpha_D"}

    def formula(self, values: Mapping[str, float]) -> str:
        """See `Law.formula`."""
        n_c, d_c = (plain(format(values[name], ".2g")) for name in ("N_c", "D_c"))
        a_n, a_d = values["alpha_N"], values["alpha_D"]
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
