"""Table 6: the best size, steps, data and batch for a least compute C_min, y = k (C_min / PF-day)^p."""

from __future__ import annotations

from pipeline.analysis.inputs import Inputs
from pipeline.tables.table import Table, frame, law_rows

TITLE = "Trends of the best parameters with the least compute C_min."

ROWS = {"N_opt_min": "N", "B_opt_min": "B", "S_opt_min": "S_min", "D_opt_min": "D"}
"""Law -> its symbol."""


def make(inputs: Inputs) -> Table:
    """Return the table; takes whichever of the laws are given."""
    rows = [
        row | {"quantity": f"{symbol}: {row['quantity']}"}
        for law, symbol in ROWS.items()
        for row in law_rows(law, inputs.laws.get(law), ("p", "k"))
    ]
    return Table(
        TITLE,
        frame(rows),
        (
            f"{inputs.where} Intervals: bootstrap over runs, 95 %.",
            "y = k (C_min / PF-day)^p: one PF-day is far outside the range of our runs. B is the critical batch at the "
            "loss of C_min, D = 2 B S_min.",
        ),
    )
