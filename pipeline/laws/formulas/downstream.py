"""Err(L) = epsilon - k exp(-gamma L): the error on downstream tasks by the loss, Gadre et al. 2024.

The error is a share, such as the mean top-1 error of a set of tasks; epsilon is that of a model that knows nothing, and
the better the loss the faster the error falls. The source fits it by least squares of the error to the mean over 17
tasks and the loss on C4's validation set, and chains it with its law of the loss: the loss that a law predicts goes
into this one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..fitting.estimate import Array, Objective
from ..fitting.forms import Axis
from ..fitting.law import Law
from ..fitting.separable import EXPONENTS, positive_least_squares
from ..fitting.terms import Parameter, Term


class Downstream(Law):
    """Error on downstream tasks (`error`, above 0) of a model with the loss L."""

    name = "downstream"
    equation = "Gadre et al. 2024, Eq 5"
    inputs = ("loss",)
    response = "error"
    size = "loss"
    objective = "mse"
    parameters = (
        Parameter("epsilon", "share", log=True),
        Parameter("k", "share", log=True),
        Parameter("gamma", "per nat"),
    )
    terms = (Term("constant", "epsilon"), Term("coefficient", "k", "loss", "gamma", "L"))

    def model(self, points: pd.DataFrame) -> Saturation:
        """See `Law.model`."""
        return Saturation(Axis(np.exp(points["loss"].to_numpy())))

    def starts(
        self, model: Saturation, y: Array, weights: Array, objective: Objective, gone: frozenset[int] = frozenset()
    ) -> Array:
        """For a given gamma the error is linear in epsilon and k: a grid of gammas."""
        if gone:
            return np.array([[np.log(np.average(y, weights=weights)), -np.inf, 1.0]])
        rates = EXPONENTS[:, None]
        basis = np.stack([np.ones((len(rates), len(y))), -np.exp(-rates * model.axis.x)], axis=1)
        found, value = positive_least_squares(basis, y, weights)
        found = np.where(found > 0, found, [y.max(), 1e-3 * np.ptp(y)])
        order = np.argsort(value, kind="stable")
        return np.column_stack([np.log(found), rates])[order]

    def in_order(self, draws: Array, vector: Array) -> Array:
        """See `Law.in_order`: where gamma changes its sign, epsilon and k go through infinity."""
        draws = draws.copy()
        draws[draws[:, 2] * vector[2] <= 0, :2] = np.inf
        return draws

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """See `Law.evaluate`."""
        epsilon, k, gamma = (vectors[:, j, None] for j in range(3))
        fall = np.where(np.isneginf(k), 0.0, np.exp(k - gamma * inputs["loss"]))
        return np.exp(epsilon) - fall

    def formula(self, values: Mapping[str, float]) -> str:
        """See `Law.formula`."""
        if not values["k"]:
            return f"Err = {values['epsilon']:.3g}"
        return f"Err = {values['epsilon']:.3g} - {values['k']:.3g} exp(-{values['gamma']:.3g} L)"


class Saturation:
    """ln(e - f) with e = exp(c) and f = exp(d - a x), for theta = (c, d, a) and x the scaled loss."""

    p = 3
    columns = ((0,), (1, 2))

    def __init__(self, axis: Axis) -> None:
        self.axis, self.axes = axis, [None, axis]

    def stands_without(self, term: int) -> bool:
        """Whether an error is left without a term: epsilon alone is one."""
        return term == 1

    def _parts(self, theta: Array) -> tuple[Array, Array, Array]:
        c, d, a = (theta[:, k, None] for k in range(3))
        top, fall = np.exp(c), np.exp(d - a * self.axis.x)
        return top, fall, top - fall

    def value(self, theta: Array) -> Array:
        """Return the logarithm of the error; NaN where it is not positive."""
        return np.log(self._parts(theta)[2])

    def shares(self, theta: Array) -> list[Array]:
        """Return each term over the error."""
        top, fall, error = self._parts(theta)
        return [top / error, fall / error]

    def derivatives(self, theta: Array) -> tuple[Array, Array]:
        """Return m and its Jacobian (see `estimate.Model`)."""
        top, fall, error = self._parts(theta)
        return np.log(error), np.stack([top / error, -fall / error, self.axis.x * fall / error], axis=1)
