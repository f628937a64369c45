"""The LSTM language model of Figure 7.

    x = lstm(embedding[tokens] / embedding_std)      hidden size d_model, state zero at the start of a window
    for each further layer:  x = x + lstm(x)
    logits = norm(x) @ embedding^T

The input has unit variance at the start: embeddings that suit the de-embedding are far below what opens a gate. Layers
from the second on add to their input: without that, four layers learn far more slowly than two. An LSTM's output lies
in (-1, 1); the norm before the tied de-embedding gives it the scale that the Transformers have, so that both families
start from the same loss. Dropout on the input, between layers and before the norm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.models.weights import Constant, Normal, Shape, Weight, embedding, norm

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.models.transformer import Weights

NAME = "lstm"
LEAST_LAYERS = 1
REUSES = False
KERNEL = 1
RECOMPUTES = False
SHARDS = False
AUTOCAST_ON_CARD = False  # torch's LSTM on a card takes float16 for it


def engines(shape: Shape) -> tuple[str, ...]:
    """See `Family`; the kernel has no dropout for LSTMs."""
    return ("torch",) if shape.dropout else ("native", "torch")


# Weights and counts


def weights(shape: Shape) -> list[Weight]:
    """Return all weights: four gates a layer (input, forget, cell, output), each with two d x d matrices and a bias.

    Both matrices of a layer feed one sum, so their standard deviation is (2 d)^-1/2. The forget gate's bias starts at
    1: a cell that forgets half of its state each token learns nothing long.
    """
    d = shape.d_model
    gates = Normal((2 * d) ** -0.5)
    found = [embedding("embedding", shape.n_vocab, shape)]
    for layer in range(shape.n_layer):
        found += [
            Weight(f"lstm.{layer}.input", (d, 4 * d), gates, "matrix"),
            Weight(f"lstm.{layer}.recurrent", (d, 4 * d), gates, "matrix"),
            Weight(f"lstm.{layer}.bias", (4 * d,), Constant((0.0, 1.0, 0.0, 0.0)), "vector"),
        ]
    return [*found, *norm("norm", d)]


def n_params(shape: Shape) -> int:
    """Return N = 8 n_layer d^2: four gates, each with an input and a recurrent d x d matrix."""
    return 8 * shape.n_layer * shape.d_model**2


def n_params_embedding(shape: Shape) -> int:
    """Return n_vocab d: an LSTM has no position embedding."""
    return shape.n_vocab * shape.d_model


def context_flops(shape: Shape) -> int:
    """Return 0: there is no attention."""
    return 0


def kept_bytes(shape: Shape, width: int) -> int:
    """Return the bytes a token that a layer keeps: four gates, cell, output, input and state in float32."""
    return 32 * shape.d_model


# The forward pass, in torch


def hidden(weights: Weights, tokens: Tensor, run: Shape, dropout: float = 0.0, recompute: bool = False) -> Tensor:
    """Return the last hidden state: (batch, time) -> (batch, time, d_model); activations are kept always."""
    from torch.nn import functional as F

    x = F.embedding(tokens, weights["embedding"]) / run.embedding_std
    for layer in range(run.n_layer):
        output = _layer(F.dropout(x, dropout), weights, layer)
        x = x + output if layer else output
    return F.dropout(x, dropout)


def _layer(x: Tensor, weights: Weights, layer: int) -> Tensor:
    """Return the output of one LSTM layer from a zero state: (batch, time, d_model) to the same."""
    import torch

    bias = weights[f"lstm.{layer}.bias"]
    state = x.new_zeros(1, len(x), x.shape[-1])
    output, _, _ = torch.lstm(
        x,
        (state, state),
        [
            weights[f"lstm.{layer}.input"].T,
            weights[f"lstm.{layer}.recurrent"].T,
            bias,
            torch.zeros_like(bias),  # torch has a second bias a gate: one is enough
        ],
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=False,
        bidirectional=False,
        batch_first=True,
    )
    return output
