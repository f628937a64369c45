"""Table 3: the fit of L(N, S), Eq 5.6."""

from __future__ import annotations

from pipeline.analysis.inputs import Inputs
from pipeline.tables.table import Table, derived_row, frame, law_rows

TITLE = "Fits to L(N, S)."


def make(inputs: Inputs) -> Table:
    """Return the table; needs the law L_N_S."""
    fit = inputs.laws["L_N_S"]
    rows = law_rows("L_N_S", fit, ("alpha_N", "alpha_S", "N_c", "S_c"))
    stop = derived_row(
        "alpha_N / alpha_S (stop so far above the converged loss)",
        0.10,
        fit,
        lambda alpha_N, alpha_S, **_: alpha_N / alpha_S,
    )
    return Table(TITLE, frame([*rows, stop]), (f"{inputs.where} Intervals: bootstrap over runs, 95 %.",))
