"""An objective that takes the sides of a law unlike, for runs that can be worse than it and not better."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from pipeline.errors import UserError
from pipeline.laws import FORMULAS, load_fit
from pipeline.laws.command.cli import main
from pipeline.laws.fitting.estimate import Objective

SIZES = np.geomspace(1e6, 1e10, 60)


def line(noise: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"x": SIZES, "y": 50 * SIZES**-0.1 * np.exp(noise)})


def skewed(seed: int, scale: float = 0.05, n: int = 60) -> np.ndarray:
    return scale * np.random.default_rng(seed).exponential(size=n)


@pytest.mark.parametrize("q", [0.1, 0.25, 0.8])
def test_lad_is_quantile_regression(q: float) -> None:
    """Of a power law, whose logarithm is a straight line, it is a linear programme."""
    points = line(skewed(0))
    fit = FORMULAS["power"].fit(points, objective="lad", quantile=q, n_boot=0)
    design, n = np.column_stack([np.ones(60), np.log(points["x"])]), 60
    cost = np.concatenate([np.zeros(4), np.full(n, q), np.full(n, 1 - q)])
    equal = np.hstack([design, -design, np.eye(n), -np.eye(n)])
    found = optimize.linprog(cost, A_eq=equal, b_eq=np.log(points["y"]))
    assert fit.objective == pytest.approx(2 * found.fun, rel=1e-7)
    assert [np.log(fit.value("k")), fit.value("p")] == pytest.approx(found.x[:2] - found.x[2:4], rel=1e-6)
    assert abs(fit.residuals["share_below"] - q) <= 2 / n


@pytest.mark.parametrize("q", [0.1, 0.8])
def test_squares_are_expectiles(q: float) -> None:
    """Their fit is the weighted line, with the weights that its own residuals have."""
    points = line(skewed(1))
    fit = FORMULAS["power"].fit(points, objective="mse_log", quantile=q, n_boot=0)
    x, y, weights = np.log(points["x"]), np.log(points["y"]), np.ones(60)
    for _ in range(100):
        slope, level = np.polyfit(x, y, 1, w=np.sqrt(weights))
        weights = np.where(y > level + slope * x, 2 * q, 2 * (1 - q))
    assert [np.log(fit.value("k")), fit.value("p")] == pytest.approx([level, slope], rel=1e-9)
    assert fit.converged and fit.gradient_norm < 1e-9


def test_huber_is_at_the_minimum_of_its_two_sides() -> None:
    points = line(skewed(2))
    q, delta = 0.2, 0.01
    fit = FORMULAS["power"].fit(points, objective="huber", delta=delta, quantile=q, n_boot=0)

    def total(theta: np.ndarray) -> float:
        r = np.log(points["y"].to_numpy()) - theta[0] - theta[1] * (np.log(SIZES) - 18)
        size = np.abs(r)
        rho = np.where(size < delta, r**2 / 2, delta * (size - delta / 2))
        return float((rho * np.where(r > 0, 2 * q, 2 * (1 - q))).sum())

    tight = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 4000}
    found = optimize.minimize(total, [np.log(50) - 1.8, -0.1], method="Nelder-Mead", options=tight)
    assert fit.objective == pytest.approx(found.fun, rel=1e-8)
    assert fit.value("p") == pytest.approx(found.x[1], rel=1e-4)


def test_a_middle_quantile_is_no_quantile() -> None:
    r = np.random.default_rng(0).normal(size=(1, 9))
    for kind in ("huber", "lad", "mse_log"):
        one, other = (Objective(kind, 0.3, q).total(r, np.ones((1, 9))) for q in (0.5, 0.5 + 1e-12))
        assert one == pytest.approx(other, rel=1e-9)


def ladder(seed: int) -> pd.DataFrame:
    """Runs that end above the law: the smaller the model, the worse it was tuned."""
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e10, 8), np.geomspace(1e9, 1e12, 8)))
    excess = 0.05 * (n / 1e7) ** -0.15 * np.random.default_rng(seed).exponential(size=64)
    return pd.DataFrame({"n_params": n, "n_tokens": d, "loss": (1.7 + 400 / n**0.34 + 410 / d**0.28) * np.exp(excess)})


def test_a_ladder_of_runs_that_are_too_high() -> None:
    """The law below them is found nearer by a low quantile than by their middle."""
    far, truth, error = {"n_params": 1e11, "n_tokens": 1e13}, 1.7 + 400 / 1e11**0.34 + 410 / 1e13**0.28, {}
    for q in (0.5, 0.1):
        fits = [
            FORMULAS["chinchilla"].fit(ladder(seed), objective="mse_log", quantile=q, n_boot=0) for seed in range(6)
        ]
        error[q] = np.sqrt(np.mean([np.log(fit.predict(**far) / truth) ** 2 for fit in fits]))
    assert error[0.1] < 0.6 * error[0.5]


@pytest.mark.slow
def test_intervals_hold_the_exponent() -> None:
    """What runs are too high by does not depend on x, so each quantile has the exponent of the floor."""
    held = 0
    for seed in range(100):
        fit = FORMULAS["power"].fit(line(skewed(seed)), objective="mse_log", quantile=0.25, n_boot=199, seed=seed)
        held += fit.parameters["p"].low < -0.1 < fit.parameters["p"].high
    assert held >= 92


def test_intervals_draw_runs_and_a_new_run_has_none(tmp_path, capsys) -> None:
    table, out = tmp_path / "points.csv", tmp_path / "fit.json"
    ladder(0).to_csv(table, index=False)
    options = ["--quantile", "0.2", "--objective", "mse_log", "--n-boot", "40"]
    assert main(["fit", "chinchilla", str(table), *options, "--out", str(out)]) in (0, 3)
    printed = capsys.readouterr().out
    assert "points above the law count 0.4 times, below it 1.6 times" in printed
    assert "of the points lie below the law: intervals are of this law" in printed
    record = json.loads(out.read_text())
    assert record["quantile"] == 0.2 and record["bootstrap"]["method"] == "pairs" and record["likelihood"] == {}
    assert load_fit(out).spread is None
    assert main(["predict", str(out), "--n-params", "1e10", "--n-tokens", "1e11"]) == 0
    assert "without the noise of a run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--quantile", "0"], "above 0 and below 1"),
        (["--quantile", "1.5"], "above 0 and below 1"),
        (["--quantile", "0.1", "--bootstrap", "wild"], "pairs is needed"),
    ],
)
def test_what_can_not_be(tmp_path, capsys, options: list[str], words: str) -> None:
    table = tmp_path / "points.csv"
    ladder(0).to_csv(table, index=False)
    assert main(["fit", "chinchilla", str(table), *options]) == 2
    assert words in capsys.readouterr().err


def test_laws_without_a_residual_at_each_point_have_no_sides() -> None:
    flops = np.repeat([1e18, 1e19, 1e20], 5)
    n = 0.1 * flops**0.5 * np.tile([0.3, 0.6, 1.1, 2.0, 3.0], 3)
    points = pd.DataFrame({"flops": flops, "n_params": n, "loss": 2 + 0.05 * np.log(n / (0.1 * flops**0.5)) ** 2})
    with pytest.raises(UserError, match="isoflop is fitted to the best sizes"):
        FORMULAS["isoflop"].fit(points, quantile=0.1, n_boot=0)
    scan = pd.DataFrame({"n_params": 1e5, "loss": 3.0, "batch_tokens": [1.0, 2], "steps": [2.0, 1]})
    with pytest.raises(UserError, match="without weights, hold_out, fix, tie or quantile"):
        FORMULAS["B_crit"].fit(scan, quantile=0.1, n_boot=0)
