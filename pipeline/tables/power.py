"""How often each claim's verdict is right, wrong and open in simulated worlds, with the runs that the preset has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.claims.verdict import FAILS, HOLDS, OPEN, OUT_OF_REACH
from pipeline.power.cases import CASES, Case
from pipeline.tables.table import Table

TITLE = "What the claims' verdicts are worth: simulated experiments with the preset's own runs."

COLUMNS = ("claim", "world", "paper", "right", "wrong", "open", "out_of_reach", "open_check", "why_open")
"""Columns: paper says whether the claim is right or wrong in that world; then shares of the verdicts in percent; then
the check that was open most often, and the reason that it had most often for having no number."""

FAULT = 5.0
"""Percent of the experiments: a test that is wrong in more is to be mended (docs/paper.md, part 4)."""


def make(inputs: Inputs) -> Table:
    """Return a row a claim and world, the worlds of the paper first."""
    rows = [
        _row(int(number), CASES[name], found)
        for name, case in inputs.cases.items()
        for number, found in case["claims"].items()
    ]
    order = {name: place for place, name in enumerate(CASES)}
    rows.sort(key=lambda row: (row["claim"], order[row["case"]]))
    table = pd.DataFrame(rows, columns=[*COLUMNS, "case"])
    return Table(TITLE, table[list(COLUMNS)], (_counts(inputs), *_faults(table)))


def _row(number: int, case: Case, found: Mapping[str, Any]) -> dict[str, Any]:
    verdicts, right = found["verdicts"], case.claim is None
    total = sum(verdicts.values())
    share = {kind: round(100 * verdicts[kind] / total) for kind in verdicts}
    stuck = max(found["checks"], key=lambda check: check["open"], default=None)
    if stuck is None or not stuck["open"]:
        stuck = {"check": "", "reason": ""}
    return {
        "claim": number,
        "world": case.what,
        "paper": "right" if right else "wrong",
        "right": share[HOLDS if right else FAILS],
        "wrong": share[FAILS if right else HOLDS],
        "open": share[OPEN],
        "out_of_reach": share[OUT_OF_REACH],
        "open_check": stuck["check"],
        "why_open": stuck["reason"],
        "case": case.name,
    }


def _counts(inputs: Inputs) -> str:
    experiments, draws = ({case[key] for case in inputs.cases.values()} for key in ("experiments", "draws"))
    return (
        f"{inputs.where} {_list(experiments)} simulated experiments in each world, {_list(draws)} bootstrap draws of "
        "an interval; nothing is trained. A world is what the paper found or that with a change of one thing "
        "(pipeline/power/cases.py says by how much and why); a wrong world is for the claim that is wrong in it alone."
    )


def _faults(table: pd.DataFrame) -> list[str]:
    """Say which tests are at fault, and for which claims the design is."""
    wrong = table[table["wrong"] > FAULT]
    paper = table[table["case"] == "paper"]
    stuck = paper[paper["open"] > 50]
    beyond = paper[paper["out_of_reach"] > 50]
    return [
        f"Wrong in more than {FAULT:.0f} %, a fault of the test or of runs that mislead it: {_worlds(wrong)}.",
        f"Open in most experiments where the paper is right, a fault of the design: claims {_list(stuck['claim'])}.",
        f"Out of reach of the preset: claims {_list(beyond['claim'])}.",
    ]


def _worlds(rows: pd.DataFrame) -> str:
    found = [f"claim {row.claim} where {row.world} ({row.wrong:.0f} %)" for row in rows.itertuples()]
    return "; ".join(found) or "none"


def _list(values: Sequence[Any] | set[Any] | pd.Series) -> str:
    return ", ".join(str(value) for value in sorted(values)) or "none"
