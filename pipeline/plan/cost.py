"""What a run costs: seconds, memory, minutes and disk, known before it starts.

Costs of time take the step after which a job begins: 0, or where a run branches off its trunk (`pipeline.plan.trunk`).

The rates were read off runs on two cores of one kind of machine; a `Speed` says how another one differs from it
(`pipeline.engines.speed` measures it), and the report compares costs with what runs took. The seconds on a GPU are
counted, not measured: no GPU was at hand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.plan.counts import count
from pipeline.plan.run import Run
from pipeline.plan.steps import evaluation_steps, snapshot_steps

CORE_GFLOPS = {
    "float32": {8: 36.0, 16: 83.0, 32: 111.0, 64: 123.0, 96: 128.0, 128: 131.0, 192: 131.0, 256: 114.0},
    "bfloat16": {8: 41.0, 16: 96.0, 32: 175.0, 64: 217.0, 96: 239.0, 128: 244.0, 192: 238.0, 256: 198.0},
}
"""GFLOP/s of one CPU core in training with the native engine, by d_model: all FLOPs of Table 1."""

STARTUP_SECONDS = 1.0
"""Start of the interpreter, imports, reading tokens, writing the result."""

RULE_SECONDS = {
    "fetch_corpus": 5.0,
    "train_tokenizer": 5.0,
    "tokenize": 10.0,
    "evaluate": 3.0,
    "gather": 2.0,
    "gather_evaluations": 2.0,
    "fit": 10.0,
    "plot": 3.0,
    "tabulate": 3.0,
}
"""Seconds of a job that trains nothing, by its rule, in the laptop experiment: for the progress of a workflow."""


def core_gflops(run: Run) -> float:
    """Return the training rate of one core in GFLOP/s."""
    known = CORE_GFLOPS[run.precision]
    return _between(known, run.d_model) * min(1.0, run.d_model / min(known))


def _between(known: Mapping[int, float], d_model: int) -> float:
    """Return what is known by d_model, log-interpolated; at its ends it stays what it is."""
    widths = sorted(known)
    if d_model <= widths[0]:
        return known[widths[0]]
    if d_model >= widths[-1]:
        return known[widths[-1]]
    above = next(width for width in widths if width >= d_model)
    below = widths[widths.index(above) - 1]
    part = math.log(d_model / below) / math.log(above / below)
    return known[below] ** (1 - part) * known[above] ** part


def flops(run: Run, start: int = 0) -> float:
    """Return the FLOP of a run after step `start`: training, and evaluation at a third of its cost a token."""
    evaluations = sum(step >= start for step in evaluation_steps(run))
    tokens = (run.n_steps - start) * run.batch_tokens
    return count(run).flops_all * (tokens + evaluations * run.test_tokens / 3)


@dataclass(frozen=True)
class Speed:
    """How fast one core of a machine trains, when all of them do.

    Parameters
    ----------
    factors : Mapping
        d_model -> its rate over that of `CORE_GFLOPS`.

    Examples
    --------
    >>> run = Run(tokens="t", n_layer=2, d_model=64, n_vocab=512, n_steps=10_000, lr=0.01)
    >>> half, same = Speed({32: 0.5, 128: 0.5}), Speed()
    >>> round((half.seconds(run) - STARTUP_SECONDS) / (same.seconds(run) - STARTUP_SECONDS), 6)
    2.0
    """

    factors: Mapping[int, float] = field(default_factory=lambda: {1: 1.0})

    def seconds(self, run: Run, start: int = 0) -> float:
        """Return the seconds that a run takes on one core."""
        return STARTUP_SECONDS + flops(run, start) / (core_gflops(run) * _between(self.factors, run.d_model) * 1e9)

    @classmethod
    def from_json(cls, text: str) -> Speed:
        """Read what `python -m pipeline.engines.speed` prints."""
        return cls({int(width): float(factor) for width, factor in json.loads(text).items()})


def seconds(run: Run, start: int = 0) -> float:
    """Return the seconds that a run takes on one core of the machine that `CORE_GFLOPS` was read off."""
    return Speed().seconds(run, start)


def minutes(run: Run, start: int = 0) -> int:
    """Return the minutes to allow a run: three times its cost, and ten more."""
    return math.ceil(10 + 3 * seconds(run, start) / 60)


def memory_mb(run: Run) -> int:
    """Return the memory of a run in MB: the interpreter, weights with their moments, activations of a batch."""
    counts = count(run)
    weights = 16 * counts.n_params_total
    activations = 4 * run.batch_tokens * (run.n_vocab + run.n_layer * run.n_reuse * 34 * run.d_model)
    return math.ceil(600 + (weights + activations) / 1e6)


GPU_NAME = "one H100 SXM, bfloat16"
GPU_FLOPS = 989e12
"""Dense bfloat16 peak of the GPU that a plan names, in FLOP/s."""
GPU_UTILISATION = 0.4
"""The part of the peak that a plan assumes where the card is busy: an assumption, not a measurement."""


def gpu_utilisation(weights: float) -> float:
    """Return the part of the GPU's peak that a plan assumes for one run by itself, by weights in matrix products.

    Less below 1e8, where a run leaves the card idle for a part of the time: an assumption as well.
    """
    return GPU_UTILISATION * min(1.0, (weights / 1e8) ** 0.5)


def gpu_seconds(run: Run, start: int = 0) -> float:
    """Return the seconds that a run takes on one GPU, by itself."""
    return 20 + flops(run, start) / (GPU_FLOPS * gpu_utilisation(count(run).flops_all / 6))


def disk_mb(run: Run) -> float:
    """Return what a run leaves on disk in MB: its final weights and snapshots in float32, and its curve."""
    return 0.05 + 4e-6 * count(run).n_params_total * (1 + len(snapshot_steps(run)))


def state_mb(run: Run) -> float:
    """Return the size in MB of a run's whole state at its end: weights and moments, best weights, snapshots."""
    copies = (3 if run.optimizer == "adamw" else 1) + (run.patience > 0) + len(snapshot_steps(run))
    return 0.05 + 4e-6 * count(run).n_params_total * copies
