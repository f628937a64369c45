"""An engine holds one model and its optimizer on one device: it makes steps and measures losses.

Two engines compute the same thing. `native` is a compiled kernel for a CPU, one thread a run, and needs no torch;
`torch` trains every model on every device. Both start from the weights of `pipeline.models` and see the same batches,
so which one made a run is not part of the run: their curves agree to rounding noise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from pipeline.engines import lease
from pipeline.engines.distributed import Group, local_card
from pipeline.errors import UserError
from pipeline.plan.placement import card_slots
from pipeline.plan.run import Run

if TYPE_CHECKING:
    from torch import Tensor

ENGINES = ("auto", "native", "torch")
DEVICES = ("auto", "cpu", "cuda")


class StepResult(NamedTuple):
    """What one optimizer step measured."""

    loss: float
    """Mean training loss of the batch before the update, in nats per token."""
    gradient_norm: float
    """Global norm of the gradient before clipping."""
    noise: tuple[float, float] | None = None
    """Squared gradient norms before clipping, for `pipeline.train.noise`: the mean over the two halves of the batch,
    tokens[: B // 2] and the rest, each the gradient of its own mean loss; and the whole batch's."""


def check_tokens(tokens: np.ndarray, run: Run) -> None:
    """Refuse tokens that are not of the run's vocabulary.

    Raises
    ------
    UserError
        With the largest token.
    """
    if (largest := int(tokens.max(initial=0))) >= run.n_vocab:
        raise UserError(
            f"tokens: {largest} is not below n_vocab {run.n_vocab}: the files of {run.tokens} are damaged; remove them"
        )


def measured(values: Sequence[float]) -> StepResult:
    """Return the result of a step from its loss and gradient norm, and the norms of both halves and of the whole batch.

    Examples
    --------
    >>> measured([2.5, 4.0, 5.0, 3.0, 4.0])
    StepResult(loss=2.5, gradient_norm=4.0, noise=(17.0, 16.0))
    """
    loss, norm, *norms = values
    if not norms:
        return StepResult(loss, norm)
    first, second, whole = norms
    return StepResult(loss, norm, ((first**2 + second**2) / 2, whole**2))


class Pending:
    """What a step on a GPU measures, while it may still be at it."""

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def read(self) -> StepResult:
        """Wait for the step, and return what it measured."""
        return measured(self._values.tolist())


class Engine(Protocol):
    """One model and its optimizer on one device. Steps count from 1; dropout depends on (seed, step) alone."""

    name: str
    """native or torch."""

    def step(self, tokens: np.ndarray, lr: float, noise: bool = False) -> StepResult | Pending:
        """Update the weights on a batch of shape (batch_sequences, n_ctx + 1), uint16."""
        ...

    def evaluate(self, tokens: np.ndarray) -> np.ndarray:
        """Return the loss summed over windows of shape (M, n_ctx + 1), by position: float64 of shape (n_ctx,)."""
        ...

    def weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the weights, float32, named and shaped as in `pipeline.models.parameters`."""
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
    run: Run,
    device: str = "auto",
    threads: int = 1,
    engine: str = "auto",
    compile: bool | None = None,
    group: Group | None = None,
) -> Engine:
    """Return the engine of a run: the native one where it can train the run on this device, else torch.

    Parameters
    ----------
    run
        What to train.
    device
        cpu, cuda, or auto: cuda when torch sees one. A card is leased, and this may wait for one.
    threads
        Threads of the engine on a CPU.
    engine
        auto, or the name of the engine to insist on.
    compile
        Compile the model of the torch engine; None does so for long runs on CUDA, where it is worth its half minute.
    group
        The processes that train the run together, if there are several.

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
    several = group is not None and group.size > 1
    if engine != "torch" and not cuda and not several:
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
    if several:
        from pipeline.engines.parallel import parallel_engine

        return parallel_engine(run, group, local_card() if cuda else "cpu", threads, compile)
    from pipeline.engines.torch_engine import TorchEngine

    if not cuda:
        return TorchEngine(run, "cpu", threads, compile)
    slots = card_slots(run, lease.card_bytes())
    held = lease.take(lease.visible_cards(), slots)
    made = TorchEngine(run, f"cuda:{held.numbers[0]}", threads, compile, slots=slots)
    made.lease = held  # the card is this process's as long as the engine is
    return made


def _cuda() -> bool:
    """Return whether torch sees a CUDA device; torch is only imported where the driver has made one."""
    if not lease.has_driver():
        return False
    import torch

    return torch.cuda.is_available()
