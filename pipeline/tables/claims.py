"""The 22 claims of the paper: what decides each, our number, and the verdict that follows from it."""

from __future__ import annotations

import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.claims import CLAIMS
from pipeline.claims.verdict import VERDICTS
from pipeline.tables.table import Table

TITLE = "The paper's claims, tested."

COLUMNS = ("claim", "statement", "test", "paper", "quantity", "ours", "low", "high", "verdict", "reason", "price")
"""Columns: quantity is what `ours` is, low and high are the ends of its 95 % interval, price says what would decide."""


def make(inputs: Inputs) -> Table:
    """Return a row a claim; whatever sweep, evaluation or law is not given leaves its claims open."""
    verdicts = [claim.decide(inputs) for claim in CLAIMS]
    table = pd.DataFrame([{name: getattr(verdict, name) for name in COLUMNS} for verdict in verdicts])
    table = table.astype(dict.fromkeys(("ours", "low", "high"), float))
    counts = [f"{kind} {sum(verdict.verdict == kind for verdict in verdicts)}" for kind in VERDICTS]
    return Table(
        TITLE,
        table,
        (
            f"{inputs.where} Of {len(verdicts)} claims: {', '.join(counts)}.",
            "A claim holds when the 95 % interval of each of its numbers lies within what is asked; it does not hold "
            "at this scale when one lies outside; otherwise it cannot be decided here, and `price` says what would "
            "decide it: an interval halves with four times the runs. A claim that asks for a range of size, compute or "
            "context which the preset does not have is out of its reach, whatever the numbers.",
        ),
    )
