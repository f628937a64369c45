"""At which steps a run is looked at: pure functions of the run, so that every run of a length shares them.

Standard library only.
"""

from __future__ import annotations

from pipeline.plan.run import Run


def log_spaced(last: int, count: int) -> list[int]:
    """Return `count` whole numbers from 1 to `last`, evenly spaced in the logarithm, without repeats.

    Examples
    --------
    >>> log_spaced(1000, 4)
    [1, 10, 100, 1000]
    >>> log_spaced(5, 8)
    [1, 2, 3, 4, 5]
    """
    return sorted({round(last ** (i / max(count - 1, 1))) for i in range(count)} | {1, last})


def evaluation_steps(run: Run) -> list[int]:
    """Return the steps after which the test loss is measured: 0, log-spaced ones, and every `evaluate_every`.

    Examples
    --------
    >>> run = Run(tokens="t", n_layer=1, d_model=8, n_vocab=64, n_steps=100, lr=0.01, evaluations=3, evaluate_every=40)
    >>> evaluation_steps(run)
    [0, 1, 10, 40, 80, 100]
    """
    regular = range(run.evaluate_every, run.n_steps + 1, run.evaluate_every) if run.evaluate_every else ()
    return sorted({0, *log_spaced(run.n_steps, run.evaluations), *regular})


def snapshot_steps(run: Run) -> list[int]:
    """Return the steps whose weights are kept besides the final ones: log-spaced from 1, the last step left out.

    Examples
    --------
    >>> run = Run(tokens="t", n_layer=1, d_model=8, n_vocab=64, n_steps=1000, lr=0.01, snapshots=3)
    >>> snapshot_steps(run)
    [1, 10, 100]
    """
    return log_spaced(run.n_steps, run.snapshots + 1)[:-1] if run.snapshots else []
