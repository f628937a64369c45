"""How large things are on a text: losses, steps, batches and data sets, by the size of the vocabulary.

Exponents are a claim's matter, scales are not: the paper says that they follow tokenizer and text. Two experiments are
known, one of this repository on 1,024 entries and the paper's own on 50,257. Others lie on the line through them, in
the logarithms of both the vocabulary and the scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Scales:
    """What a world's constants are set by."""

    converged: float
    """L(N, inf) of 1e5 parameters, nats per token."""
    limited: float
    """L(inf, D) of 1e6 tokens, nats per token."""
    steps: float
    """S_c, steps."""
    batch: float
    """B_crit at the loss `converged`, tokens."""
    one_layer: float
    """N at which a model of one layer is as good as one of two."""


KNOWN = {
    # News and Wikipedia: (2, 64) after 1 to 8 million tokens, (2, 128) on small data sets, batch scans of (2, 32).
    1024: Scales(converged=3.36, limited=3.45, steps=33.0, batch=4.0e4, one_layer=3e3),
    # Tables 2 and 3, Figure 10, and N_opt of Table 6 at 1e-5 PF-days, where the paper sees the bump.
    50_257: Scales(converged=4.70, limited=5.58, steps=2.1e3, batch=1.2e5, one_layer=2.9e5),
}
"""Vocabulary -> scales that were measured."""


def scales(vocabulary: int) -> Scales:
    """Return the scales on a text of a vocabulary.

    Examples
    --------
    >>> [round(scales(vocabulary).converged, 2) for vocabulary in (512, 1024, 50_257)]
    [3.17, 3.36, 4.7]
    """
    (small, one), (large, other) = sorted(KNOWN.items())
    part = math.log(vocabulary / small) / math.log(large / small)
    return Scales(
        **{
            field.name: getattr(one, field.name) ** (1 - part) * getattr(other, field.name) ** part
            for field in fields(Scales)
        }
    )
