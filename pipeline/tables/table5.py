"""Table 5: the power laws' exponents and scales; rows whose law was not fitted have the paper's values only."""

from __future__ import annotations

from pipeline.analysis.inputs import Inputs
from pipeline.laws import FORMULAS
from pipeline.tables.table import Table, frame, law_rows

TITLE = "Exponents and scales of the power laws."

ROWS = (
    ("L_N", ("alpha_N", "N_c")),
    ("L_D", ("alpha_D", "D_c")),
    ("L_C", ("alpha_C", "C_c")),
    ("L_C_min", ("alpha_C_min", "C_c_min")),
    ("B_crit", ("alpha_B", "B_star")),
    ("L_N_S", ("alpha_S", "S_c")),
)
"""Law -> its parameters, in the paper's order."""


def make(inputs: Inputs) -> Table:
    """Return the table; takes whichever of the laws are given."""
    rows = [
        row
        for law, parameters in ROWS
        if law in inputs.laws or law in FORMULAS
        for row in law_rows(law, inputs.laws.get(law), parameters)
    ]
    return Table(TITLE, frame(rows), (f"{inputs.where} Intervals: bootstrap over runs, 95 %.",))
