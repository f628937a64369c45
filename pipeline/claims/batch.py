"""Claims 11 and 12: the critical batch size (section 5.1, appendix D.3)."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.claims import measure
from pipeline.claims.verdict import Claim, Number, Undecided, check, near
from pipeline.laws.formulas.critical_batch import fit_levels, loss_levels, scan_points

SAME_CURVE = 2.0
"""Critical batch sizes of two models within this factor are one curve; the paper's two differ by less on Figure 10
(docs/paper.md, claim 11)."""
ORDER = 10**0.5
"""Half an order of magnitude each way: the noise scale predicts B_crit in its order (docs/paper.md, claim 11)."""
HYPERBOLA = 0.10
"""Relative misfit of the hyperbolas that the eye does not see on the paper's Figure 18 (docs/paper.md, claim 12)."""


def _levels(given: Inputs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the steps of each run to each loss level, and the hyperbola of each (size, level) that is identified."""
    batches = measure.sweep(given, "batches")
    points = scan_points(batches, loss_levels(batches))
    if points.empty:
        raise Undecided("no loss level is reached by runs of several batch sizes")
    levels = fit_levels(points)
    levels = levels[levels["identified"]]
    if levels.empty:
        raise Undecided("the hyperbola of no loss level is identified")
    return points, levels


@check("exponent of B_crit in 1 / L", "batches", **near(1 / 0.21))
def exponent(given: Inputs) -> Number:
    return measure.derived(lambda p: 1 / p["alpha_B"], measure.law(given, "B_crit"))


@check(
    "B_crit of the larger model over that of the smaller at equal loss",
    "batches",
    least=1 / SAME_CURVE,
    most=SAME_CURVE,
)
def same_curve(given: Inputs) -> Number:
    _, levels = _levels(given)
    by_size = levels.pivot(index="loss", columns="n_params", values="b_crit").dropna()
    if by_size.shape[1] < 2 or len(by_size) < 2:
        raise Undecided(f"{len(by_size)} loss levels have a B_crit of two sizes; 2 are needed")
    smaller, larger = by_size[min(by_size.columns)], by_size[max(by_size.columns)]
    return _ratio(np.log(larger / smaller))


@check("gradient noise scale over B_crit at equal loss", "batches", least=1 / ORDER, most=ORDER)
def noise_scale(given: Inputs) -> Number:
    critical = measure.law(given, "B_crit")
    rows = measure.sweep(given, "batches")
    rows = rows[(rows["step"] > rows["warmup_steps"]) & (rows["noise_scale"] > 0)]
    if rows.empty:
        raise Undecided("the sweep batches has no measured noise scale")
    log_ratio = np.log(rows["noise_scale"] / critical.predict(loss=rows["loss"]))
    return _ratio(log_ratio.groupby(rows["run"]).mean())


def _ratio(logarithms: pd.Series) -> Number:
    return Number(*(None if part is None else math.exp(part) for part in measure.mean(logarithms)))


@check("misfit of (S / S_min - 1)(E / E_min - 1) = 1 at each batch, relative", "batches", most=HYPERBOLA)
def hyperbola(given: Inputs) -> Number:
    points, levels = _levels(given)
    rows = points.merge(levels[["n_params", "loss", "s_min", "e_min", "n"]], on=["n_params", "loss"])
    rows = rows[rows["n"] > 2]
    if rows["run"].nunique() < measure.LEAST_RUNS:
        raise Undecided(
            f"{rows['run'].nunique()} runs lie on hyperbolas with points to spare; {measure.LEAST_RUNS} are needed"
        )
    predicted = rows["s_min"] + rows["e_min"] / rows["batch_tokens"]
    rows = rows.assign(residual=np.log(rows["steps"] / predicted))
    return measure.resampled(rows, ["residual"], measure.root_mean_square)


CLAIMS = (
    Claim(
        11,
        "The critical batch size depends on the loss alone, as a power of it, and the gradient noise scale roughly "
        "agrees.",
        paper="L^-4.8, doubling for 13 % less loss",
        test="Exponent of B_crit(L); B_crit of two sizes at equal loss, within a factor of 2; noise scale over "
        "B_crit at equal loss, within a half order of magnitude each way.",
        checks=(exponent, same_curve, noise_scale),
    ),
    Claim(
        12,
        "At each loss, steps and tokens of different batch sizes lie on the hyperbola (S / S_min - 1)(E / E_min - 1) "
        "= 1.",
        paper="holds at each loss",
        test="Root-mean-square misfit of ln S, and so of ln E, at each batch, over all loss levels with more than two "
        "batch sizes, at most 10 %.",
        checks=(hyperbola,),
    ),
)
