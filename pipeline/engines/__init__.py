"""An engine holds one model and its optimizer on one device: it makes steps and measures losses.

Two engines compute the same thing. `native` is a compiled kernel for Transformers in float32 on a CPU, and needs no
torch; `torch` trains every family on every device. Both start from the weights of `pipeline.models.layout` and see the
same batches, so which one made a run is not part of the run: their curves agree to rounding noise.
"""

from __future__ import annotations

import sys
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
    """Squared gradient norms before clipping, for `pipeline.noise`: the mean over the two halves of the batch,
    tokens[: B // 2] and the rest, each the gradient of its own mean loss; and the whole batch's."""


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


def make_engine(
    run: Run, device: str = "auto", threads: int = 1, engine: str = "auto", compile: bool = False
) -> Engine:
    """Return the engine of a run: the native one where it can train the run on this device, else torch.

    Parameters
    ----------
    run
        What to train.
    device
        cpu, cuda, or auto: cuda when torch sees one.
    threads
        Threads of the engine on a CPU.
    engine
        auto, or the name of the engine to insist on.
    compile
        Compile the model of the torch engine: worth its half minute for long runs on CUDA.

    Raises
    ------
    UserError
        When the device or the engine that is insisted on can't be had.
    """
    for name, value, allowed in (("device", device, DEVICES), ("engine", engine, ENGINES)):
        if value not in allowed:
            raise UserError(f"{name}: {value!r} is not one of {', '.join(allowed)}")
    if threads < 1:
        raise UserError(f"threads: {threads} is below 1")
    cuda = device == "cuda" or (device == "auto" and engine != "native" and _cuda())
    if engine != "torch" and not cuda:
        from pipeline.engines import native

        if native.supports(run):
            missing = native.missing()
            if missing is None:
                return native.NativeEngine(run, threads)
            if engine == "native":
                raise UserError(missing)
            print(f"{missing}: torch trains this run, some times slower", file=sys.stderr)
    if engine == "native":
        raise UserError(f"engine: native can't train {run.id} on {'cuda' if cuda else 'cpu'}; allowed: auto, torch")
    if device == "cuda" and not _cuda():
        raise UserError("device: cuda was asked for, but torch sees none here; allowed: auto, cpu")
    from pipeline.engines.torch_engine import TorchEngine

    return TorchEngine(run, "cuda" if cuda else "cpu", threads, compile)


def _cuda() -> bool:
    """Return whether torch sees a CUDA device; torch is only imported where the driver has made one."""
    if not Path("/dev/nvidiactl").exists() and not Path("/dev/dxg").exists():
        return False
    import torch

    return torch.cuda.is_available()
