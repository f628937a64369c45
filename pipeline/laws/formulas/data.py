"""L(D) = (D_c / D)^alpha_D, Eq 1.2 and 3.2: a large model, stopped early, on D tokens of data."""

from __future__ import annotations

from ..fitting.sum_law import SumLaw
from ..fitting.terms import Parameter, Term


class L_D(SumLaw):
    """Loss of a large model at early stopping on D tokens."""

    name = "L_D"
    equation = "1.2"
    inputs = ("n_tokens",)
    size = "n_tokens"
    parameters = (Parameter("D_c", "tokens", 5.4e13, log=True), Parameter("alpha_D", "", 0.095))
    terms = (Term("ratio", "D_c", "n_tokens", "alpha_D", "D"),)
