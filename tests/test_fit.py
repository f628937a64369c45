"""From sweep tables with a planted truth to the laws of the catalog."""

import numpy as np
import planted
import pytest

from pipeline.analysis.fit import fit_law
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.points import RECIPES, early_stopped, ends
from pipeline.errors import UserError
from pipeline.plan import catalog

SWEEPS = ("sizes", "data", "batches")


@pytest.fixture(scope="module")
def sweeps():
    return {name: planted.sweep(name) for name in SWEEPS}


@pytest.fixture(scope="module")
def b_crit(sweeps):
    return fit_law("B_crit", Inputs.of(sweeps), n_boot=50, seed=0)[0]


def test_every_law_of_the_catalog_has_a_recipe():
    assert set(RECIPES) == set(catalog.LAWS)


@pytest.mark.parametrize(
    ("law", "name", "tolerance"), [("L_N", "alpha_N", 0.1), ("L_N_D", "alpha_D", 0.15), ("L_D", "alpha_D", 0.25)]
)
def test_planted_exponents_are_found(law, name, tolerance, sweeps):
    fit, _ = fit_law(law, Inputs.of(sweeps), n_boot=50, seed=0)
    assert fit.identified, fit.reason
    assert fit.value(name) == pytest.approx(planted.TRUTH[name], rel=tolerance)


def test_the_critical_batch_law_is_found(b_crit):
    assert b_crit.identified, b_crit.reason
    assert b_crit.value("alpha_B") == pytest.approx(planted.TRUTH["alpha_B"], rel=0.25)


def test_learning_curves_are_found_through_the_critical_batch(sweeps, b_crit):
    fit, _ = fit_law("L_N_S", Inputs.of(sweeps, laws={"B_crit": b_crit}), n_boot=50, seed=0)
    assert fit.value("alpha_N") == pytest.approx(planted.TRUTH["alpha_N"], rel=0.15)
    assert fit.value("alpha_S") == pytest.approx(planted.TRUTH["alpha_S"], rel=0.15)


@pytest.mark.parametrize(
    "law", ["L_C", "N_opt", "S_opt", "L_C_min", "N_opt_min", "S_opt_min", "D_opt_min", "B_opt_min"]
)
def test_the_compute_frontier_gives_each_of_its_laws(law, sweeps, b_crit):
    fit, _ = fit_law(law, Inputs.of(sweeps, laws={"B_crit": b_crit}), n_boot=0, seed=0)
    assert fit.converged


def test_optimal_exponents_add_up(sweeps, b_crit):
    # C_min = 6 N B_crit S_min holds point by point, so the fitted exponents of N, B and S sum to one.
    fits = [
        fit_law(law, Inputs.of(sweeps, laws={"B_crit": b_crit}), n_boot=0, seed=0)[0]
        for law in ("N_opt_min", "B_opt_min", "S_opt_min")
    ]
    assert sum(fit.vector[1] if fit.vector else np.nan for fit in fits) == pytest.approx(1, abs=1e-6)


def test_a_law_that_rests_on_one_that_is_open_is_open_too(sweeps, b_crit):
    from dataclasses import replace

    broken = replace(b_crit, identified=False, reason="all losses on one side")
    fit, _ = fit_law("L_C_min", Inputs.of(sweeps, laws={"B_crit": broken}), n_boot=50, seed=0)
    assert not fit.identified
    assert fit.reason == "B_crit is not identified: all losses on one side"
    assert all(one.estimate is None for one in fit.parameters.values())


def test_diverged_runs_and_shapes_only_shown_are_left_out(sweeps):
    sizes = sweeps["sizes"].copy()
    runs = sizes.run.unique()
    sizes.loc[sizes.run == runs[0], "status"] = "diverged"
    sizes.loc[sizes.run == runs[1], "fitted"] = False
    assert not {runs[0], runs[1]} & set(ends(Inputs.of({"sizes": sizes})).run)


def test_a_run_that_never_repeats_a_token_has_infinite_data(sweeps):
    points = early_stopped(Inputs.of(sweeps))
    assert np.isinf(points.n_tokens[points.all_data & (points.last_epochs <= 1)]).all()
    assert (points.n_tokens[~points.all_data] == points.n_unique_tokens[~points.all_data]).all()
    assert points.run.is_unique


def test_the_held_out_size_is_part_of_the_law_itself(sweeps):
    points = ends(Inputs.of(sweeps))
    fit, _ = fit_law("L_N", Inputs.of(sweeps), n_boot=0, seed=0)
    assert set(fit.runs) == set(points.run)
    assert fit.held_out["n_params"] == [points.n_params.max()] * len(fit.held_out["runs"])
    assert fit.held_out["rms_ln"] > 0


def test_errors_name_the_law(sweeps):
    with pytest.raises(UserError, match="law: 'L_X' is not one of"):
        fit_law("L_X", Inputs.of(sweeps), 0, 0)
    nothing = {"sizes": sweeps["sizes"].assign(status="diverged")}
    with pytest.raises(UserError, match="L_N: no run of sizes is left to fit"):
        fit_law("L_N", Inputs.of(nothing), 0, 0)
