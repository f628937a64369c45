"""How a run is laid on GPUs: its share of a card or its cards, micro-batches, what is kept and what is made again.

Counted, not measured: no GPU was at hand. It is part of the plan, since what a run asks a cluster for follows from it;
the torch engine and the leases of cards read it too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pipeline.models import family
from pipeline.plan.cost import GPU_UTILISATION, gpu_seconds, gpu_utilisation
from pipeline.plan.counts import count
from pipeline.plan.run import Run

GPU_BYTES = 80e9
"""Memory of the GPU that a plan names (`pipeline.plan.cost.GPU_NAME`)."""
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


class Placement(NamedTuple):
    """How a batch is put through one card."""

    micro_batch: int
    """Sequences on the card at once; the gradients of a batch are summed."""
    recompute: bool = False
    """Whether the activations of a block are made again in the backward pass (activation checkpointing)."""
    sharded: bool = False
    """Whether weights, gradients and moments are spread over the cards (FSDP), instead of each having all."""
    chunk: int = 0
    """Sequences whose logits are made at once; 0 is all of the micro-batch in one piece."""


def place(run: Run, memory: float = GPU_BYTES, n_cards: int = 1) -> Placement | None:
    """Return how a run is laid on `n_cards` GPUs of `memory` bytes each, None where it can't be.

    Plain ways first: everything kept and on each card, then activations made twice, then all sharded.

    Examples
    --------
    >>> shape = {"tokens": "t", "n_vocab": 50_257, "n_ctx": 1024, "n_steps": 10, "batch_sequences": 512, "lr": 0.001}
    >>> shape |= {"precision": "bfloat16"}
    >>> place(Run(n_layer=12, d_model=768, **shape))
    Placement(micro_batch=128, recompute=False, sharded=False, chunk=5)
    >>> large = Run(n_layer=48, d_model=4096, **shape)
    >>> place(large) is None, place(large, n_cards=8).sharded
    (True, True)
    """
    kind = family(run.family)
    share = math.ceil(run.batch_sequences / n_cards)
    enough = min(share, math.ceil(MICRO_BATCH_TOKENS / run.n_ctx))
    chunk = max(1, CHUNK_LOGITS // (run.n_ctx * run.n_vocab))
    ways = [(False, False)]
    if kind.RECOMPUTES:
        ways.append((False, True))
    if n_cards > 1 and kind.SHARDS and run.optimizer == "adamw":
        ways += [(True, False), (True, True)]
    found = None
    for sharded, recompute in ways:
        tried = Placement(share, recompute, sharded, chunk)
        while tried.micro_batch > 1 and card_bytes(run, tried, n_cards) > memory:
            tried = tried._replace(micro_batch=math.ceil(tried.micro_batch / 2))
        if card_bytes(run, tried, n_cards) <= memory:
            if tried.micro_batch >= enough:
                return tried
            found = found or tried
    return found


def card_bytes(run: Run, placement: Placement, n_cards: int = 1) -> float:
    """Return the bytes that a run takes on each card: weights, gradients, moments, activations, logits.

    Weights, gradients and moments in float32; a second gradient where micro-batches are summed; in bfloat16 a copy of
    the weights. 15 % are for what the allocator leaves unused.
    """
    counts = count(run)
    width = 2 if run.precision == "bfloat16" else 4
    n_params, n_layer = counts.n_params_total, run.n_layer * run.n_reuse
    summed = placement.micro_batch * n_cards < run.batch_sequences or run.noise
    moments = 8 if run.optimizer == "adamw" else 0
    if placement.sharded:
        unit = counts.n_params_embedding + 2 * counts.n_params / max(run.n_layer, 1)
        weights = (8 + 4 * summed + moments) * n_params / n_cards + (8 + width) * unit
    else:
        weights = (8 + 4 * summed + moments + (2 if width == 2 else 0)) * n_params
    if run.optimizer == "adafactor":
        weights += 12 * max(counts.n_params_head, run.d_model * run.d_ff)  # an update of its largest matrix
    tokens = placement.micro_batch * run.n_ctx
    layer = family(run.family).kept_bytes(run, width)
    kept = 4 * run.d_model * n_layer + layer if placement.recompute else layer * n_layer
    at_once = min(tokens, placement.chunk * run.n_ctx) if placement.chunk else tokens
    logits = at_once * run.n_vocab * (8 + 2 * width)
    return CONTEXT_BYTES + 1.15 * (weights + tokens * (kept + 12 * run.d_model) + logits)


def card_slots(run: Run, memory: float = GPU_BYTES) -> int:
    """Return how many of the `CARD_SLOTS` parts of a card a run takes: 1, 2, 4 or 8.

    As many as it keeps busy by `gpu_utilisation`, and more where its memory needs them.
    """
    busy = gpu_utilisation(count(run).flops_all / 6) / GPU_UTILISATION
    for slots in (1, 2, 4):
        if busy * CARD_SLOTS <= slots and place(run, memory * slots / CARD_SLOTS) is not None:
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
        if gpu_seconds(run) / 3600 / number <= CARD_HOURS and place(run, memory, number) is not None:
            return number
    return allowed[-1]


def gpu_hours(run: Run, start: int = 0) -> float:
    """Return the hours of a whole card that a run takes after step `start`, where small runs share one."""
    return gpu_seconds(run, start) / 3600 * card_slots(run) / CARD_SLOTS


def host_mb(run: Run) -> int:
    """Return the memory in MB that a run on GPUs takes of its machine: a process a card, and a checkpoint twice."""
    state = 4 * (3 if run.optimizer == "adamw" else 1) * count(run).n_params_total
    return math.ceil(4000 * cards(run) + 2 * state / 1e6)


def gpu_minutes(run: Run, start: int = 0) -> int:
    """Return the minutes to allow a run on GPUs after step `start`: three times its cost, and 20 more for compiling."""
    return math.ceil(20 + 3 * gpu_seconds(run, start) / cards(run) / 60)
