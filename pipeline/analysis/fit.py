"""Fit one law of the catalog to its points, and write both: the law's JSON, and the points with their residuals."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

import pandas as pd

from pipeline.analysis import tables
from pipeline.analysis.inputs import Inputs, add_options
from pipeline.analysis.points import RECIPES, NotIdentified
from pipeline.errors import UserError, command
from pipeline.laws import FORMULAS, Fit

NO_POINTS = pd.DataFrame({"run": pd.Series(dtype=str), "residual": pd.Series(dtype=float)})
"""What is written beside a law whose points can't be made."""


def fit_law(name: str, given: Inputs, n_boot: int, seed: int) -> tuple[Fit, pd.DataFrame]:
    """Fit one law of the catalog.

    Parameters
    ----------
    name : str
        The law, a key of `pipeline.analysis.points.RECIPES`.
    given : Inputs
        The sweeps and evaluations that its points are taken from, and the laws that it rests on.
    n_boot : int
        Bootstrap replicates over runs; 0 for no intervals.
    seed : int
        Of the bootstrap.

    Returns
    -------
    fit : Fit
    points : DataFrame
        The rows fitted, with `residual`: ln of measured over predicted, NaN where the law is not identified. There
        are none where the points can't be made; the fit then says why.

    Raises
    ------
    UserError
        For an unknown law, or when no run is left to fit.
    """
    if name not in RECIPES:
        raise UserError(f"law: {name!r} is not one of {', '.join(RECIPES)}")
    recipe, law = RECIPES[name], FORMULAS[name]
    try:
        points = recipe.points(given)
    except NotIdentified as error:
        return law.not_fitted(str(error)), NO_POINTS
    if points.empty:
        raise UserError(f"{name}: no run of {', '.join(given.sweeps)} is left to fit")
    again = recipe.replicates
    fit = law.fit(points, n_boot=0 if again else n_boot, seed=seed)
    if again and n_boot and fit.identified:
        law.take_replicates(fit, again(given, fit, points, n_boot, seed), n_boot, seed)
    if recipe.hold_out and fit.identified:
        fit.held_out = law.fit(points, n_boot=n_boot, seed=seed, hold_out=recipe.hold_out).held_out
    return fit, points.assign(residual=law.residuals(fit, points)).reset_index(drop=True)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Fit one law of the catalog and write its JSON and its points."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.fit", description=main.__doc__)
    parser.add_argument("law_of", metavar="law", help="name in pipeline/plan/catalog.py")
    add_options(parser)
    parser.add_argument("--bootstrap", type=int, default=1000, help="bootstrap samples over runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--output", required=True, help="JSON file to write")
    parser.add_argument("--output-points", required=True, help="parquet file to write: the rows fitted, with residuals")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fit, points = fit_law(options.law_of, Inputs.of_options(options), options.bootstrap, options.seed)
    logging.info("%s\n%s", fit.formula(), fit.table())
    tables.write(options.output_points, points, "points", options.law_of, options.preset)
    fit.to_json(options.output)
