"""Table 2: the fit of L(N, D), Eq 1.5."""

from __future__ import annotations

from pipeline.analysis.inputs import Inputs
from pipeline.tables.table import Table, derived_row, frame, law_rows

TITLE = "Fits to L(N, D)."


def make(inputs: Inputs) -> Table:
    """Return the table; needs the law L_N_D."""
    fit = inputs.laws["L_N_D"]
    rows = law_rows("L_N_D", fit, ("alpha_N", "alpha_D", "N_c", "D_c"))
    ratio = derived_row("alpha_N / alpha_D (D ~ N^ratio)", 0.74, fit, lambda alpha_N, alpha_D, **_: alpha_N / alpha_D)
    return Table(TITLE, frame([*rows, ratio]), (f"{inputs.where} Intervals: bootstrap over runs, 95 %.",))
