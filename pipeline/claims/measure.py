"""Numbers with intervals, for checks: slopes, means, spreads, parameters of laws, and what is derived from them.

Intervals are 95 %. Slopes and means have t-intervals with a run as the unit, spreads have chi-square intervals, and
what no formula covers is resampled over runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import chdtri, fdtri, stdtrit

from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import SETTINGS, longest
from pipeline.claims.verdict import Number, Undecided
from pipeline.laws import Fit
from pipeline.laws.fitting.fit import paired_draws
from pipeline.laws.fitting.intervals import interval

LEAST_RUNS = 4
"""Fewer runs have no interval by resampling (docs/paper.md, part 4)."""
RESAMPLES = 400
"""Bootstrap samples over runs (docs/paper.md, part 4)."""
FIXED_BATCH = 1.0
"""The fixed batch over B_crit from which on C differs from C_min (docs/paper.md, part 4)."""
ONE_RATE = 0.9
"""Part of the peak that the learning rate has at such a part of the points of L(N, S_min), so that alpha_S is that of
one rate (docs/paper.md, part 4)."""
SAME_TOKENS = 1.25
"""Models whose training tokens differ by more than this factor are not compared: that would measure training time
(docs/paper.md, part 4)."""


# What is given


def sweep(given: Inputs, name: str) -> pd.DataFrame:
    """Return the rows of a sweep's runs that did not diverge.

    Raises
    ------
    Undecided
        When the sweep is not given, or all of its runs diverged.
    """
    return _sound(given.sweeps, "sweep", name)


def design(given: Inputs, name: str) -> pd.DataFrame:
    """Return one row a run of a sweep, diverged or not: for what the plan says of it, not for its losses.

    Raises
    ------
    Undecided
        When the sweep is not given.
    """
    if name not in given.sweeps:
        raise Undecided(f"the sweep {name} is not given")
    return given.sweeps[name].drop_duplicates("run")


def ends(given: Inputs, name: str) -> pd.DataFrame:
    """Return the last row of each of a sweep's runs that did not diverge."""
    rows = sweep(given, name)
    return rows[rows["final"]]


def evaluations(given: Inputs, name: str) -> pd.DataFrame:
    """Return a sweep's evaluations of runs that did not diverge; see `sweep`."""
    return _sound(given.evaluations, "evaluated sweep", name)


def _sound(tables: Mapping[str, pd.DataFrame], kind: str, name: str) -> pd.DataFrame:
    if name not in tables:
        raise Undecided(f"the {kind} {name} is not given")
    rows = tables[name][tables[name]["status"] != "diverged"]
    if rows.empty:
        raise Undecided(f"all {tables[name]['run'].nunique()} runs of the {kind} {name} diverged")
    return rows


def law(given: Inputs, name: str) -> Fit:
    """Return an identified law.

    Raises
    ------
    Undecided
        When the law is not given or not identified.
    """
    fit = given.laws.get(name)
    if fit is None:
        raise Undecided(f"the law {name} is not given")
    if not fit.identified:
        raise Undecided(f"the law {name} is not identified ({fit.reason})")
    return fit


def points(given: Inputs, name: str) -> pd.DataFrame:
    """Return the rows that an identified law was fitted to, with `residual`, the logarithm of measured over predicted.

    Raises
    ------
    Undecided
        When the law or its points are not given, or it is not identified.
    """
    law(given, name)
    if name not in given.points:
        raise Undecided(f"the points of the law {name} are not given")
    return given.points[name]


# Laws


def parameter(given: Inputs, law_name: str, name: str) -> Number:
    """Return a law's parameter with its interval."""
    value = law(given, law_name).parameters[name]
    return Number(value.estimate, value.low, value.high)


def derived(function: Callable[..., Any], *fits: Fit) -> Number:
    """Return a function of laws' parameters with the interval that their bootstrap draws give it.

    Parameters
    ----------
    function
        Takes a dict of parameters for each law, numbers or arrays of draws.
    fits
        The laws; draws of several laws are paired by replicate (`fit.paired_draws`).
    """
    value = float(function(*({name: fit.value(name) for name in fit.parameters} for fit in fits)))
    paired = paired_draws(*fits)
    if not len(paired[0]):
        return Number(value)
    with np.errstate(all="ignore"):
        draws = np.asarray(function(*(_named(fit, draws) for fit, draws in zip(fits, paired, strict=True))), float)
    return Number(value, *interval(draws))


def _named(fit: Fit, draws: np.ndarray) -> dict[str, np.ndarray]:
    return {
        name: np.exp(column) if name in fit.log_parameters else column
        for name, column in zip(fit.parameters, draws.T, strict=True)
    }


def curves_law(given: Inputs) -> Fit:
    """Return L(N, S_min), identified and of curves at one learning rate.

    Raises
    ------
    Undecided
        When it is not given or not identified, or when the rate falls along the curves that it was fitted to.
    """
    rows = points(given, "L_N_S")
    part = float((rows["lr"] >= ONE_RATE * rows["lr_peak"]).mean())
    if part < ONE_RATE:
        raise Undecided(
            f"the learning rate falls along the curves of L(N, S_min), and the loss with it: at {100 * part:.0f} % of "
            "the points it is at its peak (schedule wsd holds it there)"
        )
    return law(given, "L_N_S")


def require_fixed_batch(given: Inputs) -> None:
    """Refuse what compares C with C_min where the fixed batch is so far below B_crit that the two are one.

    Raises
    ------
    Undecided
        When the batch of the sweep sizes over B_crit, mean on the frontier, is below `FIXED_BATCH`.
    """
    critical, frontier = law(given, "B_crit"), points(given, "L_C")
    log_batch = np.log(ends(given, "sizes")["batch_tokens"].astype(float)).mean()
    ratio = math.exp((log_batch - np.log(critical.predict(loss=frontier["loss"]))).mean())
    if ratio < FIXED_BATCH:
        raise Undecided(
            f"the batch is {ratio:.2g} of B_crit, and so far below it C is C_min: a batch of B_crit is needed"
        )


# Samples


def mean(values: Any) -> Number:
    """Return the mean of independent values with its t-interval; one value has none.

    Examples
    --------
    >>> [round(float(part), 2) for part in mean([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    values = np.asarray(values, float)
    n = len(values)
    if n == 0:
        raise Undecided("no run to take a mean of")
    if n == 1:
        return Number(float(values[0]))
    half = stdtrit(n - 1, 0.975) * values.std(ddof=1) / math.sqrt(n)
    return Number(values.mean(), values.mean() - half, values.mean() + half)


def slope(x: Any, y: Any) -> Number:
    """Return the least-squares slope of y on x with its t-interval; none with fewer than three different x.

    Examples
    --------
    >>> slope([0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 5.0, 7.0]).value
    2.0
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(np.unique(x)) < 2:
        raise Undecided(f"a slope needs two different places on its axis; there is {len(np.unique(x))}")
    away = x - x.mean()
    value = float(away @ y / (away @ away))
    if len(np.unique(x)) < 3:
        return Number(value)
    residual = y - y.mean() - value * away
    error = math.sqrt(residual @ residual / (len(x) - 2) / (away @ away))
    half = stdtrit(len(x) - 2, 0.975) * error
    return Number(value, value - half, value + half)


def spread(squares: float, freedom: int) -> Number:
    """Return a standard deviation from a sum of squares and its degrees of freedom, with its chi-square interval.

    Examples
    --------
    >>> [round(part, 2) for part in spread(10.0, 10)]
    [1.0, 0.7, 1.75]
    """
    if freedom < 1:
        raise Undecided("no run is repeated with another seed")
    low, high = (math.sqrt(squares / chdtri(freedom, tail)) for tail in (0.025, 0.975))
    return Number(math.sqrt(squares / freedom), low, high)


def spread_ratio(first: float, first_freedom: int, second: float, second_freedom: int) -> Number:
    """Return the ratio of two independent samples' standard deviations, from sums of squares, with its F-interval."""
    if first_freedom < 1 or second_freedom < 1:
        raise Undecided("too few repeats to compare spreads")
    if not first > 0 < second:
        raise Undecided("repeats do not differ at all: there is no spread to compare")
    ratio = (first / first_freedom) / (second / second_freedom)
    low = ratio / fdtri(first_freedom, second_freedom, 0.975)
    high = ratio / fdtri(first_freedom, second_freedom, 0.025)
    return Number(math.sqrt(ratio), math.sqrt(low), math.sqrt(high))


def paired_spread_ratio(first: Any, second: Any, fitted: int = 2) -> Number:
    """Return the ratio of two residuals' root mean squares on the same runs, with Pitman and Morgan's interval.

    Parameters
    ----------
    first, second
        Residuals of two fits to the same runs.
    fitted
        Parameters of each fit, taken off the degrees of freedom.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    ratio = float((first @ first) / (second @ second))
    freedom = len(first) - 1 - fitted
    if freedom < 1:
        return Number(math.sqrt(ratio))
    agreement = (first @ second) ** 2 / ((first @ first) * (second @ second))
    k = 1 + 2 * (1 - agreement) * stdtrit(freedom, 0.975) ** 2 / freedom
    reach = k + math.sqrt(k * k - 1)
    return Number(math.sqrt(ratio), math.sqrt(ratio / reach), math.sqrt(ratio * reach))


def resampled(rows: pd.DataFrame, columns: list[str], statistic: Callable[[pd.DataFrame], float]) -> Number:
    """Return a statistic of some columns of a table with its interval by bootstrap over runs."""
    places = list(rows.reset_index(drop=True).groupby("run", sort=True).indices.values())
    rows = rows[columns]  # a narrow table is quickly resampled
    value = float(statistic(rows))
    if len(places) < LEAST_RUNS:
        return Number(value)
    stream = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES):
        chosen = stream.integers(len(places), size=len(places))
        draws.append(statistic(rows.iloc[np.concatenate([places[i] for i in chosen])]))
    return Number(value, *interval(draws))


def root_mean_square(rows: pd.DataFrame) -> float:
    """Return the size of a table's `residual`."""
    return float(np.sqrt(np.mean(rows["residual"] ** 2)))


# Comparisons of runs


def repeats(final: pd.DataFrame) -> tuple[pd.Series, int]:
    """Return the relative deviations of final losses from the mean over seeds, and their degrees of freedom.

    Runs without a repeat have none. The spread of seeds is the root of the sum of squares over the freedom.
    """
    final = final.drop_duplicates("run")
    groups = final.groupby(SETTINGS, dropna=False)["loss"]
    size = groups.transform("size")
    relative = (final["loss"] / groups.transform("mean") - 1)[size > 1]
    return relative, len(relative) - int((size[size > 1] ** -1.0).sum().round())


def seed_noise(given: Inputs) -> tuple[float, int]:
    """Return the relative standard deviation of final losses over seeds, in all sweeps, and its degrees of freedom.

    Raises
    ------
    Undecided
        When no run is repeated with another seed.
    """
    finals = [ends(given, name) for name in given.sweeps if (given.sweeps[name]["status"] != "diverged").any()]
    if not finals:
        raise Undecided("no sweep is given")
    relative, freedom = repeats(longest(pd.concat(finals)))
    return spread(float(relative @ relative), freedom).value, freedom


def excess(rows: pd.DataFrame, reference: pd.DataFrame, x: str = "n_params") -> pd.DataFrame:
    """Compare runs with reference runs of equal size: `excess` is the logarithm of the loss over theirs.

    The reference loss is interpolated in ln L and ln N between means over seeds; of a size with several lengths the
    one is taken that is nearest to the run's. Runs outside the reference's sizes, or trained on another number of
    tokens, have no counterpart and are left out.

    Parameters
    ----------
    rows, reference
        One row a run: `loss`, `n_tokens`, and N in n_params (reference) and in `x` (rows).

    Raises
    ------
    Undecided
        When no run has a counterpart.
    """
    known = np.log(reference[reference["n_params"] > 0][["n_params", "loss", "n_tokens"]].astype(float))
    known = known.reset_index(drop=True)
    if known["n_params"].nunique() < 2:
        raise Undecided(f"{known['n_params'].nunique()} sizes to compare with; 2 are needed")
    own = np.log(rows[[x, "loss", "n_tokens"]].astype(float))
    found = [_counterpart(known, *run) for run in own[[x, "n_tokens"]].to_numpy()]
    inside, alike, loss = (np.array(column) for column in zip(*found, strict=True))
    if not (inside & alike).any():
        raise Undecided(
            f"none of {len(rows)} runs has a counterpart of its size and training tokens "
            f"({inside.sum()} of the sizes, {alike.sum()} of the tokens)"
        )
    return rows.assign(excess=own["loss"] - loss)[inside & alike]


def _counterpart(known: pd.DataFrame, size: float, tokens: float) -> tuple[bool, bool, float]:
    """Return whether a run lies within the sizes, whether it has their tokens there, and their loss; all in ln."""
    order = (known["n_tokens"] - tokens).abs().sort_values(kind="stable").index
    length = known.loc[order].groupby("n_params")["n_tokens"].first()
    nearest = known[known["n_tokens"] == known["n_params"].map(length)].groupby("n_params").mean()
    sizes = nearest.index.to_numpy()
    inside = sizes[0] - 0.05 <= size <= sizes[-1] + 0.05
    alike = abs(np.interp(size, sizes, nearest["n_tokens"]) - tokens) <= math.log(SAME_TOKENS)
    return inside, alike, float(np.interp(size, sizes, nearest["loss"]))
