"""An engine holds one model and its optimizer on one device: it makes steps and measures losses.

Two engines compute the same thing. `native` is a compiled kernel for Transformers in float32 on a CPU, and needs no
torch; `torch` trains every family on every device. Both start from the weights of `pipeline.models.layout` and see the
same batches, so which one made a run is not part of the run: their curves agree to rounding noise.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.errors import UserError
from pipeline.run import Run

ENGINES = ("auto", "native", "torch")
DEVICES = ("auto", "cpu", "cuda")


class StepResult(NamedTuple):
    """What one optimizer step measured."""

    loss: float
    """Mean training loss of the batch before the update, in nats per token."""
    gradient_norm: float
    """Global norm of the gradient before clipping."""
    noise: tuple[float, float] | None = None
    """Squared gradient norms: the mean of the batch's two halves (see `pipeline.noise`), and the whole batch's."""


class Engine(Protocol):
    """One model and its optimizer on one device. Steps count from 1; dropout depends on (seed, step) alone."""

    name: str
    """native or torch."""

    def step(self, tokens: np.ndarray, lr: float, noise: bool = False) -> StepResult:
        """Update the weights on a batch of shape (batch_sequences, n_ctx + 1), uint16."""
        ...

    def evaluate(self, tokens: np.ndarray) -> np.ndarray:
        """Return the loss summed over windows of shape (M, n_ctx + 1), by position: float64 of shape (n_ctx,)."""
        ...

    def weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the weights, float32, named and shaped as in `pipeline.models.layout`."""
        ...

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Replace the weights and leave the optimizer alone."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of all that a later step depends on: weights, moments, number of steps."""
        ...

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Continue from a `state` of the same engine."""
        ...
