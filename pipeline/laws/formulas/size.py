"""L(N) = (N_c / N)^alpha_N, Eq 1.1 and 3.1; and Fig 23's alternative, L = -a ln(N / N_0)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..fitting.estimate import Array, Objective
from ..fitting.forms import Axis, Logarithm
from ..fitting.law import Law
from ..fitting.sum_law import SumLaw
from ..fitting.terms import Parameter, Term, plain


class L_N(SumLaw):
    """Loss at convergence of models of N non-embedding parameters with unlimited data."""

    name = "L_N"
    equation = "1.1"
    inputs = ("n_params",)
    size = "n_params"
    parameters = (Parameter("N_c", "parameters", 8.8e13, log=True), Parameter("alpha_N", "", 0.076))
    terms = (Term("ratio", "N_c", "n_params", "alpha_N", "N"),)


class log_N(Law):
    """The logarithm that the paper compares Eq 1.1 with: L = -a ln(N / N_0), natural logarithm."""

    name = "log_N"
    equation = "Figure 23"
    inputs = ("n_params",)
    size = "n_params"
    parameters = (Parameter("N_0", "parameters", 7.1e12, log=True), Parameter("a", "nats per token", 0.25))
    terms = (Term("ratio", "N_0", "n_params", "a", "N"),)

    def model(self, points: pd.DataFrame) -> Logarithm:
        """See `Law.model`."""
        return Logarithm(Axis(points["n_params"].to_numpy()))

    def starts(
        self, model: Logarithm, y: Array, weights: Array, objective: Objective, gone: frozenset[int] = frozenset()
    ) -> Array:
        """Return the least-squares line of L; where it would cross zero, a flatter one."""
        x = model.axis.x
        centre, mean = np.average(x, weights=weights), np.average(y, weights=weights)
        slope = np.average((x - centre) * y, weights=weights) / np.average((x - centre) ** 2, weights=weights)
        reach = np.abs(x - centre).max()
        slope = np.clip(slope, -0.9 * mean / reach, 0.9 * mean / reach)
        return np.array([[mean - slope * centre, -slope], [mean, 0.1 * mean / reach]])

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """See `Law.evaluate`."""
        return vectors[:, 1:] * (vectors[:, :1] - np.log(inputs["n_params"]))

    def formula(self, values: Mapping[str, float]) -> str:
        """See `Law.formula`."""
        return f"L = {-values['a']:.3g} ln(N / {plain(format(values['N_0'], '.2g'))})"
