"""Claims 1, 2, 3: the loss is a power law of model size, of data and of compute (sections 3.2, 3.3 and 6)."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import longest
from pipeline.claims import measure
from pipeline.claims.verdict import Claim, Number, Undecided, check, near

STRAIGHT = 0.99
"""R^2 of ln L against ln N (or ln D) that is called a straight line; the paper's trends are straight to the eye
(docs/paper.md, claim 1)."""
LEAST_DECADES = 3
"""Over fewer decades of N a power law and a logarithm can't be told apart; our number (docs/paper.md, claim 1)."""
LEAST_POINTS = 4
"""Sizes of model or data that a straight line must pass (docs/paper.md, claim 1)."""
HELD_OUT = 1 / 3
"""Share of the sizes, the largest, on which the two forms are compared (docs/paper.md, claim 1)."""


def _end_points(given: Inputs) -> pd.DataFrame:
    final = longest(measure.ends(given, "sizes"))
    return final[final["fitted"] & (final["n_params"] > 0)].drop_duplicates("run")


def _r_squared(x: str) -> measure.Callable[[pd.DataFrame], float]:
    """Return the R^2 of ln L against ln x."""

    def statistic(rows: pd.DataFrame) -> float:
        if rows[x].nunique() < 3:
            return math.nan
        return float(np.corrcoef(np.log(rows[x]), np.log(rows["loss"]))[0, 1] ** 2)

    return statistic


def _straight(rows: pd.DataFrame, x: str, what: str) -> Number:
    if rows[x].nunique() < LEAST_POINTS:
        raise Undecided(f"{rows[x].nunique()} sizes of {what}; {LEAST_POINTS} are needed to see a straight line")
    return measure.resampled(rows, [x, "loss"], _r_squared(x))


@check("exponent of L(N)", "sizes", **near(0.076))
def size_exponent(given: Inputs) -> Number:
    return measure.parameter(given, "L_N", "alpha_N")


@check("R² of ln L against ln N", "sizes", least=STRAIGHT)
def size_straight(given: Inputs) -> Number:
    return _straight(_end_points(given), "n_params", "model")


def short_of_decades(given: Inputs) -> str | None:
    """Say how many decades of N the fitted sizes span, if they are too few for claim 1."""
    runs = measure.design(given, "sizes")
    sizes = runs[runs["fitted"] & (runs["n_params"] > 0)]["n_params"]
    decades = math.log10(sizes.max() / sizes.min()) if len(sizes) else 0.0
    if decades >= LEAST_DECADES:
        return None
    return f"it asks for {LEAST_DECADES} decades of N, and the fitted sizes span {decades:.1f}"


@check("error on the largest sizes, power law over logarithm", "sizes", most=1)
def power_beats_logarithm(given: Inputs) -> Number:
    if short := short_of_decades(given):
        raise Undecided(f"{short}: a power law and a logarithm are alike over fewer")
    rows = _end_points(given)
    sizes = np.sort(rows["n_params"].unique())
    limit = sizes[math.ceil(len(sizes) * (1 - HELD_OUT))]
    return measure.resampled(rows, ["n_params", "loss"], lambda sample: _held_out_ratio(sample, limit))


def _held_out_ratio(rows: pd.DataFrame, limit: float) -> float:
    """Return the error of ln L at N of `limit` and more, of lines fitted below: ln L on ln N over L on ln N."""
    seen, held = rows[rows["n_params"] < limit], rows[rows["n_params"] >= limit]
    if seen["n_params"].nunique() < 2 or held.empty:
        return math.nan
    x, loss = np.log(seen["n_params"]), seen["loss"]
    at, truth = np.log(held["n_params"]), np.log(held["loss"])
    power = np.polyval(np.polyfit(x, np.log(loss), 1), at)
    logarithm = np.log(np.maximum(np.polyval(np.polyfit(x, loss, 1), at), 1e-3))
    return float(np.sqrt(np.mean((power - truth) ** 2) / np.mean((logarithm - truth) ** 2)))


@check("exponent of L(D)", "data", **near(0.095))
def data_exponent(given: Inputs) -> Number:
    return measure.parameter(given, "L_D", "alpha_D")


@check("R² of ln L against ln D", "data", least=STRAIGHT)
def data_straight(given: Inputs) -> Number:
    return _straight(measure.points(given, "L_D"), "n_tokens", "data set")


@check("exponent of L(C_min)", "sizes", "batches", **near(0.050))
def least_compute_exponent(given: Inputs) -> Number:
    return measure.parameter(given, "L_C_min", "alpha_C_min")


@check("exponent of L(C) at a fixed batch", "sizes", **near(0.057))
def compute_exponent(given: Inputs) -> Number:
    return measure.parameter(given, "L_C", "alpha_C")


@check("scatter about L(C_min) over scatter about L(C)", "sizes", "batches", most=1)
def adjusted_is_cleaner(given: Inputs) -> Number:
    measure.require_fixed_batch(given)
    adjusted, naive = (measure.points(given, name)["residual"] for name in ("L_C_min", "L_C"))
    return measure.spread_ratio(float(adjusted @ adjusted), len(adjusted) - 2, float(naive @ naive), len(naive) - 2)


CLAIMS = (
    Claim(
        1,
        "The loss is a power law of the number of parameters, a straight line on logarithmic axes; a logarithm fits "
        "worse.",
        paper="exponent 0.076 over 6 decades",
        test="Exponent of L(N); R² of ln L against ln N; error of both forms on the largest third of the sizes when "
        "fitted to the rest, which needs 3 decades of N.",
        checks=(size_exponent, size_straight, power_beats_logarithm),
        reach=short_of_decades,
    ),
    Claim(
        2,
        "The early-stopped loss of a large model is a power law of the size of its data.",
        paper="exponent 0.095 over 2 decades",
        test="Exponent of L(D); R² of ln L against ln D.",
        checks=(data_exponent, data_straight),
    ),
    Claim(
        3,
        "The loss is a power law of compute; adjusted to the least compute C_min it is a cleaner one.",
        paper="exponents 0.050 (C_min), 0.057 (fixed batch)",
        test="Exponents of L(C_min) and L(C); scatter of ln L about the one over scatter about the other, at a fixed "
        "batch of B_crit and more.",
        checks=(least_compute_exponent, compute_exponent, adjusted_is_cleaner),
    ),
)
