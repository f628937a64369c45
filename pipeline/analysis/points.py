"""Which rows of which sweeps a law of the catalog is fitted to: its points, in one place.

L(N) is read where a run ended; L(D) and L(N, D) where its test loss was lowest (early stopping). Runs that diverged
and shapes that are only shown are left out. `pipeline.analysis.fit` fits them and writes them beside the law, with
residuals: figures, tables and claims read that file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.analysis.chain import Replicates, efficient, frontier_trend, learning_curves
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import longest
from pipeline.errors import UserError
from pipeline.laws.algebra.efficiency import minimum_compute, minimum_steps
from pipeline.laws.fitting.fit import Fit
from pipeline.laws.formulas.critical_batch import loss_levels, scan_points
from pipeline.laws.formulas.frontier import frontier

LEAST_EPOCHS = 2.0
"""A run whose data set is seen fewer times is limited by its training, not by its data, and is no point of L(D)."""

LEAST_CONTEXT = 16
"""Tokens of context from which on a loss is compared with an entropy rate: three words of the synthetic language."""


@dataclass(frozen=True)
class Recipe:
    """How a law of the catalog is fitted: its points, made from sweeps and other laws."""

    points: Callable[[Inputs], pd.DataFrame]
    hold_out: int = 0
    """Also fit without so many of the largest models, and report the error on them."""
    replicates: Callable[[Inputs, Fit, pd.DataFrame, int, int], Replicates | str] | None = None
    """How the law is refitted to replicates, from inputs, fit, points, n_boot and seed; None: as `Law.fit` does it."""


def fitted_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of runs that may be fitted: not diverged, not only shown."""
    return table[table["fitted"] & (table["status"] != "diverged")]


def ends(given: Inputs) -> pd.DataFrame:
    """Return the last row of each run on all data, of several lengths the longest: L(N), Eq 3.1."""
    rows = longest(fitted_rows(given.sweeps["sizes"]))
    return rows[rows["final"]]


def grid_ends(given: Inputs) -> pd.DataFrame:
    """Return a row a run of a grid of sizes and lengths: L = E + A / N^alpha + B / D^beta, no token seen twice.

    The loss is that of positions with a context of at least `LEAST_CONTEXT` tokens: the first ones of a window lack
    what the language's entropy rate takes as known.
    """
    ends = fitted_rows(given.sweeps["validation"])
    ends = ends[ends["final"] & (ends["epochs"] <= 1)]
    rows = given.evaluations["validation"]
    rows = rows[(rows["corpus"] == "test") & rows["final"] & (rows["position"] > LEAST_CONTEXT)]
    return ends.assign(loss=ends["run"].map(rows.groupby("run")["loss"].mean()))


def early_stopped(given: Inputs) -> pd.DataFrame:
    """Return the row of lowest test loss of each run: L(N, D), Eq 1.5.

    A run that never saw a token twice had no limit from its data: its n_tokens is infinite.
    """
    rows = fitted_rows(given.sweeps["data"])
    last_epochs = rows.groupby("run")["epochs"].transform("max")
    n_tokens = np.where(rows["all_data"] & (last_epochs <= 1), np.inf, rows["n_unique_tokens"])
    return rows.assign(n_tokens=n_tokens, last_epochs=last_epochs)[rows["best"]]


def data_limited(given: Inputs) -> pd.DataFrame:
    """Return the early-stopped rows of the largest model whose data were seen at least twice: L(D), Eq 3.2."""
    rows = early_stopped(given)
    return rows[(rows["n_params"] == rows["n_params"].max()) & (rows["last_epochs"] >= LEAST_EPOCHS)]


class NotIdentified(Exception):
    """A law that this one rests on is not identified, or the points that it needs do not exist."""


def batch_scans(given: Inputs) -> pd.DataFrame:
    """Return the steps that each run of `batches` needed to reach each loss level: B_crit(L), Eq 5.1 and 5.3."""
    batches = fitted_rows(given.sweeps["batches"])
    scan = scan_points(batches, loss_levels(batches))
    if scan.empty:
        raise NotIdentified("no loss level is passed by enough batch sizes")
    return scan


def after_warmup(given: Inputs) -> pd.DataFrame:
    """Return the learning curves of `sizes` after warmup with S_min and C_min, adjusted by B_crit (Eq 5.4, 5.5)."""
    if not given.laws["B_crit"].identified:
        raise NotIdentified(f"B_crit is not identified: {given.laws['B_crit'].reason}")
    rows = curves_at_fixed_batch(given)
    rows = rows[rows["loss"].notna()]
    b_crit = given.laws["B_crit"].predict(loss=rows["loss"].to_numpy())
    return rows.assign(
        b_crit=b_crit,
        steps=minimum_steps(rows["step"], rows["batch_tokens"], b_crit),
        c_min=minimum_compute(rows["flops"], rows["batch_tokens"], b_crit),
    )


def curves_at_fixed_batch(given: Inputs) -> pd.DataFrame:
    """Return the learning curves of `sizes` after warmup, those of wsd runs up to their cooldown, once for a trunk.

    In a cooldown the loss falls by a step that no law of the curve knows; before it the rate is constant, and a curve
    does not depend on the length of its run.
    """
    rows = fitted_rows(given.sweeps["sizes"])
    wsd = rows["schedule"] == "wsd"
    rows = rows[~wsd | rows.index.isin(longest(rows[wsd]).index)]
    cooling = (rows["schedule"] == "wsd") & (rows["step"] > rows["branch_point"])
    return rows[(rows["step"] > rows["warmup_steps"]) & ~cooling]


def naive_frontier(given: Inputs) -> pd.DataFrame:
    """Return the compute frontier at the fixed batch: L(C), N_opt(C), Eq 3.3 and Figure 14."""
    return _frontier(curves_at_fixed_batch(given), "flops")


def adjusted_frontier(given: Inputs) -> pd.DataFrame:
    """Return the frontier in C_min: L(C_min), N_opt, S_opt (as S_min), D_opt and B_opt, Eq 6.1 to 6.7."""
    rows = after_warmup(given)
    points = _frontier(rows, "c_min")
    b_crit = given.laws["B_crit"].predict(loss=points["loss"].to_numpy())
    return points.assign(**efficient(points["flops"], points["n_params"], b_crit))


def _frontier(rows: pd.DataFrame, compute: str) -> pd.DataFrame:
    try:
        return frontier(rows, compute)
    except UserError as error:
        raise NotIdentified(str(error)) from error


def _curves_again(given: Inputs, fit: Fit, points: pd.DataFrame, n_boot: int, seed: int) -> Replicates | str:
    return learning_curves(fit, points, given.laws["B_crit"], n_boot, seed)


def _naive_again(given: Inputs, fit: Fit, points: pd.DataFrame, n_boot: int, seed: int) -> Replicates | str:
    return frontier_trend(fit, curves_at_fixed_batch(given), n_boot, seed)


def _adjusted_again(given: Inputs, fit: Fit, points: pd.DataFrame, n_boot: int, seed: int) -> Replicates | str:
    return frontier_trend(fit, after_warmup(given), n_boot, seed, given.laws["B_crit"])


RECIPES: dict[str, Recipe] = {
    "L_N": Recipe(ends, hold_out=1),
    "log_N": Recipe(ends, hold_out=1),
    "L_D": Recipe(data_limited),
    "L_N_D": Recipe(early_stopped),
    "L_C": Recipe(naive_frontier, replicates=_naive_again),
    "N_opt": Recipe(naive_frontier, replicates=_naive_again),
    "S_opt": Recipe(naive_frontier, replicates=_naive_again),
    "B_crit": Recipe(batch_scans),
    "L_N_S": Recipe(after_warmup, replicates=_curves_again),
    "L_C_min": Recipe(adjusted_frontier, replicates=_adjusted_again),
    "N_opt_min": Recipe(adjusted_frontier, replicates=_adjusted_again),
    "S_opt_min": Recipe(adjusted_frontier, replicates=_adjusted_again),
    "D_opt_min": Recipe(adjusted_frontier, replicates=_adjusted_again),
    "B_opt_min": Recipe(adjusted_frontier, replicates=_adjusted_again),
    "chinchilla": Recipe(grid_ends),
}
"""Law of the catalog -> how it is fitted."""
