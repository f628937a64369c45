"""The recurrent (Universal) Transformer of Figure 17, in torch: one stack of blocks, applied `n_reuse` times.

    x = embedding[tokens] + position
    for each pass:  x += depth[pass];  x = stack(x)
    logits = norm(x) @ embedding^T

The passes share every weight but their depth embedding, which tells a pass where it is.
"""

from __future__ import annotations

from torch import Tensor

from pipeline.models.transformer import Weights, embed, head, stack
from pipeline.plan.run import Run


def logits(weights: Weights, tokens: Tensor, run: Run, dropout: float = 0.0) -> Tensor:
    """Return the logits of the next token: (batch, time) -> (batch, time, n_vocab)."""
    return head(weights, hidden(weights, tokens, run, dropout))


def hidden(weights: Weights, tokens: Tensor, run: Run, dropout: float = 0.0, recompute: bool = False) -> Tensor:
    """Return the last hidden state: (batch, time) -> (batch, time, d_model)."""
    x = embed(weights, tokens, dropout)
    for reuse in range(run.n_reuse):
        if run.n_reuse > 1:  # a single pass is a plain Transformer, without a depth embedding
            x = x + weights["depth"][reuse]
        x = stack(weights, x, run, dropout, recompute)
    return x
