"""L(C) at a fixed batch (Eq 3.3, naive) and L(C_min) at the best size and a small batch (Eq 1.3 and 6.3)."""

from __future__ import annotations

from ...units import PF_DAY
from ..fitting.sum_law import SumLaw
from ..fitting.terms import Parameter, Term


class L_C(SumLaw):
    """Loss of the best size for a training compute C at a fixed batch size."""

    name = "L_C"
    equation = "3.3"
    inputs = ("flops",)
    size = "flops"
    parameters = (Parameter("C_c", "FLOP", 1.6e7 * PF_DAY, log=True), Parameter("alpha_C", "", 0.057))
    terms = (Term("ratio", "C_c", "flops", "alpha_C", "C"),)


class L_C_min(SumLaw):
    """Loss of the best size for the least compute C_min that reaches it."""

    name = "L_C_min"
    equation = "1.3"
    inputs = ("flops",)
    size = "flops"
    parameters = (Parameter("C_c_min", "FLOP", 3.1e8 * PF_DAY, log=True), Parameter("alpha_C_min", "", 0.050))
    terms = (Term("ratio", "C_c_min", "flops", "alpha_C_min", "C_min"),)
