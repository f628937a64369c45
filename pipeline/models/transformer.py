"""The decoder-only Transformer of the paper (PAPER 1.2), in torch.

    x = embedding[tokens] + position
    for each block:  x += attention(norm(x));  x += down(gelu(up(norm(x))))
    logits = norm(x) @ embedding^T

Pre-norm, learned positions, tied de-embedding, no biases but the norms', GELU in its tanh form. Dropout on the sum of
the embeddings and on the output of both branches. Weights are (inputs, outputs) matrices, named as in `layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pipeline.plan.run import Run

Weights = Mapping[str, Tensor]
NORM_EPS = 1e-5
BLOCK = ("norm1.gain", "norm1.bias", "qkv", "out", "norm2.gain", "norm2.bias", "up", "down")
"""Weights of a block."""


def logits(weights: Weights, tokens: Tensor, run: Run, dropout: float = 0.0) -> Tensor:
    """Return the logits of the next token: (batch, time) -> (batch, time, n_vocab)."""
    return head(weights, hidden(weights, tokens, run, dropout))


def hidden(weights: Weights, tokens: Tensor, run: Run, dropout: float = 0.0, recompute: bool = False) -> Tensor:
    """Return the last hidden state: (batch, time) -> (batch, time, d_model).

    With `recompute`, the backward pass makes the activations inside each block again instead of keeping them.
    """
    return stack(weights, embed(weights, tokens, dropout), run, dropout, recompute)


def embed(weights: Weights, tokens: Tensor, dropout: float) -> Tensor:
    """Return the sum of token and position embeddings: (batch, time) -> (batch, time, d_model)."""
    x = F.embedding(tokens, weights["embedding"]) + weights["position"][: tokens.shape[1]]
    return F.dropout(x, dropout)


def stack(weights: Weights, x: Tensor, run: Run, dropout: float, recompute: bool = False) -> Tensor:
    """Apply every block once."""
    for number in range(run.n_layer):
        own = {name: weights[f"block.{number}.{name}"] for name in BLOCK}
        x = repeatable(block, own, x, run, dropout, random=dropout > 0) if recompute else block(own, x, run, dropout)
    return x


def block(own: Weights, x: Tensor, run: Run, dropout: float) -> Tensor:
    """Apply one block, whose weights are named as in `BLOCK`."""
    x = x + F.dropout(attention(norm(own, "norm1", x), own["qkv"], own["out"], run), dropout)
    up = F.gelu(norm(own, "norm2", x) @ own["up"], approximate="tanh")
    return x + F.dropout(up @ own["down"], dropout)


def repeatable(function: Callable[..., Tensor], *arguments: object, random: bool = False) -> Tensor:
    """Call a function whose activations are not kept but made again in the backward pass.

    `random` says that it draws numbers, the same ones twice: that can't be part of a CUDA graph.
    """
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=random)


def attention(x: Tensor, qkv: Tensor, out: Tensor, run: Run) -> Tensor:
    """Return causal self-attention with `n_head` heads: (batch, time, d_model) -> the same."""
    batch, time, width = x.shape
    q, k, v = (
        part.view(batch, time, run.n_head, width // run.n_head).transpose(1, 2)  # (batch, head, time, d_head)
        for part in (x @ qkv).split(width, dim=-1)
    )
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).reshape(batch, time, width) @ out


def norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Return the layer norm of x with the gain and bias of that name."""
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.gain"], weights[f"{name}.bias"], NORM_EPS)


def head(weights: Weights, x: Tensor) -> Tensor:
    """Return the logits from the last hidden state: the final norm and the embedding transposed."""
    return norm(weights, "norm", x) @ weights["embedding"].T
