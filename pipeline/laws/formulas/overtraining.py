"""L = E + (a M^eta + b M^-eta) C^-eta: Gadre et al. 2024, models trained on M tokens a parameter with compute C.

With C = 6 N D and M = D / N it is chinchilla with one exponent, 2 eta, for the size and the data:
C / M = 6 N^2 and C M = 6 D^2.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ..fitting.estimate import Array
from ..fitting.forms import PowerSum
from ..fitting.sum_law import SumLaw
from ..fitting.terms import Parameter, Term, plain


class Overtraining(SumLaw):
    """Loss of N parameters trained on D tokens, in the form of Gadre et al.: their fit is least squares of the loss."""

    name = "gadre"
    equation = "Gadre et al. 2024, Eq 4"
    inputs = ("n_params", "n_tokens")
    size = "n_params"
    objective = "mse"
    parameters = (
        Parameter("E", "nats per token", log=True),
        Parameter("a", "nats per token", log=True),
        Parameter("b", "nats per token", log=True),
        Parameter("eta"),
    )
    terms = (
        Term("constant", "E"),
        Term("coefficient", "a", "C / M", "eta"),
        Term("coefficient", "b", "C M", "eta"),
    )

    def model(self, points: pd.DataFrame) -> PowerSum:
        """See `Law.model`."""
        return super().model(pd.DataFrame(ratios({name: points[name].to_numpy() for name in self.inputs})))

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """See `Law.evaluate`."""
        return super().evaluate(vectors, ratios(inputs))

    def formula(self, values: Mapping[str, float]) -> str:
        """See `Law.formula`."""
        a, b = (plain(format(values[name], ".3g")) for name in ("a", "b"))
        e, eta = format(values["E"], ".3g"), format(values["eta"], ".3g")
        return f"L = {e} + ({a} M^{eta} + {b} M^-{eta}) C^-{eta}"


def ratios(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return C / M and C M of N and D.

    Examples
    --------
    >>> ratios({"n_params": 2.0, "n_tokens": 10.0})
    {'C / M': 24.0, 'C M': 600.0}
    """
    return {"C / M": 6 * inputs["n_params"] ** 2, "C M": 6 * inputs["n_tokens"] ** 2}
