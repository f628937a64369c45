"""L(T) = a + b T^-c, Figure 20: the loss of the T-th token of the context."""

from __future__ import annotations

from ..fitting.sum_law import SumLaw
from ..fitting.terms import Parameter, Term


class Position(SumLaw):
    """Loss per token against its place in the context, from 1; the paper's values are those of its largest model."""

    name = "position"
    equation = "Figure 20"
    inputs = ("position",)
    size = "position"
    parameters = (
        Parameter("a", "nats per token", 2.3, log=True),
        Parameter("b", "nats per token", 5.4, log=True),
        Parameter("c", "", 0.62),
    )
    terms = (Term("constant", "a"), Term("coefficient", "b", "position", "c", "T"))
