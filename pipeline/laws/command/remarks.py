"""What must be said beside a number: that it lies outside of what was fitted, or can't be."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..fitting.point_table import UNITS

COUNTS = tuple(name for name in UNITS if name not in ("loss", "error"))
UNKNOWN = "range unknown: the file does not say what was fitted, so whether this extrapolates can't be told"


def impossible(column: str, value: float) -> str | None:
    """Say why a column can't have this value, or return None.

    Examples
    --------
    >>> impossible("n_params", 1.3e-4), impossible("loss", 0.1)
    ('n_params would be below 1', None)
    """
    if not np.isfinite(value):
        return f"{column} would not be a finite number"
    if value <= 0:
        return f"{column} would not be positive"
    if column in COUNTS and value < 1:
        return f"{column} would be below 1"
    return None


def record(outside: Mapping[str, float]) -> dict[str, dict[str, object]]:
    """Return, as it stands in JSON, which inputs lie outside of the fitted range and by how many decades.

    Examples
    --------
    >>> record({"n_params": -1.5, "n_tokens": 0.0})
    {'n_params': {'side': 'below', 'decades': 1.5}}
    """
    return {
        name: {"side": "above" if away > 0 else "below", "decades": abs(float(away)) if np.isfinite(away) else None}
        for name, away in outside.items()
        if away and not np.isnan(away)
    }


def sentence(outside: Mapping[str, float]) -> str | None:
    """Return the same in words; None where all inputs are inside.

    Examples
    --------
    >>> sentence({"n_params": -1.5, "n_tokens": 0.25})
    'extrapolated: n_params 1.5 decades below, n_tokens 0.25 decades above what was fitted'
    """
    parts = []
    for name, one in record(outside).items():
        far = "infinitely far" if one["decades"] is None else f"{one['decades']:.2g} decades"
        parts.append(f"{name} {far} {one['side']}")
    return f"extrapolated: {', '.join(parts)} what was fitted" if parts else None
