"""Runs that diverged, and runs that learned nothing: every figure and table says so in one line, or is drawn."""

from __future__ import annotations

import importlib
from functools import cache

import numpy as np
import pandas as pd
import planted
import planted_more
import pytest

from pipeline.analysis.fit import NO_POINTS, fit_law
from pipeline.analysis.inputs import Inputs
from pipeline.claims import CLAIMS
from pipeline.claims.verdict import FAILS, HOLDS
from pipeline.errors import UserError
from pipeline.laws import FORMULAS
from pipeline.plan import catalog

SWEEPS = ("sizes", "data", "depths", "batches", "shapes", "lstms", "recurrent", "short", "schedules")
EVALUATED = ("sizes", "lstms", "one_large", "short", "transfer")
KINDS = ("diverged", "constant", "rounding", "half")
FIGURES = [name for name in catalog.FIGURES if name not in catalog.EXTRAS]
TABLES = [name for name in catalog.TABLES if name not in catalog.EXTRAS]


def change(kind: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as it is when all runs diverged, none learned, or every other run diverged."""
    match kind:
        case "diverged":
            return table.assign(status="diverged")
        case "constant":  # a learning rate of 0: each run keeps its first loss
            return table.assign(loss=table["run"].map(dict(zip(table["run"].unique(), _first(table), strict=True))))
        case "rounding":
            return table.assign(loss=5.7 * (1 + 1e-8 * np.random.default_rng(0).standard_normal(len(table))))
    half = sorted(table["run"].unique())[::2]
    return table.assign(status=np.where(table["run"].isin(half), "diverged", table["status"]))


def _first(table: pd.DataFrame) -> np.ndarray:
    """Return a first loss a run: that of a uniform guess, and a little more."""
    return 5.7 + 0.02 * np.random.default_rng(1).random(table["run"].nunique())


@cache
def given(kind: str) -> Inputs:
    """Return all that figures, tables and claims are given, with the laws fitted as the workflow fits them."""
    sweeps = {name: change(kind, planted.sweep(name)) for name in SWEEPS}
    evaluations = {name: change(kind, planted.evaluations(name)) for name in EVALUATED}
    laws, points = {}, {}
    for name in sorted(planted_more.LAWS, key=lambda law: len(catalog.LAWS[law].laws)):
        try:
            own = {sweep: sweeps[sweep] for sweep in catalog.LAWS[name].sweeps}
            laws[name], points[name] = fit_law(name, Inputs.of(own, laws=laws), n_boot=40, seed=0)
        except UserError as error:  # the workflow ends here; what is drawn without must not end worse
            laws[name], points[name] = FORMULAS[name].not_fitted(str(error)), NO_POINTS
    return Inputs.of(sweeps, evaluations, laws, points, preset="test", title="a test")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_drawn_or_says_why_not(figure: str, kind: str) -> None:
    try:
        importlib.import_module(f"pipeline.figures.{figure}").draw(given(kind))
    except UserError as error:
        assert str(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_made_or_says_why_not(table: str, kind: str) -> None:
    try:
        importlib.import_module(f"pipeline.tables.{table}").make(given(kind))
    except UserError as error:
        assert str(error)


@pytest.mark.parametrize("kind", ["diverged", "constant", "rounding"])
def test_no_law_is_identified_and_no_claim_is_decided(kind: str) -> None:
    assert {name: law.reason for name, law in given(kind).laws.items() if law.identified} == {}
    assert {claim.number for claim in CLAIMS if claim.decide(given(kind)).verdict in (HOLDS, FAILS)} == set()
