"""What a run costs: seconds, memory and minutes, known before it starts; and how it is laid on GPUs.

The rates were read off runs on two cores of one kind of machine; the report compares them with what runs took. What is
said of GPUs is counted, not measured: no GPU was at hand.
"""

from __future__ import annotations

import math
from typing import NamedTuple

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
GPU_BYTES = 80e9
"""Its memory."""
GPU_UTILISATION = 0.4
"""The part of the peak that a plan assumes where the card is busy: an assumption, not a measurement."""
CARDS = (1, 2, 4, 8)
"""Numbers of cards of one machine that a run may have."""
CARD_HOURS = 48
"""A run that would take longer on one card gets more."""
CARD_SLOTS = 8
"""The parts of a card that runs may share: so many small runs at most are on a card at once."""
CHUNK_LOGITS = 2**28
"""Logits made at once on a GPU: 1 GB in float32, 5,341 tokens of 50,257 entries."""
MICRO_BATCH_TOKENS = 8192
"""Tokens on a card at once that keep it busy: below that, activations are rather made twice than kept."""
CONTEXT_BYTES = 1.5e9
"""What a process takes on a card before it does anything."""


def gpu_utilisation(weights: float) -> float:
    """Return the part of the GPU's peak that a plan assumes for one run by itself, by weights in matrix products.

    Less below 1e8, where a run leaves the card idle for a part of the time: an assumption as well.
    """
    return GPU_UTILISATION * min(1.0, (weights / 1e8) ** 0.5)


def gpu_seconds(run: Run) -> float:
    """Return the seconds that a run takes on one GPU, by itself."""
    return 20 + flops(run) / (GPU_FLOPS * gpu_utilisation(count(run).flops_all / 6))


def card_slots(run: Run, memory: float = GPU_BYTES) -> int:
    """Return how many of the `CARD_SLOTS` parts of a card a run takes: 1, 2, 4 or 8.

    As many as it keeps busy by `gpu_utilisation`, and more where its memory needs them.
    """
    busy = gpu_utilisation(count(run).flops_all / 6) / GPU_UTILISATION
    for slots in (1, 2, 4):
        if busy * CARD_SLOTS <= slots and fits(run, memory * slots / CARD_SLOTS) is not None:
            return slots
    return CARD_SLOTS


def cards(run: Run, most: int = CARDS[-1], memory: float = GPU_BYTES) -> int:
    """Return the number of cards that a run gets: enough to hold it, and to end within `CARD_HOURS`, if there are.

    Each card gets the same share of a batch, of its halves where gradient noise is measured.

    Examples
    --------
    >>> base = {"tokens": "t", "n_vocab": 50_257, "n_ctx": 1024, "batch_sequences": 512, "n_steps": 250_000, "lr": 1e-3}
    >>> [cards(Run(n_layer=layers, d_model=width, **base)) for layers, width in ((2, 128), (12, 768), (48, 1600))]
    [1, 2, 8]
    """
    whole = run.batch_sequences // (2 if run.noise and run.batch_sequences % 2 == 0 else 1)
    allowed = [number for number in CARDS if number <= most and whole % number == 0]
    for number in allowed:
        if gpu_seconds(run) / 3600 / number <= CARD_HOURS and fits(run, memory, number) is not None:
            return number
    return allowed[-1]


def gpu_hours(run: Run) -> float:
    """Return the hours of a whole card that a run takes, where small runs share one."""
    return gpu_seconds(run) / 3600 * card_slots(run) / CARD_SLOTS


class Fit(NamedTuple):
    """How a batch is put through one card."""

    micro_batch: int
    """Sequences on the card at once; the gradients of a batch are summed."""
    recompute: bool = False
    """Whether the activations of a block are made again in the backward pass (activation checkpointing)."""
    sharded: bool = False
    """Whether weights, gradients and moments are spread over the cards (FSDP), instead of each having all."""
    chunk: int = 0
    """Sequences whose logits are made at once; 0 is all of the micro-batch in one piece."""


def fits(run: Run, memory: float = GPU_BYTES, n_cards: int = 1) -> Fit | None:
    """Return how a run is laid on `n_cards` GPUs of `memory` bytes each, None where it can't be.

    Plain ways first: everything kept and on each card, then activations made twice, then (Transformers) all sharded.

    Examples
    --------
    >>> shape = {"tokens": "t", "n_vocab": 50_257, "n_ctx": 1024, "n_steps": 10, "batch_sequences": 512, "lr": 0.001}
    >>> shape |= {"precision": "bfloat16"}
    >>> fits(Run(n_layer=12, d_model=768, **shape))
    Fit(micro_batch=128, recompute=False, sharded=False, chunk=5)
    >>> large = Run(n_layer=48, d_model=4096, **shape)
    >>> fits(large) is None, fits(large, n_cards=8).sharded
    (True, True)
    """
    share = math.ceil(run.batch_sequences / n_cards)
    enough = min(share, math.ceil(MICRO_BATCH_TOKENS / run.n_ctx))
    chunk = max(1, CHUNK_LOGITS // (run.n_ctx * run.n_vocab))
    ways = [(False, False)]
    if run.family != "lstm":
        ways.append((False, True))
    if n_cards > 1 and run.family == "transformer" and run.optimizer == "adamw":
        ways += [(True, False), (True, True)]
    found = None
    for sharded, recompute in ways:
        fit = Fit(share, recompute, sharded, chunk)
        while fit.micro_batch > 1 and card_bytes(run, fit, n_cards) > memory:
            fit = fit._replace(micro_batch=math.ceil(fit.micro_batch / 2))
        if card_bytes(run, fit, n_cards) <= memory:
            if fit.micro_batch >= enough:
                return fit
            found = found or fit
    return found


def card_bytes(run: Run, fit: Fit, n_cards: int = 1) -> float:
    """Return the bytes that a run takes on each card: weights, gradients, moments, activations, logits.

    Weights, gradients and moments in float32; a second gradient where micro-batches are summed; in bfloat16 a copy of
    the weights. 15 % are for what the allocator leaves unused.
    """
    counts = count(run)
    width = 2 if run.precision == "bfloat16" else 4
    n_params, n_layer = counts.n_params_total, run.n_layer * run.n_reuse
    summed = fit.micro_batch * n_cards < run.batch_sequences or run.noise
    moments = 8 if run.optimizer == "adamw" else 0
    if fit.sharded:
        unit = counts.n_params_embedding + 2 * counts.n_params / max(run.n_layer, 1)
        weights = (8 + 4 * summed + moments) * n_params / n_cards + (8 + width) * unit
    else:
        weights = (8 + 4 * summed + moments + (2 if width == 2 else 0)) * n_params
    if run.optimizer == "adafactor":
        weights += 12 * max(counts.n_params_head, run.d_model * run.d_ff)  # an update of its largest matrix
    tokens = fit.micro_batch * run.n_ctx
    block = block_bytes(run)
    kept = 4 * run.d_model * n_layer + block if fit.recompute else block * n_layer
    at_once = min(tokens, fit.chunk * run.n_ctx) if fit.chunk and run.family != "lstm" else tokens
    logits = at_once * run.n_vocab * (8 + 2 * width)
    return CONTEXT_BYTES + 1.15 * (weights + tokens * (kept + 12 * run.d_model) + logits)


def block_bytes(run: Run) -> int:
    """Return the bytes a token that one layer keeps for its backward pass.

    A block keeps its two inputs in float32, and in the precision of the products: two norms, q, k, v, the attention's
    result, the up-projection and its GELU.
    """
    d, width = run.d_model, 2 if run.precision == "bfloat16" else 4
    if run.family == "lstm":
        return 32 * d
    return 2 * 4 * d + width * (7 * d + 2 * run.d_ff) + (2 * d if run.dropout else 0)


def host_mb(run: Run) -> int:
    """Return the memory in MB that a run on GPUs takes of its machine: a process a card, and a checkpoint twice."""
    state = 4 * (3 if run.optimizer == "adamw" else 1) * count(run).n_params_total
    return math.ceil(4000 * cards(run) + 2 * state / 1e6)


def gpu_minutes(run: Run) -> int:
    """Return the minutes to allow a run on GPUs: three times its cost, and twenty more for compiling."""
    return math.ceil(20 + 3 * gpu_seconds(run) / cards(run) / 60)


def disk_mb(run: Run) -> float:
    """Return what a run leaves on disk in MB: its final weights and snapshots in float32, and its curve."""
    return 0.05 + 4e-6 * count(run).n_params_total * (1 + run.snapshots)
