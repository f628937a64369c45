"""y = k x^p with any columns, and the paper's trends of the optimum: N, S, B and D against C or C_min.

C is in units of a PF-day there, so k is the value at one PF-day.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ...errors import UserError
from ...units import PF_DAY
from ..fitting.point_table import UNITS
from ..fitting.sum_law import SumLaw
from ..fitting.terms import Parameter, Term


class Power(SumLaw):
    """A straight line in log-log; p may have any sign.

    Parameters
    ----------
    name, equation : str
    x, y : str
        The columns.
    k, p : float, optional
        The paper's values.
    reference : float
        x is taken in units of this.
    """

    signed = True

    def __init__(
        self,
        name: str = "power",
        equation: str = "y = k x^p",
        x: str = "x",
        y: str = "y",
        k: float | None = None,
        p: float | None = None,
        reference: float = 1.0,
    ) -> None:
        self.name, self.equation = name, equation
        self.inputs, self.response, self.size = (x,), y, x
        self.symbol = {"n_params": "N", "steps": "S", "batch_tokens": "B", "n_tokens": "D"}.get(y, y)
        written = "(C / PF-day)" if reference == PF_DAY else x
        self.parameters = (Parameter("k", UNITS.get(y, ""), k, log=True), Parameter("p", "", p))
        self.terms = (Term("coefficient", "k", x, "p", written, sign=-1, reference=reference),)


TRENDS = (
    Power("N_opt", "Figure 14", "flops", "n_params", 1.6e9, 0.88, PF_DAY),
    Power("S_opt", "Figure 14", "flops", "steps", reference=PF_DAY),
    Power("N_opt_min", "6.1", "flops", "n_params", 1.3e9, 0.73, PF_DAY),
    Power("S_opt_min", "6.2", "flops", "steps", 5.4e3, 0.03, PF_DAY),
    Power("B_opt_min", "Table 6", "flops", "batch_tokens", 2.0e6, 0.24, PF_DAY),
    Power("D_opt_min", "6.7", "flops", "n_tokens", 2e10, 0.27, PF_DAY),
)
"""The paper's trends: at a fixed batch (of which it states N alone), and in C_min (Table 6)."""


class PowerPlusConstant(SumLaw):
    """y = E + A / x^alpha (Henighan et al. 2020), with x any of the columns that a loss depends on."""

    name = "power_plus_constant"
    equation = "Henighan et al. 2020, Eq 1.1"
    inputs = ("x",)
    size = "x"
    parameters = (
        Parameter("E", "nats per token", log=True),
        Parameter("A", "nats per token", log=True),
        Parameter("alpha"),
    )
    terms = (Term("constant", "E"), Term("coefficient", "A", "x", "alpha", "x"))
    candidates = ("n_params", "n_tokens", "flops", "steps", "position")

    def choose_columns(self, points: pd.DataFrame, columns: Mapping[str, str] | None) -> dict[str, str]:
        """See `Law.choose_columns`: x is the one column that the caller names or the table has.

        Examples
        --------
        >>> PowerPlusConstant().choose_columns(pd.DataFrame({"flops": [1.0], "loss": [2.0]}), None)
        {'x': 'flops'}
        """
        chosen = dict(columns or {})
        if "x" in chosen or "x" in points:
            return chosen
        named = [name for name in self.candidates if name in chosen]
        found = named or [name for name in self.candidates if name in points]
        if len(found) != 1:
            have = ", ".join(found) or "none of them"
            raise UserError(
                f"{self.name}: x must be one of {', '.join(self.candidates)}; the table has {have};"
                " name it with --column x=NAME"
            )
        return {**{k: v for k, v in chosen.items() if k != found[0]}, "x": chosen.get(found[0], found[0])}
