"""The decoder-only Transformer of the paper (docs/paper.md, section 1.2).

    x = embedding[tokens] + position
    for each block:  x += attention(norm(x));  x += down(gelu(up(norm(x))))
    logits = norm(x) @ embedding^T

Pre-norm, learned positions, tied de-embedding, no biases but the norms', GELU in its tanh form. Dropout on the sum of
the embeddings and on the output of both branches. Weights are (inputs, outputs) matrices: y = x @ W. The columns of
'qkv' are [q | k | v], and head h owns columns h d_head to (h + 1) d_head of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pipeline.models.weights import Normal, Shape, Sinusoids, Weight, embedding
from pipeline.models.weights import norm as norm_weights

if TYPE_CHECKING:
    from torch import Tensor

    Weights = Mapping[str, Tensor]

NAME = "transformer"
LEAST_LAYERS = 0  # embedding, final norm and de-embedding
REUSES = False
KERNEL = 0
RECOMPUTES = True
SHARDS = True
AUTOCAST_ON_CARD = True
NORM_EPS = 1e-5
BLOCK = ("norm1.gain", "norm1.bias", "qkv", "out", "norm2.gain", "norm2.bias", "up", "down")
"""Weights of a block."""


def engines(shape: Shape) -> tuple[str, ...]:
    """See `Family`."""
    return ("native", "torch")


# Weights and counts


def weights(shape: Shape) -> list[Weight]:
    """Return all weights. The de-embedding is the embedding transposed.

    Hidden matrices start with a standard deviation of inputs^-1/2; the outputs of the two residual branches ('out',
    'down') are divided further by sqrt(2 n_layer n_reuse), so that the residual stream keeps its size with depth.
    """
    return [*embeddings(shape), *blocks(shape), *norm_weights("norm", shape.d_model)]


def embeddings(shape: Shape) -> list[Weight]:
    """Return the embeddings of tokens and positions."""
    position = embedding("position", shape.n_ctx, shape)
    if shape.position_sinusoids:
        position = Weight(position.name, position.shape, Sinusoids(shape.position_sinusoids), position.role)
    return [embedding("embedding", shape.n_vocab, shape), position]


def blocks(shape: Shape) -> list[Weight]:
    """Return the weights of every block."""
    d, d_ff = shape.d_model, shape.d_ff
    residual = 1 / math.sqrt(max(2 * shape.n_layer * shape.n_reuse, 1))

    def matrix(name: str, inputs: int, outputs: int, scale: float = 1.0) -> Weight:
        return Weight(name, (inputs, outputs), Normal(scale / math.sqrt(inputs)), "matrix")

    found: list[Weight] = []
    for number in range(shape.n_layer):
        name = f"block.{number}"
        found += [
            *norm_weights(f"{name}.norm1", d),
            matrix(f"{name}.qkv", d, 3 * d),
            matrix(f"{name}.out", d, d, residual),
            *norm_weights(f"{name}.norm2", d),
            matrix(f"{name}.up", d, d_ff),
            matrix(f"{name}.down", d_ff, d, residual),
        ]
    return found


def n_params(shape: Shape) -> int:
    """Return N = 2 d n_layer (2 d + d_ff), Eq 2.1 with d_attn = d_model = d."""
    return 2 * shape.d_model * shape.n_layer * (2 * shape.d_model + shape.d_ff)


def n_params_embedding(shape: Shape) -> int:
    """Return (n_vocab + n_ctx) d."""
    return (shape.n_vocab + shape.n_ctx) * shape.d_model


def context_flops(shape: Shape) -> int:
    """Return 2 n_layer n_ctx d a token, as often as the stack is applied (Eq 2.2)."""
    return 2 * shape.n_layer * shape.n_reuse * shape.n_ctx * shape.d_model


def kept_bytes(shape: Shape, width: int) -> int:
    """Return the bytes a token that a block keeps: its two inputs in float32, and in `width` bytes a number two norms,
    q, k, v, the attention's result, the up-projection and its GELU; with dropout two masks.
    """
    d = shape.d_model
    return 2 * 4 * d + width * (7 * d + 2 * shape.d_ff) + (2 * d if shape.dropout else 0)


# The forward pass, in torch


def hidden(weights: Weights, tokens: Tensor, run: Shape, dropout: float = 0.0, recompute: bool = False) -> Tensor:
    """Return the last hidden state: (batch, time) -> (batch, time, d_model).

    With `recompute`, the backward pass makes the activations inside each block again instead of keeping them.
    """
    return stack(weights, embed(weights, tokens, dropout), run, dropout, recompute)


def embed(weights: Weights, tokens: Tensor, dropout: float) -> Tensor:
    """Return the sum of token and position embeddings: (batch, time) -> (batch, time, d_model)."""
    from torch.nn import functional as F

    x = F.embedding(tokens, weights["embedding"]) + weights["position"][: tokens.shape[1]]
    return F.dropout(x, dropout)


def stack(weights: Weights, x: Tensor, run: Shape, dropout: float, recompute: bool = False) -> Tensor:
    """Apply every block once."""
    for number in range(run.n_layer):
        own = {name: weights[f"block.{number}.{name}"] for name in BLOCK}
        x = repeatable(block, own, x, run, dropout, random=dropout > 0) if recompute else block(own, x, run, dropout)
    return x


def block(own: Weights, x: Tensor, run: Shape, dropout: float) -> Tensor:
    """Apply one block, whose weights are named as in `BLOCK`."""
    from torch.nn import functional as F

    x = x + F.dropout(attention(norm(own, "norm1", x), own["qkv"], own["out"], run), dropout)
    up = F.gelu(norm(own, "norm2", x) @ own["up"], approximate="tanh")
    return x + F.dropout(up @ own["down"], dropout)


def repeatable(function: Callable[..., Tensor], *arguments: object, random: bool = False) -> Tensor:
    """Call a function whose activations are not kept but made again in the backward pass.

    `random` says that it draws numbers, the same ones twice: that can't be part of a CUDA graph.
    """
    from torch.utils.checkpoint import checkpoint

    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=random)


def attention(x: Tensor, qkv: Tensor, out: Tensor, run: Shape) -> Tensor:
    """Return causal self-attention with `n_head` heads: (batch, time, d_model) -> the same."""
    from torch.nn import functional as F

    batch, time, width = x.shape
    q, k, v = (
        part.view(batch, time, run.n_head, width // run.n_head).transpose(1, 2)  # (batch, head, time, d_head)
        for part in (x @ qkv).split(width, dim=-1)
    )
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).reshape(batch, time, width) @ out


def norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Return the layer norm of x with the gain and bias of that name."""
    from torch.nn import functional as F

    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.gain"], weights[f"{name}.bias"], NORM_EPS)


def head(weights: Weights, x: Tensor) -> Tensor:
    """Return the logits from the last hidden state, for every family: the final norm and the embedding transposed."""
    return norm(weights, "norm", x) @ weights["embedding"].T
