"""Fit one law of the catalog to the runs of its sweeps: which rows become its points, and the fit.

L(N) is read where a run ended; L(D) and L(N, D) where its test loss was lowest (early stopping). Runs that diverged
and shapes that are only shown are left out.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.catalog import LAWS as CATALOG
from pipeline.errors import UserError, command
from pipeline.laws import LAWS, Fit, load_fit
from pipeline.laws.critical_batch import fit_levels, loss_levels, scan_points
from pipeline.laws.efficiency import minimum_compute, minimum_steps
from pipeline.laws.frontier import frontier

Tables = Mapping[str, pd.DataFrame]
Fits = Mapping[str, Fit]

LEAST_EPOCHS = 2.0
"""A run whose data set is seen fewer times is limited by its training, not by its data, and is no point of L(D)."""

LEAST_CONTEXT = 16
"""Tokens of context from which on a loss is compared with an entropy rate: three words of the synthetic language."""

BY_POSITION = ", by position"
"""Ends the name of a sweep's evaluations among the tables that a recipe reads."""


@dataclass(frozen=True)
class Recipe:
    """How a law of the catalog is fitted: the formula, and the points made from sweeps and other laws."""

    law: str
    points: Callable[[Tables, Fits], pd.DataFrame]
    hold_out: int = 0
    """Also fit without so many of the largest models, and report the error on them."""


def fitted_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of runs that may be fitted: not diverged, not only shown."""
    return table[table["fitted"] & (table["status"] != "diverged")]


def ends(sweeps: Tables, fits: Fits) -> pd.DataFrame:
    """Return the last row of each run on all data: L(N), Eq 3.1."""
    rows = fitted_rows(sweeps["sizes"])
    return rows[rows["final"]]


def grid_ends(sweeps: Tables, fits: Fits) -> pd.DataFrame:
    """Return a row a run of a grid of sizes and lengths: L = E + A / N^alpha + B / D^beta, no token seen twice.

    The loss is that of positions with a context of at least `LEAST_CONTEXT` tokens: the first ones of a window lack
    what the language's entropy rate takes as known.
    """
    ends = fitted_rows(sweeps["validation"])
    ends = ends[ends["final"] & (ends["epochs"] <= 1)]
    rows = sweeps["validation" + BY_POSITION]
    rows = rows[(rows["corpus"] == "test") & rows["final"] & (rows["position"] > LEAST_CONTEXT)]
    return ends.assign(loss=ends["run"].map(rows.groupby("run")["loss"].mean()))


def early_stopped(sweeps: Tables, fits: Fits) -> pd.DataFrame:
    """Return the row of lowest test loss of each run: L(N, D), Eq 1.5.

    A run that never saw a token twice had no limit from its data: its n_tokens is infinite.
    """
    rows = fitted_rows(sweeps["data"])
    last_epochs = rows.groupby("run")["epochs"].transform("max")
    n_tokens = np.where(rows["all_data"] & (last_epochs <= 1), np.inf, rows["n_unique_tokens"])
    return rows.assign(n_tokens=n_tokens, last_epochs=last_epochs)[rows["best"]]


def data_limited(sweeps: Tables, fits: Fits) -> pd.DataFrame:
    """Return the early-stopped rows of the largest model whose data were seen at least twice: L(D), Eq 3.2."""
    rows = early_stopped(sweeps, fits)
    return rows[(rows["n_params"] == rows["n_params"].max()) & (rows["last_epochs"] >= LEAST_EPOCHS)]


class NotIdentified(Exception):
    """A law that this one rests on is not identified, or the points that it needs do not exist."""


def critical_batches(sweeps: Tables, fits: Fits) -> pd.DataFrame:
    """Return the critical batch size at each model and loss level whose hyperbola is identified: B_crit(L), Eq 5.3."""
    batches = fitted_rows(sweeps["batches"])
    levels = fit_levels(scan_points(batches, loss_levels(batches)))
    levels = levels[levels["identified"].astype(bool)]
    if levels.empty:
        raise NotIdentified("no loss level has an identified critical batch size")
    # The levels of one model come from the same runs: the model is what the bootstrap resamples.
    return levels.assign(
        run=[f"N = {n_params:.0f}, L = {loss:.3f}" for n_params, loss in levels[["n_params", "loss"]].values]
    )


def after_warmup(sweeps: Tables, fits: Fits) -> pd.DataFrame:
    """Return the learning curves of `sizes` after warmup with S_min and C_min, adjusted by B_crit (Eq 5.4, 5.5)."""
    if not fits["B_crit"].identified:
        raise NotIdentified(f"B_crit is not identified: {fits['B_crit'].reason}")
    rows = fitted_rows(sweeps["sizes"])
    rows = rows[(rows["step"] > rows["warmup_steps"]) & rows["loss"].notna()]
    b_crit = fits["B_crit"].predict(loss=rows["loss"].to_numpy())
    return rows.assign(
        b_crit=b_crit,
        steps=minimum_steps(rows["step"], rows["batch_tokens"], b_crit),
        c_min=minimum_compute(rows["flops"], rows["batch_tokens"], b_crit),
    )


def naive_frontier(sweeps: Tables, fits: Fits) -> pd.DataFrame:
    """Return the compute frontier at the fixed batch: L(C), N_opt(C), Eq 3.3 and Figure 14."""
    rows = fitted_rows(sweeps["sizes"])
    return _frontier(rows[rows["step"] > rows["warmup_steps"]], "flops")


def adjusted_frontier(sweeps: Tables, fits: Fits) -> pd.DataFrame:
    """Return the frontier in C_min: L(C_min), N_opt, S_opt (as S_min), D_opt and B_opt, Eq 6.1 to 6.7."""
    rows = after_warmup(sweeps, fits)
    points = _frontier(rows, "c_min")
    b_crit = fits["B_crit"].predict(loss=points["loss"].to_numpy())
    return points.assign(
        # C_min = 6 N B_crit S_min, and at B_crit twice S_min steps are made.
        steps=points["flops"] / (6 * points["n_params"] * b_crit),
        n_tokens=2 * points["flops"] / (6 * points["n_params"]),
        batch_tokens=b_crit,
    )


def _frontier(rows: pd.DataFrame, compute: str) -> pd.DataFrame:
    try:
        return frontier(rows, compute)
    except UserError as error:
        raise NotIdentified(str(error)) from error


RECIPES: dict[str, Recipe] = {
    "L_N": Recipe("L_N", ends, hold_out=1),
    "log_N": Recipe("log_N", ends, hold_out=1),
    "L_D": Recipe("L_D", data_limited),
    "L_N_D": Recipe("L_N_D", early_stopped),
    "L_C": Recipe("L_C", naive_frontier),
    "N_opt": Recipe("N_opt_naive", naive_frontier),
    "S_opt": Recipe("S_opt", naive_frontier),
    "B_crit": Recipe("B_crit", critical_batches),
    "L_N_S": Recipe("L_N_S", after_warmup),
    "L_C_min": Recipe("L_C_min", adjusted_frontier),
    "N_opt_min": Recipe("N_opt", adjusted_frontier),
    "S_opt_min": Recipe("S_opt", adjusted_frontier),
    "D_opt_min": Recipe("D_opt", adjusted_frontier),
    "B_opt_min": Recipe("B_opt", adjusted_frontier),
    "chinchilla": Recipe("chinchilla", grid_ends),
}
"""Law of the catalog -> how it is fitted."""


def fit_law(name: str, sweeps: Tables, fits: Fits, n_boot: int, seed: int) -> Fit:
    """Fit one law of the catalog.

    Raises
    ------
    UserError
        For an unknown law, or when no run is left to fit.
    """
    if name not in RECIPES:
        raise UserError(f"law: {name!r} is not one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    try:
        points = recipe.points(sweeps, fits)
    except NotIdentified as error:
        return LAWS[recipe.law].not_fitted(str(error))
    if points.empty:
        raise UserError(f"{name}: no run of {', '.join(CATALOG[name].sweeps)} is left to fit")
    law = LAWS[recipe.law]
    fit = law.fit(points, n_boot=n_boot, seed=seed)
    if recipe.hold_out and fit.identified:
        fit.held_out = law.fit(points, n_boot=n_boot, seed=seed, hold_out=recipe.hold_out).held_out
    return fit


def named_paths(options: Sequence[str]) -> dict[str, str]:
    """Split NAME=PATH options."""
    return dict(option.split("=", 1) for option in options)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Fit one law of the catalog and write its JSON."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.fit", description=main.__doc__)
    parser.add_argument("law", help="name in pipeline/catalog.py")
    parser.add_argument("--sweep", action="append", default=[], metavar="NAME=FILE", help="a sweep table; may repeat")
    parser.add_argument("--evaluation", action="append", default=[], metavar="NAME=FILE", help="a sweep by position")
    parser.add_argument("--law", action="append", default=[], dest="laws", metavar="NAME=FILE", help="a law it needs")
    parser.add_argument("--bootstrap", type=int, default=1000, help="bootstrap samples over runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--output", required=True, help="JSON file to write")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sweeps = {name: pd.read_parquet(path) for name, path in named_paths(options.sweep).items()}
    for name, path in named_paths(options.evaluation).items():
        sweeps[name + BY_POSITION] = pd.read_parquet(path)
    fits = {name: load_fit(path) for name, path in named_paths(options.laws).items()}
    fit = fit_law(options.law, sweeps, fits, options.bootstrap, options.seed)
    logging.info("%s\n%s", fit.formula(), fit.table())
    fit.to_json(options.output)


if __name__ == "__main__":
    raise SystemExit(main())
