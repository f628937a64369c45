"""At which steps a run is looked at: pure functions of the run, so that every run of a length shares them.

A wsd run has its steps on a grid that its length does not move, so that the rows of its trunk are rows of each run that
branches off there (`pipeline.plan.trunk`): evaluations and snapshots are log-spaced, as many as the run asks for to
step 10,000 and on at that rate; and the cooldown has evaluations of its own. Standard library only.
"""

from __future__ import annotations

from itertools import count, takewhile

from pipeline.plan.run import Run

GRID_STEPS = 10_000
"""The steps over which a wsd run has the evaluations and snapshots that it asks for."""
COOLDOWN_EVALUATIONS = 4
"""Evaluations of a cooldown, evenly spaced, besides the one where it begins."""


def log_spaced(last: int, number: int) -> list[int]:
    """Return `number` whole numbers from 1 to `last`, evenly spaced in the logarithm, without repeats.

    Examples
    --------
    >>> log_spaced(1000, 4)
    [1, 10, 100, 1000]
    >>> log_spaced(5, 8)
    [1, 2, 3, 4, 5]
    """
    return sorted({round(last ** (i / max(number - 1, 1))) for i in range(number)} | {1, last})


def grid(last: int, number: int) -> list[int]:
    """Return what lies at or below `last` of whole numbers evenly spaced in the logarithm, `number` of them to 10,000.

    Examples
    --------
    >>> grid(99, 9), grid(100, 9), grid(40_000, 3)
    ([1, 3, 10, 32], [1, 3, 10, 32, 100], [1, 100, 10000])
    """
    steps = (round(GRID_STEPS ** (i / (number - 1))) for i in count())
    return sorted(set(takewhile(lambda step: step <= last, steps)))


def evaluation_steps(run: Run) -> list[int]:
    """Return the steps after which the test loss is measured: 0, log-spaced ones, and every `evaluate_every`.

    Examples
    --------
    >>> run = Run(tokens="t", n_layer=1, d_model=8, n_vocab=64, n_steps=100, lr=0.01, evaluations=3, evaluate_every=40)
    >>> evaluation_steps(run)
    [0, 1, 10, 40, 80, 100]
    >>> run = Run(tokens="t", n_layer=1, d_model=8, n_vocab=64, n_steps=100, lr=0.01, evaluations=9, schedule="wsd")
    >>> evaluation_steps(run)
    [0, 1, 3, 10, 32, 80, 85, 90, 95, 100]
    """
    regular = range(run.evaluate_every, run.n_steps + 1, run.evaluate_every) if run.evaluate_every else ()
    if run.schedule != "wsd":
        return sorted({0, *log_spaced(run.n_steps, run.evaluations), *regular})
    cooldown, parts = run.n_steps - run.branch_point, COOLDOWN_EVALUATIONS
    own = {run.branch_point + round(cooldown * part / parts) for part in range(parts + 1)}
    return sorted({0, *grid(run.branch_point, run.evaluations), *own, *regular})


def snapshot_steps(run: Run) -> list[int]:
    """Return the steps whose weights are kept besides the final ones: log-spaced from 1, the last step left out.

    Examples
    --------
    >>> run = Run(tokens="t", n_layer=1, d_model=8, n_vocab=64, n_steps=1000, lr=0.01, snapshots=3)
    >>> snapshot_steps(run)
    [1, 10, 100]
    >>> run = Run(tokens="t", n_layer=1, d_model=8, n_vocab=64, n_steps=1000, lr=0.01, snapshots=4, schedule="wsd")
    >>> snapshot_steps(run)
    [1, 10, 100]
    """
    if not run.snapshots:
        return []
    if run.schedule != "wsd":
        return log_spaced(run.n_steps, run.snapshots + 1)[:-1]
    return grid(run.n_steps - 1, run.snapshots + 1)
