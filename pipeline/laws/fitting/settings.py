"""How a law is to be fitted: the arguments of `Law.fit`, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from .estimate import MIDDLE, OBJECTIVES, Objective
from .intervals import least_draws


@dataclass(frozen=True)
class Settings:
    """What `Law.fit` was asked for; its docstring says what each is."""

    objective: Objective
    weights: str | Sequence[float] | None
    bootstrap: str
    n_boot: int
    seed: int
    hold_out: int
    columns: dict[str, str]
    fix: dict[str, float]
    tie: dict[str, str]
    level: float


def check_objective(kind: str, delta: float, quantile: float = MIDDLE) -> Objective:
    """Return the objective, or name what is allowed."""
    if kind not in OBJECTIVES:
        raise UserError(f"objective: {kind!r} is not one of {', '.join(OBJECTIVES)}")
    if not (np.isfinite(delta) and delta > 0):
        raise UserError(f"delta: {delta} must be a positive number (in units of ln y)")
    if not 0 < quantile < 1:
        raise UserError(f"quantile (--quantile): {quantile:g} must be above 0 and below 1, such as 0.1")
    return Objective(kind, float(delta), float(quantile))


def check_bootstrap(method: str | None, n_boot: int, seed: int, level: float = 0.95, quantile: float = MIDDLE) -> str:
    """Return how runs are resampled, or name what is allowed where a setting of the bootstrap is not.

    Examples
    --------
    >>> check_bootstrap(None, 1000, 0), check_bootstrap(None, 1000, 0, quantile=0.1)
    ('wild', 'pairs')
    """
    asymmetric = quantile != MIDDLE
    method = method or ("pairs" if asymmetric else "wild")
    if method not in ("wild", "pairs"):
        raise UserError(f"bootstrap: {method!r} is not wild or pairs")
    if method == "wild" and asymmetric and n_boot:
        raise UserError(
            "bootstrap: wild gives residuals either sign alike, which is not so about a quantile; pairs is needed"
        )
    if not 0.5 <= level < 1:
        raise UserError(f"level (--level): {100 * level:g} must be a percentage from 50 to less than 100")
    if n_boot < 0 or 0 < n_boot < least_draws(level):
        raise UserError(
            f"n_boot (--n-boot): {n_boot} must be 0, for no intervals, or at least {least_draws(level)}; fewer"
            f" replicates have no {100 * level:g} % interval"
        )
    if seed < 0:
        raise UserError(f"seed (--seed): {seed} must be a whole number of 0 or more")
    return method
