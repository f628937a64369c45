"""Learning rates: linear warmup to the peak, then one of the shapes of Figure 22 of the paper, floored at `lr_final`.

With p the part of the steps after warmup that is done, in (0, 1], and f the shape of the table,

    lr = lr_peak (lr_final + (1 - lr_final) f(p))

    cosine         (1 + cos(pi p)) / 2                         the paper's default, to 0 at the last step
    linear         1 - p
    constant       1
    inverse_sqrt   (warmup_steps / step)^(1/2)                 no warmup counts as one step
    cosine_cycles  cosine, repeated 3 times                    each restart at the peak
    step           1, 1/10, 1/100                              a third of the steps each
    wsd            1, then 1 - x^(1/2)                         x the part of the cooldown that is done

wsd (warmup, stable, decay) has the cooldown of Hägele et al. 2024 (arXiv 2405.18392). Its rates depend on the length of
the run in the cooldown alone: what comes before is a trunk that runs share (`pipeline.plan.trunk`).

Rates are pure functions of the run and the step, so a resumed run needs no scheduler state.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pipeline.plan.run import Run

CYCLES = 3
"""Repeats of cosine_cycles."""
DROP = 0.1
"""Factor between the levels of the schedule `step`."""

_SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
    "linear": lambda p: 1 - p,
    "constant": lambda p: 1.0,
    "cosine_cycles": lambda p: (1 + math.cos(math.pi * (CYCLES * p % 1 if p < 1 else 1))) / 2,
    "step": lambda p: DROP ** min(int(3 * p), 2),
}


def rate_at_step(run: Run, step: int) -> float:
    """Return the learning rate of update `step`, which counts from 1 to `n_steps`; 0 is before training, rate 0.

    Examples
    --------
    >>> run = Run(tokens="t", n_layer=1, d_model=8, n_vocab=64, n_steps=110, warmup_steps=10, lr=0.01)
    >>> [round(rate_at_step(run, step), 6) for step in (0, 5, 10, 60, 110)]
    [0.0, 0.005, 0.01, 0.005, 0.0]
    """
    if step <= run.warmup_steps:
        return run.lr * step / run.warmup_steps if step else 0.0
    if run.schedule == "inverse_sqrt":
        shape = math.sqrt(max(run.warmup_steps, 1) / step)
    elif run.schedule == "wsd":
        done = step - run.branch_point
        shape = 1 - math.sqrt(done / (run.n_steps - run.branch_point)) if done > 0 else 1.0
    else:
        shape = _SHAPES[run.schedule]((step - run.warmup_steps) / (run.n_steps - run.warmup_steps))
    return run.lr * (run.lr_final + (1 - run.lr_final) * shape)
