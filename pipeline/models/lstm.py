"""The LSTM language model of Figure 7, in torch.

    x = lstm(embedding[tokens] / embedding_std)      hidden size d_model, state zero at the start of a window
    for each further layer:  x = x + lstm(x)
    logits = norm(x) @ embedding^T

The input has unit variance at the start: embeddings that suit the de-embedding are far below what opens a gate. Layers
from the second on add to their input: without that, four layers learn far more slowly than two. An LSTM's output lies
in (-1, 1); the norm before the tied de-embedding gives it the scale that the Transformers have, so that both families
start from the same loss. Dropout on the input, between layers and before the norm.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.models.transformer import Weights, head
from pipeline.plan.run import Run


def logits(weights: Weights, tokens: Tensor, run: Run, dropout: float = 0.0) -> Tensor:
    """Return the logits of the next token: (batch, time) -> (batch, time, n_vocab)."""
    x = F.embedding(tokens, weights["embedding"]) / run.embedding_std
    for layer in range(run.n_layer):
        output = _layer(F.dropout(x, dropout), weights, layer)
        x = x + output if layer else output
    return head(weights, F.dropout(x, dropout))


def _layer(x: Tensor, weights: Weights, layer: int) -> Tensor:
    """Return the output of one LSTM layer from a zero state: (batch, time, d_model) to the same."""
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
