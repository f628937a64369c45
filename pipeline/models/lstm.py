"""The LSTM language model of Figure 7, in torch.

    x = embedding[tokens]
    for each layer:  x = lstm(x), hidden size d_model, state zero at the start of a window
    logits = norm(x) @ embedding^T

An LSTM's output lies in (-1, 1); the norm before the tied de-embedding gives it the scale that the Transformers have,
so that both families start from the same loss. Dropout on the embedding, between layers and before the norm.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.models.transformer import Weights, head
from pipeline.run import Run


def logits(weights: Weights, tokens: Tensor, run: Run, dropout: float = 0.0) -> Tensor:
    """Return the logits of the next token: (batch, time) -> (batch, time, n_vocab)."""
    x = F.dropout(F.embedding(tokens, weights["embedding"]), dropout)
    state = x.new_zeros(run.n_layer, len(x), run.d_model)
    flat = []
    for layer in range(run.n_layer):
        bias = weights[f"lstm.{layer}.bias"]
        flat += [
            weights[f"lstm.{layer}.input"].T,
            weights[f"lstm.{layer}.recurrent"].T,
            bias,
            torch.zeros_like(bias),  # torch has a second bias a gate: one is enough
        ]
    x, _, _ = torch.lstm(
        x,
        (state, state),
        flat,
        has_biases=True,
        num_layers=run.n_layer,
        dropout=dropout,
        train=dropout > 0,
        bidirectional=False,
        batch_first=True,
    )
    return head(weights, F.dropout(x, dropout))
