"""Fit one law of the catalog to its points, and write both: the law's JSON, and the points with their residuals."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.analysis.points import BY_POSITION, RECIPES, Fits, NotIdentified, Tables
from pipeline.errors import UserError, command
from pipeline.files import atomic_path
from pipeline.laws import FORMULAS, Fit, load_fit

NO_POINTS = pd.DataFrame({"run": pd.Series(dtype=str), "residual": pd.Series(dtype=float)})
"""What is written beside a law whose points can't be made."""


def fit_law(name: str, sweeps: Tables, fits: Fits, n_boot: int, seed: int) -> tuple[Fit, pd.DataFrame]:
    """Fit one law of the catalog.

    Parameters
    ----------
    name : str
        The law, a key of `pipeline.analysis.points.RECIPES`.
    sweeps : mapping of str to DataFrame
        The tables that its points are taken from.
    fits : mapping of str to Fit
        The laws that it rests on.
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
        points = recipe.points(sweeps, fits)
    except NotIdentified as error:
        return law.not_fitted(str(error)), NO_POINTS
    if points.empty:
        raise UserError(f"{name}: no run of {', '.join(sweeps)} is left to fit")
    fit = law.fit(points, n_boot=n_boot, seed=seed)
    if recipe.hold_out and fit.identified:
        fit.held_out = law.fit(points, n_boot=n_boot, seed=seed, hold_out=recipe.hold_out).held_out
    return fit, points.assign(residual=residuals(fit, points)).reset_index(drop=True)


def residuals(fit: Fit, points: pd.DataFrame) -> np.ndarray:
    """Return ln of measured over predicted at each point; NaN where the law is not identified."""
    if not fit.identified:
        return np.full(len(points), np.nan)
    predicted = fit.predict(**{column: points[column].to_numpy() for column in fit.definition.inputs})
    return np.log(points[fit.definition.response].to_numpy() / predicted)


def named_paths(options: Sequence[str]) -> dict[str, str]:
    """Split NAME=PATH options."""
    return dict(option.split("=", 1) for option in options)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Fit one law of the catalog and write its JSON and its points."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.fit", description=main.__doc__)
    parser.add_argument("law", help="name in pipeline/plan/catalog.py")
    parser.add_argument("--sweep", action="append", default=[], metavar="NAME=FILE", help="a sweep table; may repeat")
    parser.add_argument("--evaluation", action="append", default=[], metavar="NAME=FILE", help="a sweep by position")
    parser.add_argument("--law", action="append", default=[], dest="laws", metavar="NAME=FILE", help="a law it needs")
    parser.add_argument("--bootstrap", type=int, default=1000, help="bootstrap samples over runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--output", required=True, help="JSON file to write")
    parser.add_argument("--points", required=True, help="parquet file to write: the rows fitted, with residuals")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sweeps = {name: pd.read_parquet(path) for name, path in named_paths(options.sweep).items()}
    for name, path in named_paths(options.evaluation).items():
        sweeps[name + BY_POSITION] = pd.read_parquet(path)
    fits = {name: load_fit(path) for name, path in named_paths(options.laws).items()}
    fit, points = fit_law(options.law, sweeps, fits, options.bootstrap, options.seed)
    logging.info("%s\n%s", fit.formula(), fit.table())
    with atomic_path(options.points) as temporary:
        points.to_parquet(temporary, index=False)
    fit.to_json(options.output)
