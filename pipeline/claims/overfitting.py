"""Claims 9 and 10: limited data, and when to stop early (sections 4 and 5.3, appendix D.1)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.claims import measure
from pipeline.claims.verdict import Claim, Number, Undecided, check, near
from pipeline.laws import FORMULAS
from pipeline.laws.algebra.efficiency import minimum_steps, stop_bound
from pipeline.laws.fitting.fit import paired_draws
from pipeline.laws.fitting.intervals import interval

FITS = 0.02
"""Part of the loss within which Eq 1.5 fits: the paper's own bound for overfitting that noise hides, section 4.2
(docs/paper.md, claim 9)."""
FEW_UPDATES = 41
"""Data of so few batches overfit at once, and the paper finds Eq 1.5 off there: 2.15e7 / 2^19, section 4.2
(docs/paper.md, claim 9)."""
OVERFITS = 0.05
"""Part of the loss that data cost, by Eq 1.5, from which on the turn of the test loss stands out of its noise
(docs/paper.md, claim 10)."""
LOW_QUANTILE = 0.1
"""Share of the runs that may miss a lower bound by noise: one in ten (docs/paper.md, claim 10)."""
LEAST_STOPPED = 6
"""Runs whose test loss turned that this quantile needs (docs/paper.md, claim 10)."""


@check("exponent of D in N that keeps overfitting constant, alpha_N / alpha_D", "data", **near(0.74))
def data_by_size(given: Inputs) -> Number:
    fit = measure.law(given, "L_N_D")
    return measure.derived(lambda p: p["alpha_N"] / p["alpha_D"], fit)


@check("misfit of L(N, D), relative", "data", most=FITS)
def misfit(given: Inputs) -> Number:
    rows = measure.points(given, "L_N_D")
    kept = rows[rows["n_unique_tokens"] / rows["batch_tokens"] > FEW_UPDATES]
    if kept.empty:
        raise Undecided(f"no data set has more than {FEW_UPDATES} batches")
    return measure.resampled(kept, ["residual"], measure.root_mean_square)


@check("step of least test loss over the bound, one run in ten is below", "data", least=1)
def stop_above_bound(given: Inputs) -> Number:
    loss, critical = (measure.law(given, name) for name in ("L_N_D", "B_crit"))
    laws = (loss, measure.curves_law(given), critical)
    rows = _stopped(measure.sweep(given, "data"))
    unlimited = loss.predict(n_params=rows["n_params"], n_tokens=np.inf)
    rows = rows[loss.predict(n_params=rows["n_params"], n_tokens=rows["n_unique_tokens"]) >= (1 + OVERFITS) * unlimited]
    if len(rows) < LEAST_STOPPED:
        raise Undecided(
            f"{len(rows)} runs of the sweep data cost {100 * OVERFITS:.0f} % of the loss and had their least test loss "
            f"before their end; {LEAST_STOPPED} are needed"
        )
    value = float(np.quantile(_over_bound(rows, *(np.array(law.vector)[None] for law in laws)), LOW_QUANTILE))
    draws = paired_draws(*laws)
    if not len(draws[0]):
        return Number(value)
    ratios = _over_bound(rows, *draws)
    chosen = np.random.default_rng(0).integers(len(rows), size=ratios.shape)  # a row is a run
    return Number(value, *interval(np.quantile(np.take_along_axis(ratios, chosen, 1), LOW_QUANTILE, axis=1)))


def _over_bound(rows: pd.DataFrame, loss: np.ndarray, steps: np.ndarray, critical: np.ndarray) -> np.ndarray:
    """Return the step of least test loss over the bound of Eq 5.7, (n_draws, n_runs).

    Vectors of the laws are in the order of their parameters: N_c, alpha_N, S_c and alpha_S of L(N, S).
    """
    size = {"n_params": rows["n_params"].to_numpy(float)}
    data = rows["n_unique_tokens"].to_numpy(float)
    with np.errstate(all="ignore"):
        limited, unlimited = (
            FORMULAS["L_N_D"].evaluate(loss, size | {"n_tokens": n_tokens}) for n_tokens in (data, np.inf * data)
        )
        bound = stop_bound(limited, unlimited, np.exp(steps[:, 2:3]), steps[:, 3:4])
        b_crit = FORMULAS["B_crit"].evaluate(critical, {"loss": rows["loss"].to_numpy()})
        return minimum_steps(rows["next_step"].to_numpy(), rows["batch_tokens"].to_numpy(), b_crit) / bound


def _stopped(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of least test loss of runs that went on after it, with the step of the next evaluation.

    The least loss lies between the evaluations around it: the later one is what a lower bound must not exceed.
    """
    table = table.sort_values(["run", "step"])
    after = table.groupby("run")["step"].shift(-1)
    rows = table.assign(next_step=after)
    return rows[rows["best"] & after.notna() & ~rows["all_data"] & (rows["step"] > 0)]


CLAIMS = (
    Claim(
        9,
        "Overfitting depends on N^0.74 / D alone: Eq 1.5 fits the early-stopped losses, and 8 times the size needs "
        "about 5 times the data.",
        paper="0.74",
        test="alpha_N / alpha_D of the fit of L(N, D); its root-mean-square misfit without data of 41 batches and "
        "fewer, at most 2 %.",
        checks=(data_by_size, misfit),
    ),
    Claim(
        10,
        "Early stopping comes no earlier than S_c / (L(N, D) - L(N, inf))^(1 / alpha_S).",
        paper="a lower bound",
        test="Step of least test loss, adjusted to a large batch, over the bound of Eq 5.7: the value that one run "
        "in ten is below, at least 1.",
        checks=(stop_above_bound,),
    ),
)
