"""The recurrent (Universal) Transformer of Figure 17: one stack of blocks, applied `n_reuse` times.

    x = embedding[tokens] + position
    for each pass:  x += depth[pass];  x = stack(x)
    logits = norm(x) @ embedding^T

The passes share every weight but their depth embedding, which tells a pass where it is. A single pass is a plain
Transformer, without a depth embedding. Counts are the Transformer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.models.transformer import (
    blocks,
    context_flops,
    embed,
    embeddings,
    engines,
    kept_bytes,
    n_params,
    n_params_embedding,
    stack,
)
from pipeline.models.weights import Shape, Weight, embedding, norm

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.models.transformer import Weights

__all__ = ["context_flops", "engines", "hidden", "kept_bytes", "n_params", "n_params_embedding", "weights"]

NAME = "recurrent"
LEAST_LAYERS = 1
REUSES = True
KERNEL = 0  # a Transformer whose stack is applied more than once
RECOMPUTES = True
SHARDS = False
AUTOCAST_ON_CARD = True


def weights(shape: Shape) -> list[Weight]:
    """Return all weights, in the order of the Transformer's."""
    depth = [embedding("depth", shape.n_reuse, shape, role="depth")] if shape.n_reuse > 1 else []
    return [*embeddings(shape), *depth, *blocks(shape), *norm("norm", shape.d_model)]


def hidden(weights: Weights, tokens: Tensor, run: Shape, dropout: float = 0.0, recompute: bool = False) -> Tensor:
    """Return the last hidden state: (batch, time) -> (batch, time, d_model)."""
    x = embed(weights, tokens, dropout)
    for reuse in range(run.n_reuse):
        if run.n_reuse > 1:
            x = x + weights["depth"][reuse]
        x = stack(weights, x, run, dropout, recompute)
    return x
