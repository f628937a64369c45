"""L(N, S_min) = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S, Eq 1.6 and 5.6: learning curves with unlimited data.

`steps` is S_min, the steps at a batch far above the critical one (`efficiency.minimum_steps`, Eq 5.4).
"""

from __future__ import annotations

from ..fitting.sum_law import SumLaw
from ..fitting.terms import Parameter, Term


class L_N_S(SumLaw):
    """Loss of N parameters after S_min steps; points are taken after the warmup."""

    name = "L_N_S"
    equation = "1.6"
    inputs = ("n_params", "steps")
    size = "n_params"
    parameters = (
        Parameter("N_c", "parameters", 6.5e13, log=True),
        Parameter("alpha_N", "", 0.077),
        Parameter("S_c", "steps", 2.1e3, log=True),
        Parameter("alpha_S", "", 0.76),
    )
    terms = (Term("ratio", "N_c", "n_params", "alpha_N", "N"), Term("ratio", "S_c", "steps", "alpha_S", "S_min"))
