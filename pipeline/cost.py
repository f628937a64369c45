"""What a run costs: seconds, memory and minutes, known before it starts.

The rates were read off runs on two cores of one kind of machine; the report compares them with what runs took.
"""

from __future__ import annotations

import math

from pipeline.counts import count
from pipeline.run import Run

CORE_GFLOPS = {8: 25.0, 16: 60.0, 32: 100.0, 64: 120.0, 128: 130.0, 256: 135.0}
"""GFLOP/s of one CPU core in training, by d_model: all FLOPs of Table 1, the native engine, float32."""

STARTUP_SECONDS = 1.5
"""Start of the interpreter, imports, reading tokens, writing the result."""


def core_gflops(d_model: int) -> float:
    """Return the training rate of one core in GFLOP/s, log-interpolated in d_model."""
    widths = sorted(CORE_GFLOPS)
    if d_model <= widths[0]:
        return CORE_GFLOPS[widths[0]] * d_model / widths[0]
    if d_model >= widths[-1]:
        return CORE_GFLOPS[widths[-1]]
    above = next(width for width in widths if width >= d_model)
    below = widths[widths.index(above) - 1]
    part = math.log(d_model / below) / math.log(above / below)
    return CORE_GFLOPS[below] ** (1 - part) * CORE_GFLOPS[above] ** part


def flops(run: Run) -> float:
    """Return the FLOP of a run: training, and evaluation at a third of its cost a token."""
    per_token = count(run).flops_all
    evaluations = run.evaluations + (run.n_steps // run.evaluate_every if run.evaluate_every else 0)
    return per_token * (run.n_steps * run.batch_tokens + evaluations * run.test_tokens / 3)


def seconds(run: Run) -> float:
    """Return the seconds that a run takes on one CPU core."""
    return STARTUP_SECONDS + flops(run) / (core_gflops(run.d_model) * 1e9)


def minutes(run: Run) -> int:
    """Return the minutes to allow a run: three times its cost, and ten more."""
    return math.ceil(10 + 3 * seconds(run) / 60)


def memory_mb(run: Run) -> int:
    """Return the memory of a run in MB: the interpreter, weights with their moments, activations of a batch."""
    counts = count(run)
    weights = 16 * counts.n_params_total
    activations = 4 * run.batch_tokens * (run.n_vocab + run.n_layer * run.n_reuse * 34 * run.d_model)
    return math.ceil(600 + (weights + activations) / 1e6)


GPU_NAME = "one H100 SXM, bfloat16"
GPU_FLOPS = 989e12
"""Dense bfloat16 peak of the GPU that a plan names, in FLOP/s."""


def gpu_utilisation(weights: float) -> float:
    """Return the part of the GPU's peak that a plan assumes: 0.4 from 1e8 weights in matrix products on, less below.

    An assumption, not a measurement: no GPU was at hand. See the README's limits.
    """
    return 0.4 * min(1.0, (weights / 1e8) ** 0.5)


def gpu_seconds(run: Run) -> float:
    """Return the seconds that a run takes on one GPU."""
    return 20 + flops(run) / (GPU_FLOPS * gpu_utilisation(count(run).flops_all / 6))


def disk_mb(run: Run) -> float:
    """Return what a run leaves on disk in MB: its final weights and snapshots in float32, and its curve."""
    return 0.05 + 4e-6 * count(run).n_params_total * (1 + run.snapshots)
