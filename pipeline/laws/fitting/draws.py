"""Random numbers of the bootstrap over runs: a function of seed and run, so that laws which share a run draw it alike.

So the draws of laws that different jobs fitted are paired, replicate by replicate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .estimate import Array

WEBB = np.sqrt([0.5, 1.0, 1.5])  # with either sign: six values of variance 1 (Webb 2014)
FEW_RUNS = 11  # fewer than so many have fewer than 1,000 patterns of signs
TERCILES = stats.norm.ppf([2 / 3, 5 / 6])
"""A third of normal numbers is nearer to 0 than the first, a third further than the second."""


def normals(runs: Sequence[str], n_boot: int, seed: int) -> Array:
    """Return a normal number for each run in each replicate, (n_boot, n_runs).

    They are a function of seed and run: laws that share a run, fitted by different jobs, draw it alike, so that their
    draws are paired.

    Examples
    --------
    >>> a, b = normals(["one", "two"], 100, 0), normals(["two"], 100, 0)
    >>> bool((a[:, 1] == b[:, 0]).all())
    True
    """
    return np.stack([np.random.default_rng([seed, *str(run).encode()]).normal(size=n_boot) for run in runs], axis=1)


def multipliers(runs: Sequence[str], n_boot: int, seed: int) -> Array:
    """Return what each run's residuals are multiplied by in each replicate, (n_boot, n_runs): mean 0 and variance 1.

    It is the sign of the run's normal number, which keeps the residuals' density at 0, that robust fits depend on. Few
    runs have few patterns of signs; then it is one of Webb's six values, by the number's size.
    """
    drawn = normals(runs, n_boot, seed)
    sign = np.where(drawn < 0, -1.0, 1.0)
    if len(runs) >= FEW_RUNS:
        return sign
    return sign * WEBB[np.digitize(np.abs(drawn), TERCILES)]


def wild_replicates(
    prediction: Array, residual: Array, runs: Sequence[str], run_index: NDArray[np.intp], n_boot: int, seed: int
) -> Array:
    """Return responses of a wild bootstrap over runs, (n_boot, n_points).

    Every point stays where it is; the residuals of a run are multiplied by one random number (`multipliers`), so that
    the correlation within a run stays too.
    """
    return prediction + residual * multipliers(runs, n_boot, seed)[:, run_index]
