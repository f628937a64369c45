"""The claims of the paper, each with the checks that test it; see `pipeline.claims.verdict` for how they decide.

A group of claims is a module. Each check is a small pure function of sweeps, evaluations and laws; thresholds are
constants with their source. Numbers are those of docs/paper.md, part 4, which has the source of every threshold.
"""

from __future__ import annotations

from pipeline.claims import batch, compute, overfitting, power_laws, shape, text, training
from pipeline.claims.verdict import VERDICTS, Claim, Verdict

CLAIMS: tuple[Claim, ...] = tuple(
    sorted(
        (claim for group in (power_laws, shape, text, overfitting, batch, compute, training) for claim in group.CLAIMS),
        key=lambda claim: claim.number,
    )
)
"""Every claim, in the paper's order."""

__all__ = ["CLAIMS", "VERDICTS", "Claim", "Verdict"]
