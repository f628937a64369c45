"""Claims 13 to 17 and 21: learning curves, and how to spend compute (sections 5.2 and 6, appendices B and D.4)."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import longest
from pipeline.claims import measure
from pipeline.claims.verdict import Claim, Number, Undecided, check, near
from pipeline.laws import FORMULAS, Fit
from pipeline.laws.algebra.contradiction import crossing
from pipeline.laws.algebra.efficiency import excess_compute, size_ratio, steps_ratio

FITS = 0.03
"""Part of the loss within which the points of Figures 4 and 11 lie about Eq 5.6 (docs/paper.md, claim 13)."""
EARLY = 0.5
"""Part of the steps that is early, when that part of the curves is to predict the end (docs/paper.md, claim 13)."""
PREDICTS = 0.05
"""Part of the loss within which a prediction from the early part is good: half of the 10 % at which one stops
(docs/paper.md, claim 13)."""
ADJUSTED = (0.67, 0.80)
"""Exponent of N in C_min: 0.70 to 0.77 in later work, and 0.03 more each way (docs/paper.md, claim 14)."""
NAIVE = (0.80, 0.93)
"""Exponent of N in C at a fixed batch: 0.83 to 0.90 in later work, 0.03 more each way (docs/paper.md, claim 14)."""
CONSTANT = 0.10
"""Steps are nearly constant below this exponent: 1.26 times for 10 times the compute (docs/paper.md, claim 14)."""
CONVERGED = 0.02
"""Excess over the converged loss at which training usually stops, appendix B.3 (docs/paper.md, claim 15)."""
SIZES_ASIDE = (0.6, 2.2)
"""Sizes over the best one between which little compute is lost, appendix B.4 (docs/paper.md, claim 16)."""
LITTLE = 1.26
"""Compute over the least: 20 % more, within the factor REPLICATION of it (docs/paper.md, claim 16)."""


def _exponent(given: Inputs, name: str) -> Number:
    """Return the exponent of a trend y = k C^p."""
    return measure.parameter(given, name, "p")


# Claim 13


@check("alpha_S of L(N, S_min)", "sizes", "batches", **near(0.76))
def steps_exponent(given: Inputs) -> Number:
    measure.curves_law(given)
    return measure.parameter(given, "L_N_S", "alpha_S")


@check("misfit of L(N, S_min), relative", "sizes", most=FITS)
def curves_misfit(given: Inputs) -> Number:
    return measure.resampled(measure.points(given, "L_N_S"), ["residual"], measure.root_mean_square)


@check("error at the end of the curves when fitted to their first half, relative", "sizes", most=PREDICTS)
def early_predicts_late(given: Inputs) -> Number:
    rows = measure.points(given, "L_N_S")
    last = rows.groupby("run")["steps"].transform("max")
    fit = FORMULAS["L_N_S"].fit(rows[rows["steps"] <= EARLY * last], n_boot=0)
    if not fit.identified:
        raise Undecided(f"L(N, S_min) is not identified by the first half of the curves ({fit.reason})")
    late = rows[rows["steps"] == last]
    predicted = fit.predict(n_params=late["n_params"], steps=late["steps"])
    late = late.assign(residual=np.log(late["loss"] / predicted))
    return measure.resampled(late, ["residual"], measure.root_mean_square)


# Claim 14


@check("exponent of N in C_min", "sizes", "batches", least=ADJUSTED[0], most=ADJUSTED[1])
def size_by_least_compute(given: Inputs) -> Number:
    return _exponent(given, "N_opt_min")


@check("exponent of N in C at a fixed batch", "sizes", least=NAIVE[0], most=NAIVE[1])
def size_by_compute(given: Inputs) -> Number:
    measure.require_fixed_batch(given)
    return _exponent(given, "N_opt")


@check("exponent of the steps in C_min", "sizes", "batches", least=-CONSTANT, most=CONSTANT)
def steps_by_least_compute(given: Inputs) -> Number:
    return _exponent(given, "S_opt_min")


@check("exponent of the batch in C_min", "sizes", "batches", **near(0.24))
def batch_by_least_compute(given: Inputs) -> Number:
    return _exponent(given, "B_opt_min")


@check("exponent of the data in C_min", "sizes", "batches", **near(0.27))
def data_by_least_compute(given: Inputs) -> Number:
    return _exponent(given, "D_opt_min")


# Claims 15 and 16


def _stop(p: dict[str, np.ndarray]) -> np.ndarray:
    """Return f = alpha_N / alpha_S, the part above the converged loss at which to stop (Eq B.5)."""
    return p["alpha_N"] / p["alpha_S"]


@check("part above the converged loss at which to stop, alpha_N / alpha_S", "sizes", "batches", **near(0.10))
def stop_early(given: Inputs) -> Number:
    return measure.derived(_stop, measure.curves_law(given))


@check("parameters over those of training to 2 % above it", "sizes", "batches", **near(2.7))
def parameters_gained(given: Inputs) -> Number:
    fit = measure.curves_law(given)
    return measure.derived(lambda p: size_ratio(_stop(p), CONVERGED, p["alpha_N"]), fit)


@check("steps over those of training to 2 % above it", "sizes", "batches", **near(1 / 7.7))
def steps_saved(given: Inputs) -> Number:
    fit = measure.curves_law(given)
    return measure.derived(lambda p: steps_ratio(_stop(p), CONVERGED, p["alpha_S"]), fit)


@check("most compute over the least for 0.6 to 2.2 times the best size", "sizes", "batches", most=LITTLE)
def off_size_is_cheap(given: Inputs) -> Number:
    def most(p: dict[str, np.ndarray]) -> np.ndarray:  # Eq B.16
        return np.maximum(*(excess_compute(ratio, p["alpha_N"], p["alpha_S"]) for ratio in SIZES_ASIDE))

    return measure.derived(most, measure.curves_law(given))


# Claim 17


@check("exponent in N of the tokens to the smallest model's final loss", "sizes", most=0)
def larger_learn_faster(given: Inputs) -> Number:
    curves = longest(measure.sweep(given, "sizes"))
    curves = curves[curves["fitted"] & (curves["n_params"] > 0) & (curves["n_tokens"] > 0)]
    level = curves.groupby("run")["loss"].min().max()
    sizes, tokens = [], []
    for _, curve in curves.sort_values("step").groupby("run"):
        sizes.append(math.log(curve["n_params"].iloc[0]))
        tokens.append(_log_tokens_to(curve, level))
    return measure.slope(sizes, tokens)


def _log_tokens_to(curve: pd.DataFrame, level: float) -> float:
    """Return ln of the tokens at which a curve first reaches a loss, between evaluations by a straight line."""
    loss, log_tokens = curve["loss"].to_numpy(), np.log(curve["n_tokens"].to_numpy(float))
    first = int(np.argmax(loss <= level))
    if first == 0:
        return float(log_tokens[0])
    part = (loss[first - 1] - level) / (loss[first - 1] - loss[first])
    return float(log_tokens[first - 1] + part * (log_tokens[first] - log_tokens[first - 1]))


# Claim 21


@check("exponent of L(C_min) less that of L(D(C_min))", "sizes", "batches", "data", least=0)
def laws_cross(given: Inputs) -> Number:
    return measure.derived(
        lambda least, data, loss: least["alpha_C_min"] - loss["alpha_D"] * data["p"], *_crossing_laws(given)
    )


@check("compute at which the two laws cross over the largest C_min of ours", "sizes", "batches", "data", least=1)
def crossing_is_ahead(given: Inputs) -> Number:
    found = crossing(*_crossing_laws(given))
    if found is None:
        raise Undecided("the two laws cross at no larger compute")
    reached = measure.points(given, "L_C_min")["flops"].max()
    low, high = (None if end is None else end / reached for end in (found.low, found.high))
    return Number(found.flops / reached, low, high)


def _crossing_laws(given: Inputs) -> tuple[Fit, Fit, Fit]:
    least, data, loss = (measure.law(given, name) for name in ("L_C_min", "D_opt_min", "L_D"))
    return least, data, loss


CLAIMS = (
    Claim(
        13,
        "Learning curves after warmup follow L(N, S_min) with shared constants, and their early part extrapolates.",
        paper="alpha_S 0.76",
        test="Exponent of S_min of curves at one learning rate; root-mean-square misfit of ln L at most 3 %; error at "
        "the end of each curve of the law fitted to all first halves, at most 5 %.",
        checks=(steps_exponent, curves_misfit, early_predicts_late),
    ),
    Claim(
        14,
        "Compute is best spent mostly on larger models, some on larger batches, next to nothing on more steps.",
        paper="N 0.73 (fixed batch 0.88), B 0.24, S 0.03, D 0.27",
        test="Exponents in C_min of the size, steps, batch and data on the compute frontier; of the size in C at a "
        "fixed batch of B_crit and more.",
        checks=(
            size_by_least_compute,
            size_by_compute,
            steps_by_least_compute,
            batch_by_least_compute,
            data_by_least_compute,
        ),
    ),
    Claim(
        15,
        "It is best to stop about 10 % above the converged loss: against stopping at 2 %, 2.7 times the parameters and "
        "7.7 times fewer steps.",
        paper="10 %",
        test="alpha_N / alpha_S of L(N, S_min); Eq B.12 and B.13 with our exponents.",
        checks=(stop_early, parameters_gained, steps_saved),
    ),
    Claim(
        16,
        "Models of 0.6 to 2.2 times the best size cost at most 20 % more compute.",
        paper="20 %",
        test="Eq B.16 with the exponents of our L(N, S_min), at most 26 % more.",
        checks=(off_size_is_cheap,),
    ),
    Claim(
        17,
        "Larger models are more sample efficient: they reach a loss with fewer tokens.",
        paper="100 times fewer over the paper's sizes",
        test="Slope, on logarithmic axes, of the tokens to the loss that every size reaches against N; the factor of "
        "100 is for the paper's range of sizes.",
        checks=(larger_learn_faster,),
    ),
    Claim(
        21,
        "L(C_min) falls faster than the data of such training allows, so the two laws contradict each other beyond a "
        "crossing.",
        paper="crossing near 1e4 PF-days",
        test="Exponent of L(C_min) over that of L(D) with the data of one epoch; the crossing lies beyond our "
        "compute. Its place depends on tokenizer and text, and whether it is the entropy of text is a conjecture.",
        checks=(laws_cross, crossing_is_ahead),
    ),
)
