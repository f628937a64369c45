"""What would decide an open check: how many more runs of which kind, and what they cost.

An interval halves with four times the runs. So the runs must be multiplied by the square of how often the distance
from the number to an end of its range goes into the half of the interval that crosses that end. That holds for errors
from noise alone: a number that sits on an end of its range has no price.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.plan import cost
from pipeline.plan.run import Run

COSTS = (
    *("family", "n_layer", "d_model", "n_head", "d_ff", "n_ctx", "n_vocab", "n_reuse", "batch_sequences", "n_steps"),
    "precision",
)
"""Columns that a run's cost follows from."""
MOST = 100.0
"""More than so many times the runs is no price: the number is at an end of its range (docs/paper.md, part 4)."""


def factor(value: float, low: float, high: float, least: float, most: float) -> float:
    """Return by how much the runs must be multiplied until the interval lies where its value does, inside or outside.

    Examples
    --------
    Of 0 to 1, 0.9 (0.7 to 1.1) crosses the end by twice the distance; 1.2 (0.9 to 1.5) is outside by two thirds of it:

    >>> round(factor(0.9, 0.7, 1.1, 0.0, 1.0), 2), round(factor(1.2, 0.9, 1.5, 0.0, 1.0), 2)
    (4.0, 2.25)
    """
    if value < least:
        needed = [(high - value, least - value)]
    elif value > most:
        needed = [(value - low, value - most)]
    else:
        needed = [(value - low, value - least), (high - value, most - value)]
    return max(1.0, *((half / distance if distance > 0 else math.inf) ** 2 for half, distance in needed))


def price(what: str, times: float, tables: Mapping[str, pd.DataFrame]) -> tuple[float, str]:
    """Return the core-seconds of more runs of some sweeps, and what they are in words.

    Parameters
    ----------
    what : str
        The number in words.
    times : float
        How many times the runs are needed that there are.
    tables : mapping of str to DataFrame
        The sweeps that the number rests on, or their evaluations.
    """
    if times > MOST:
        return math.inf, f"no number of runs like these, since it lies at an end of its range: {what}"
    parts, total = [], 0.0
    for name, table in tables.items():
        runs = table.drop_duplicates("run")
        more = math.ceil((times - 1) * len(runs))
        parts.append(f"{more} more {'run' if more == 1 else 'runs'} like those of {name}")
        total += more * sum(map(seconds, runs.to_dict("records"))) / len(runs)
    return total, f"about {' and '.join(parts)} ({_minutes(total)}): {what}"


def seconds(row: Mapping[str, Any]) -> float:
    """Return what a run costs on one core, from its row in a sweep table."""
    return cost.seconds(Run(tokens="", lr=row["lr_peak"], **{name: row[name] for name in COSTS}))


def _minutes(total: float) -> str:
    """Write core-seconds.

    Examples
    --------
    >>> _minutes(754.0), _minutes(86_400.0)
    ('13 core-minutes', '24 core-hours')
    """
    minutes = total / 60
    return f"{minutes:.0f} core-minutes" if minutes < 600 else f"{minutes / 60:,.0f} core-hours"
