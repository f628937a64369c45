"""The loss on other text: the test loss and a constant, each text its own (Figures 8 and 24)."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

from pipeline.plan.run import Run

NEAREST, FARTHEST = 0.2, 0.8
"""Nats between which the offsets of texts lie."""
SEEN = 0.02
"""Nats by which training text has a lower loss than test text."""


@dataclass(frozen=True)
class Transfer:
    """What the loss on other text depends on besides the test loss: nothing, says the paper.

    Parameters
    ----------
    slope : float
        Nats on the other text for one on the test text, over all that is trained.
    phase : float
        Nats that a model in training has more than a finished one of the same test loss.
    depth : float
        Nats in a decade of layers, from two on.
    """

    slope: float = 1.0
    phase: float = 0.0
    depth: float = 0.0

    def offset(self, corpus: str, mean: float, run: Run, final: bool) -> float:
        """Return what the loss on a corpus is above the test loss `mean`, nats per token.

        Examples
        --------
        >>> run = Run(tokens="t", n_layer=2, d_model=64, n_vocab=256, n_steps=9, lr=0.01)
        >>> other = Transfer(slope=1.5)
        >>> round(other.offset("books", 3.0, run, True) - other.offset("books", 4.0, run, True), 6)
        -0.5
        """
        if corpus in ("test", "train"):
            return -SEEN if corpus == "train" else 0.0
        constant = NEAREST + (FARTHEST - NEAREST) * zlib.crc32(corpus.encode()) / 2**32
        more = (self.slope - 1) * (mean - 3.0) + self.phase * (not final)
        return constant + more + self.depth * math.log10(max(run.n_layer, 1) / 2)
