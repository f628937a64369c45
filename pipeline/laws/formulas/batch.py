"""B_crit(L) = B_* / L^(1 / alpha_B), Eq 1.4 and 5.3: the critical batch size depends on the loss alone."""

from __future__ import annotations

from pipeline.laws.fitting.sum_law import SumLaw
from pipeline.laws.fitting.terms import Parameter, Term


class B_crit(SumLaw):
    """Critical batch size, in tokens, at a loss L."""

    name = "B_crit"
    equation = "1.4"
    inputs = ("loss",)
    response = "b_crit"
    size = "b_crit"
    parameters = (Parameter("B_star", "tokens", 2.0e8, log=True), Parameter("alpha_B", "", 0.21))
    terms = (Term("coefficient", "B_star", "loss", "alpha_B", "L", reciprocal=True),)
    symbol = "B_crit"
