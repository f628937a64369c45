"""Every law of the catalog, fitted to the planted sweeps as the workflow fits them."""

from __future__ import annotations

from functools import cache
from typing import Any

import planted

from pipeline import catalog
from pipeline.fit import fit_law

LAWS = [name for name in catalog.LAWS if name != "chinchilla"]
"""The laws of the paper's figures."""


@cache
def fits(few: bool = False) -> dict[str, Any]:
    """Return law -> fit, from the planted sweeps; `few`: those as small as the test preset's, not all identified."""
    sweeps = {name: planted.sweep(name, few) for name in ("sizes", "data", "batches")}
    known: dict[str, Any] = {}
    for name in sorted(LAWS, key=lambda law: len(catalog.LAWS[law].laws)):
        known[name] = fit_law(name, sweeps, known, n_boot=40, seed=0)
    return known
