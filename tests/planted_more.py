"""Every law of the catalog, fitted to the planted sweeps as the workflow fits them."""

from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd
import planted

from pipeline.analysis.fit import fit_law
from pipeline.analysis.inputs import Inputs
from pipeline.plan import catalog

LAWS = [name for name in catalog.LAWS if name != "chinchilla"]
"""The laws of the paper's figures."""


def fits(few: bool = False) -> dict[str, Any]:
    """Return law -> fit, from the planted sweeps; `few`: those as small as the test preset's, not all identified."""
    return {name: fit for name, (fit, _) in _fitted(few).items()}


def points(few: bool = False) -> dict[str, pd.DataFrame]:
    """Return law -> the points that `fits` are fitted to, with residuals."""
    return {name: rows for name, (_, rows) in _fitted(few).items()}


@cache
def _fitted(few: bool) -> dict[str, tuple[Any, pd.DataFrame]]:
    sweeps = {name: planted.sweep(name, few) for name in ("sizes", "data", "batches")}
    known: dict[str, tuple[Any, pd.DataFrame]] = {}
    for name in sorted(LAWS, key=lambda law: len(catalog.LAWS[law].laws)):
        known[name] = fit_law(
            name, Inputs.of(sweeps, laws={law: fit for law, (fit, _) in known.items()}), n_boot=40, seed=0
        )
    return known
