"""What a run costs: seconds, memory, minutes and disk, known before it starts.

The rates were read off runs on two cores of one kind of machine; the report compares them with what runs took. The
seconds on a GPU are counted, not measured: no GPU was at hand.
"""

from __future__ import annotations

import math

from pipeline.plan.counts import count
from pipeline.plan.run import Run

CORE_GFLOPS = {
    "float32": {8: 36.0, 16: 83.0, 32: 111.0, 64: 123.0, 96: 128.0, 128: 131.0, 192: 131.0, 256: 114.0},
    "bfloat16": {8: 41.0, 16: 96.0, 32: 175.0, 64: 217.0, 96: 239.0, 128: 244.0, 192: 238.0, 256: 198.0},
}
"""GFLOP/s of one CPU core in training with the native engine, by d_model: all FLOPs of Table 1."""

STARTUP_SECONDS = 1.5
"""Start of the interpreter, imports, reading tokens, writing the result."""


def core_gflops(run: Run) -> float:
    """Return the training rate of one core in GFLOP/s, log-interpolated in d_model."""
    known = CORE_GFLOPS[run.precision]
    widths = sorted(known)
    if run.d_model <= widths[0]:
        return known[widths[0]] * run.d_model / widths[0]
    if run.d_model >= widths[-1]:
        return known[widths[-1]]
    above = next(width for width in widths if width >= run.d_model)
    below = widths[widths.index(above) - 1]
    part = math.log(run.d_model / below) / math.log(above / below)
    return known[below] ** (1 - part) * known[above] ** part


def flops(run: Run) -> float:
    """Return the FLOP of a run: training, and evaluation at a third of its cost a token."""
    per_token = count(run).flops_all
    evaluations = run.evaluations + (run.n_steps // run.evaluate_every if run.evaluate_every else 0)
    return per_token * (run.n_steps * run.batch_tokens + evaluations * run.test_tokens / 3)


def seconds(run: Run) -> float:
    """Return the seconds that a run takes on one CPU core."""
    return STARTUP_SECONDS + flops(run) / (core_gflops(run) * 1e9)


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
GPU_UTILISATION = 0.4
"""The part of the peak that a plan assumes where the card is busy: an assumption, not a measurement."""


def gpu_utilisation(weights: float) -> float:
    """Return the part of the GPU's peak that a plan assumes for one run by itself, by weights in matrix products.

    Less below 1e8, where a run leaves the card idle for a part of the time: an assumption as well.
    """
    return GPU_UTILISATION * min(1.0, (weights / 1e8) ** 0.5)


def gpu_seconds(run: Run) -> float:
    """Return the seconds that a run takes on one GPU, by itself."""
    return 20 + flops(run) / (GPU_FLOPS * gpu_utilisation(count(run).flops_all / 6))


def disk_mb(run: Run) -> float:
    """Return what a run leaves on disk in MB: its final weights and snapshots in float32, and its curve."""
    return 0.05 + 4e-6 * count(run).n_params_total * (1 + run.snapshots)
