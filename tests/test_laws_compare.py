"""The law that made the points wins, and the wrong one leaves a trend."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.errors import UserError
from pipeline.laws import FORMULAS
from pipeline.laws.command.cli import main
from pipeline.laws.command.compare import compare, paired_difference, residual_structure, runs_test, table
from pipeline.laws.fitting.estimate import Objective
from pipeline.laws.fitting.left_out import errors_left_out, folds_of_runs


def points(noise: float = 0.003) -> pd.DataFrame:
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e10, 7), np.geomspace(1e9, 1e12, 6)))
    loss = 1.8 + 480 / n**0.35 + 2085 / d**0.37
    return pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss}).assign(
        loss=lambda t: t.loss * np.exp(noise * np.random.default_rng(0).normal(size=len(t)))
    )


def test_the_planted_law_wins() -> None:
    right, wrong = compare(points(), {name: (FORMULAS[name], {}) for name in ("chinchilla", "L_N_D")}, hold_out=2)
    assert right.delta_aic == 0 < 50 < wrong.delta_aic
    assert right.held_out_rms_ln < 0.01 < wrong.held_out_rms_ln
    assert abs(right.structure["n_tokens"]["runs_z"]) < 2 < abs(wrong.structure["n_tokens"]["runs_z"])
    assert right.n_points == wrong.n_points == 30
    assert "chinchilla" in table([right, wrong])


def test_aic_is_the_normal_likelihoods() -> None:
    rows = points()
    one, other = compare(rows, {name: (FORMULAS[name], {}) for name in ("chinchilla", "L_N_D")})

    def exact(found, p):  # -2 ln likelihood + 2 p, the variance at its maximum
        sigma = found.rms_ln
        residual = np.full(len(rows), sigma)
        return -2 * stats.norm.logpdf(residual, scale=sigma).sum() + 2 * p

    assert other.aic - one.aic == pytest.approx(exact(other, 4) - exact(one, 5), rel=1e-9)


def test_a_law_without_an_optimum_has_no_numbers() -> None:
    n = np.geomspace(1e6, 1e9, 8)
    rows = pd.DataFrame({"n_params": n, "steps": [1e3, 1e4] * 4, "loss": (8.8e13 / n) ** 0.076})
    power, other = compare(rows.assign(n_tokens=20 * n), {name: (FORMULAS[name], {}) for name in ("L_N", "chinchilla")})
    assert power.identified and not other.found and not other.identified and "flat direction" in other.reason
    assert other.aic is None and other.delta_aic is None and other.structure == {}


def test_a_law_that_is_not_identified_has_its_numbers() -> None:
    n = np.geomspace(1e6, 1e9, 8)
    rows = pd.DataFrame({"n_params": n, "loss": (8.8e13 / n) ** 0.076})
    power, constant = compare(rows, {name: (FORMULAS[name], {}) for name in ("L_N", "power_plus_constant")})
    assert power.identified and constant.found and not constant.identified and constant.reason
    assert constant.rms_ln < 1e-9 and constant.aic is not None and constant.structure


def test_laws_of_another_response_are_refused() -> None:
    with pytest.raises(UserError, match="isoflop: it predicts n_params"):
        compare(points(), {name: (FORMULAS[name], {}) for name in ("chinchilla", "isoflop")})


def test_runs_test_against_its_exact_distribution() -> None:
    rng = np.random.default_rng(0)
    z = np.array([runs_test(rng.permutation(np.repeat([1.0, -1.0], 20)))[0] for _ in range(400)])
    assert abs(z.mean()) < 0.2 and z.std() == pytest.approx(1, abs=0.12)
    assert runs_test(np.ones(5)) == (None, None)


def test_structure_sees_a_slope() -> None:
    x = np.geomspace(1, 100, 30)
    shown = residual_structure(np.log(x) - np.log(x).mean(), pd.DataFrame({"n_params": x}))
    assert shown["n_params"]["correlation"] == pytest.approx(1) and shown["n_params"]["runs_z"] < -4


TWO = {name: (FORMULAS[name], {}) for name in ("chinchilla", "L_N_D")}


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("chinchilla", "mse_log"),
        ("L_N_D", "mse_log"),
        ("power_plus_constant", "mse_log"),
        ("power_plus_constant", "huber"),
    ],
)
def test_errors_left_out_are_those_of_fits_made_anew(name: str, objective: str) -> None:
    """A refit from the optimum of all points ends where a fit with all its starts does."""
    law, rows = FORMULAS[name], points().assign(run=[f"r{k // 3}" for k in range(42)])
    columns = {"x": "n_params"} if name == "power_plus_constant" else {}
    used, _ = law.prepare(rows, columns)
    out = folds_of_runs(used["run"], 5)
    assert out.sum(0).tolist() == [1] * 42 and sorted(out.sum(1).tolist()) == [6, 9, 9, 9, 9]
    errors = errors_left_out(law, used, out, Objective(objective, 0.05))
    for one in out:
        fit = law.fit(rows[~one], objective=objective, delta=0.05, columns=columns, n_boot=0)
        inputs = {column: used[column][one] for column in law.inputs}
        assert errors[one] == pytest.approx(np.log(used["loss"][one] / fit.predict(**inputs)), abs=2e-6)


def test_folds_and_leave_one_run_out() -> None:
    rows = points().assign(run=[f"r{k // 3}" for k in range(42)])
    for how, said in (({"folds": 4}, "each of 4 folds of 14 runs"), ({"leave_one_run_out": True}, "each of 14 runs")):
        right, wrong = compare(rows, TWO, **how)
        assert right.held_out.startswith(said) and right.n_points == 42 and right.held_out_difference is None
        assert 0.0025 < right.held_out_rms_ln < 0.0035 and right.held_out_rms_ln > right.rms_ln
        gap = wrong.held_out_difference
        assert gap["estimate"] == pytest.approx(wrong.held_out_rms_ln - right.held_out_rms_ln)
        assert 0 < gap["low"] < gap["estimate"] < gap["high"]
        assert f"held out: {said}" in table([right, wrong])


def test_folds_are_a_function_of_the_seed() -> None:
    runs = [f"r{k // 3}" for k in range(42)]
    assert (folds_of_runs(runs, 4) == folds_of_runs(runs, 4, seed=0)).all()
    assert (folds_of_runs(runs, 4) != folds_of_runs(runs, 4, seed=1)).any()


def test_any_column_can_be_held_out() -> None:
    rows = points().assign(width=lambda t: np.repeat([64, 128, 256], 14), data=["c4", "pile"] * 21)
    largest = np.geomspace(1e9, 1e12, 6)[-2] * 0.99

    def points_left(hold_out):
        (only,) = compare(rows, {"chinchilla": TWO["chinchilla"]}, hold_out=hold_out)
        return only.n_points

    assert points_left("n_tokens=2") == 28 == points_left(f"n_tokens > {largest}")
    assert points_left("width=1") == 28 and points_left("data = pile") == 21 and points_left(2) == 30
    for wrong, words in (
        ("depth=1", "column 'depth' is missing"),
        ("n_tokens=0", "K a whole number from 1"),
        ("n_tokens=6", "leaves nothing to fit"),
        ("data != gutenberg", "leaves nothing to fit"),
        ("data > c4", "--hold-out 'data > c4': 'c4' is not a number"),
        ("large", "--hold-out 'large': COLUMN OPERATOR VALUE is needed"),
    ):
        with pytest.raises(UserError, match=words):
            points_left(wrong)


def test_a_law_that_needs_the_run_that_is_left_out_has_no_error() -> None:
    n = np.array([1e6] * 4 + [1e7])
    d = np.array([1e8, 1e9, 1e10, 1e11, 1e10])
    rows = pd.DataFrame({"run": list("abcde"), "n_params": n, "n_tokens": d, "loss": 2 + 30 / n**0.2 + 60 / d**0.2})
    one, other = compare(rows, {name: (FORMULAS[name], {}) for name in ("L_D", "L_N")}, leave_one_run_out=True)
    assert (
        one.held_out_rms_ln is not None and other.found and other.held_out_rms_ln is other.held_out_difference is None
    )
    assert other.held_out_reason.startswith("without run 'e': column 'n_params' has one value only")
    assert "L_N: no held-out error: without run 'e'" in table([one, other])


def test_coverage_of_a_paired_difference() -> None:
    """Of 200 pairs of laws whose errors are 2 % and 3 %, of 12 runs with 3 rows each, 90 % or more are held."""
    rng, runs, held = np.random.default_rng(0), np.repeat(np.arange(12), 3).astype(str), 0
    for seed in range(200):
        shared = rng.normal(size=36)
        one, two = 0.02 * shared, 0.03 * (0.6 * shared + 0.8 * rng.normal(size=36))
        found = paired_difference(two, one, runs, seed)
        held += found["low"] < 0.01 < found["high"]
    assert 180 <= held <= 198


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--folds", "1"], "--folds 1: a whole number from 2"),
        (["--folds", "43"], "must be a whole number from 2 to 42, the number of runs"),
        (["--folds", "x"], "argument --folds: invalid int value: 'x'"),
        (["--folds", "3", "--leave-one-run-out"], "not allowed with argument --folds"),
        (["--hold-out", "largest=x"], "largest=K is needed"),
        (["--folds", "3", "--seed", "-1"], "--seed -1"),
    ],
)
def test_splits_that_can_not_be(tmp_path, capsys, options: list[str], words: str) -> None:
    path = tmp_path / "points.csv"
    points().to_csv(path, index=False)
    assert main(["compare", str(path), "--laws", "chinchilla", *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
