"""Table 4: the regimes in which each law is fitted, the paper's beside those of our runs.

Our side is counted from the runs: parameters, unique tokens, steps and batches of those that a law was fitted to.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.laws import Fit
from pipeline.tables.table import Table, text

TITLE = "Parameters, data, compute and batch of each law."

PAIRS = ("parameters", "data", "compute", "batch")
COLUMNS = ("law", *(name for pair in PAIRS for name in (f"{pair}_paper", pair)), "note")
"""Columns: the paper's regime, then ours, of each."""


@dataclass(frozen=True)
class Regime:
    """A row of the paper's table."""

    law: str
    name: str
    """Name of the law in `pipeline.plan.catalog`."""
    sweep: str
    parameters: str
    data: str
    compute: str
    batch: str


REGIMES = (
    Regime("L(N)", "L_N", "sizes", "N", "infinite", "infinite", "fixed"),
    Regime("L(D)", "L_D", "data", "infinite", "D", "early stop", "fixed"),
    Regime("L(C), naive", "L_C", "sizes", "optimal", "infinite", "C", "fixed"),
    Regime("L(C_min)", "L_C_min", "sizes", "optimal", "optimal", "C_min", "far below B_crit"),
    Regime("L(N, D)", "L_N_D", "data", "N", "D", "early stop", "fixed"),
    Regime("L(N, S)", "L_N_S", "sizes", "N", "infinite", "S steps", "B"),
)


def make(inputs: Inputs) -> Table:
    """Return a row a law; needs the sweeps sizes and data, and takes whichever of the laws are given."""
    rows = [_row(regime, inputs.sweeps[regime.sweep], inputs.laws.get(regime.name)) for regime in REGIMES]
    notes = (
        f"{inputs.where} Columns in pairs: the paper's regime, then the runs that our law was fitted to.",
        "Not one of ours is infinite: data are called so when the training sees them less than once or little more, "
        "compute when it is all that a run had.",
    )
    return Table(TITLE, pd.DataFrame(rows, columns=list(COLUMNS)), notes)


def _row(regime: Regime, sweep: pd.DataFrame, fit: Fit | None) -> dict[str, str]:
    row = {
        "law": regime.law,
        "parameters_paper": regime.parameters,
        "data_paper": regime.data,
        "compute_paper": regime.compute,
        "batch_paper": regime.batch,
    }
    if fit is None:
        return row | {"note": "not fitted here"}
    note = "" if fit.identified else f"not identified: {fit.reason}"
    runs = sweep[sweep["run"].isin(fit.runs) & sweep["final"]]
    if runs.empty:
        return row | {"note": note or f"its runs are not in the sweep {regime.sweep}"}
    early = regime.compute == "early stop"
    return row | {
        "parameters": span(runs["n_params"]),
        "data": f"{span(runs['n_unique_tokens'])} tokens, {span(runs['epochs'].round(1))} times",
        "compute": f"{span(runs['step'])} steps{' to the early stop' if early else ''}",
        "batch": f"{span(runs['batch_tokens'])} tokens",
        "note": note,
    }


def span(values: pd.Series) -> str:
    """Write the range of a column.

    Examples
    --------
    >>> span(pd.Series([24576, 393216])), span(pd.Series([1024, 1024]))
    ('24,576 to 393,216', '1,024')
    """
    low, high = (text(value if float(value) != int(value) else int(value)) for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
