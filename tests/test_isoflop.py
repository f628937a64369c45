"""Approaches 1 and 2 find the best sizes that a planted law has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.laws import FORMULAS
from pipeline.laws.command import cli
from pipeline.laws.formulas.chinchilla import best_split
from pipeline.laws.formulas.isoflop import IsoFLOP

E, A, B, ALPHA, BETA = 1.8, 482.0, 2085.0, 0.35, 0.37


def loss(n, d):
    return E + A / n**ALPHA + B / d**BETA


def best(flops):
    return best_split(flops, np.log(A), np.log(B), ALPHA, BETA)


def isoflop_points(spread=(0.2, 5.0), sizes=9, noise=0.0, seed=0) -> pd.DataFrame:
    """Sizes around the best one of each of six budgets, symmetric in ln N."""
    rng = np.random.default_rng(seed)
    flops = np.repeat(np.geomspace(1e18, 1e21, 6), sizes)
    n = best(flops)[0] * np.tile(np.geomspace(*spread, sizes), 6)
    d = flops / (6 * n)
    values = loss(n, d) * np.exp(noise * rng.normal(size=len(n)))
    return pd.DataFrame({"flops": flops, "n_params": n, "n_tokens": d, "loss": values})


@pytest.mark.parametrize("name", ["isoflop", "isoflop_akima"])
@pytest.mark.parametrize("objective", ["mse", "mse_log"])
def test_exponents(name: str, objective: str) -> None:
    fit = FORMULAS[name].fit(isoflop_points(spread=(0.5, 2.0)), objective=objective, n_boot=0)
    assert fit.value("a") == pytest.approx(BETA / (ALPHA + BETA), abs=3e-3)
    assert fit.value("b") == pytest.approx(ALPHA / (ALPHA + BETA), abs=3e-3)
    flops = np.array([1e19, 1e20])
    assert fit.predict(flops=flops) == pytest.approx(best(flops)[0], rel=0.03)
    assert [one["loss"] for one in fit.details["optima"]] == pytest.approx(
        [loss(*best(one["flops"])) for one in fit.details["optima"]], rel=1e-3
    )
    assert fit.gradient_norm < 1e-10


def test_a_planted_parabola_is_found_exactly() -> None:
    flops = np.repeat([1e18, 1e19, 1e20], 5)
    n_opt = 0.1 * flops**0.5
    n = n_opt * np.tile([0.3, 0.6, 1.1, 2.0, 3.0], 3)
    points = pd.DataFrame({"flops": flops, "n_params": n, "loss": 2 + 0.05 * np.log(n / n_opt) ** 2})
    fit = FORMULAS["isoflop"].fit(points, n_boot=0)
    assert [fit.value(name) for name in ("k_N", "a", "b", "k_L")] == pytest.approx([0.1, 0.5, 0.5, 2.0], rel=1e-8)


@pytest.mark.parametrize(
    ("window", "degree", "sizes"),
    [
        ("factor=2.5", 2, [4e8, 5e8, 1e9, 2e9]),
        ("factor=1.1", 2, [5e8, 1e9, 2e9]),  # the two neighbours at least
        ("factor=1.1", 3, [4e8, 5e8, 1e9, 2e9]),  # as many as the curve has coefficients
        ("nearest=5", 2, [1e8, 4e8, 5e8, 1e9, 2e9]),
        ("all", 2, [1e8, 4e8, 5e8, 1e9, 2e9, 2e10]),
    ],
)
def test_the_window_is_about_the_lowest_loss(window: str, degree: int, sizes: list[float]) -> None:
    n = np.array([1e8, 4e8, 5e8, 1e9, 2e9, 2e10])
    rows = pd.DataFrame({"n_params": n, "loss": 2 + np.log(n / 1e9) ** 2})
    assert IsoFLOP(window, degree).near(rows)["n_params"].tolist() == sizes


def one_grid() -> pd.DataFrame:
    """The same sizes for all budgets, as far as 600 times from the best one: no noise."""
    flops, n = (each.ravel() for each in np.meshgrid(np.geomspace(1e18, 1e22, 9), np.geomspace(1e8, 1e11, 11)))
    return pd.DataFrame({"flops": flops, "n_params": n, "loss": loss(n, flops / (6 * n))})


def test_the_window_keeps_sizes_far_from_the_best_from_bending_the_exponent() -> None:
    truth, points = BETA / (ALPHA + BETA), one_grid()
    fit = FORMULAS["isoflop"].fit(points, n_boot=0)
    assert fit.value("a") == pytest.approx(truth, abs=5e-3)
    for one in fit.details["optima"]:
        assert one["n_params"] == pytest.approx(best(one["flops"])[0], rel=0.05)
    assert abs(IsoFLOP("all").fit(points, n_boot=0).value("a") - truth) > 0.02


@pytest.mark.parametrize("objective", ["mse", "mse_log"])
@pytest.mark.parametrize("degree", [2, 3])
def test_a_planted_curve_is_found_with_its_coefficients(degree: int, objective: str) -> None:
    flops = np.repeat([1e18, 1e19, 1e20], 6)
    n_opt = 0.1 * flops**0.5
    n = n_opt * np.tile([0.3, 0.6, 1.1, 2.0, 3.0, 4.0], 3)
    x = np.log(n / n_opt)
    y = 0.9 + 0.05 * x**2 + (0.01 * x**3 if degree == 3 else 0)
    points = pd.DataFrame({"flops": flops, "n_params": n, "loss": np.exp(y) if objective == "mse_log" else y})
    fit = IsoFLOP("all", degree).fit(points, objective, n_boot=0)
    assert fit.value("a") == pytest.approx(0.5, rel=1e-8) and fit.value("k_N") == pytest.approx(0.1, rel=1e-6)
    for one in fit.details["optima"]:
        assert one["coefficients"] == pytest.approx([0.9, 0, 0.05, 0.01][: degree + 1], abs=1e-9)
        assert one["points"] == 6 and one["r_squared"] == pytest.approx(1) and one["rms"] < 1e-9


def test_the_interval_of_a_cubic_is_wider() -> None:
    widths = []
    for degree in (2, 3):
        a = IsoFLOP("all", degree).fit(isoflop_points(noise=0.003, seed=1), n_boot=200).parameters["a"]
        assert a.low < BETA / (ALPHA + BETA) < a.high
        widths.append(a.high - a.low)
    assert widths[1] > 1.2 * widths[0]


@pytest.mark.parametrize(
    ("window", "degree", "line"),
    [
        ("factor=1", 2, "window (--window): 'factor=1' is not factor=F with F above 1, nearest=K"),
        ("nearest=3", 3, "window (--window): 'nearest=3' is not factor=F with F above 1, nearest=K with K a whole"),
        ("5", 2, "window (--window): '5' is not factor=F"),
        ("all", 4, "degree (--degree): 4 is not 2 or 3"),
    ],
)
def test_what_is_no_window_is_named(window: str, degree: int, line: str) -> None:
    with pytest.raises(UserError) as raised:
        IsoFLOP(window, degree)
    assert str(raised.value).startswith(line)


def test_window_and_degree_on_the_command_line(tmp_path, capsys) -> None:
    one_grid().to_csv(tmp_path / "points.csv", index=False)
    arguments = ["fit", "isoflop", str(tmp_path / "points.csv"), "--window", "nearest=5", "--degree", "3"]
    assert cli.main([*arguments, "--n-boot", "0", "--plot", str(tmp_path / "fit.png")]) == 0
    said = capsys.readouterr().out
    assert "cubics through nearest=5" in said and "5 points from" in said and "R^2" in said
    assert (tmp_path / "fit.png").stat().st_size > 10_000
    assert cli.main(["fit", "chinchilla", str(tmp_path / "points.csv"), "--window", "all"]) == 2
    assert "--window: chinchilla fits no polynomials; isoflop does" in capsys.readouterr().err


def test_data_follow_the_column_that_is_there() -> None:
    points = isoflop_points()
    doubled = FORMULAS["isoflop"].fit(points.assign(n_tokens=2 * points["n_tokens"]), n_boot=0)
    assert doubled.value("k_D") == pytest.approx(2 * FORMULAS["isoflop"].fit(points, n_boot=0).value("k_D"))


@pytest.mark.parametrize("end", ["smallest", "largest"])
def test_a_budget_whose_minimum_is_at_an_end_is_left_out_and_named(end: str) -> None:
    points = isoflop_points()
    budget = points["flops"] == points["flops"].max()
    low = points["n_params"] >= best(points["flops"].max())[0]
    cut = points[~budget | (low if end == "smallest" else ~low)]
    fit = FORMULAS["isoflop"].fit(cut, n_boot=0)
    assert len(fit.details["optima"]) == 5
    (left_out,) = fit.details["left_out"]
    assert left_out["flops"] == pytest.approx(1e21) and f"at its {end} size" in left_out["reason"]


def test_no_budget_with_a_minimum_is_not_identified() -> None:
    points = isoflop_points(spread=(3.0, 9.0))
    fit = FORMULAS["isoflop"].fit(points)
    assert not fit.identified and "left out" in fit.reason and fit.vector is None
    assert all(e.estimate is None and e.low is None for e in fit.parameters.values())


def test_computes_without_gaps_are_refused() -> None:
    n = np.geomspace(1e7, 1e9, 60)
    points = pd.DataFrame({"flops": 6 * n * 1e9, "n_params": n, "loss": loss(n, 1e9)})
    with pytest.raises(UserError, match=r"'flops'.*compute budgets"):
        FORMULAS["isoflop"].fit(points)


@pytest.mark.parametrize(("name", "n_boot"), [("isoflop", 200), ("isoflop_akima", 40)])
def test_interval_is_wider_for_more_noise(name: str, n_boot: int) -> None:
    widths = []
    for noise in (0.001, 0.004):
        fit = FORMULAS[name].fit(isoflop_points(noise=noise), n_boot=n_boot)
        a = fit.parameters["a"]
        assert a.low < a.estimate < a.high and fit.bootstrap["unit"] == "run"
        widths.append(a.high - a.low)
    assert widths[1] > 1.5 * widths[0]


def test_three_sizes_leave_nothing_to_tell_the_noise_from() -> None:
    fit = FORMULAS["isoflop"].fit(isoflop_points(sizes=3))
    assert fit.identified and fit.parameters["a"].low is None and "nothing is left" in fit.bootstrap["note"]


def test_held_out_budgets() -> None:
    fit = FORMULAS["isoflop"].fit(isoflop_points(spread=(0.5, 2.0)), hold_out=2, n_boot=0)
    assert len(fit.held_out["flops"]) == 2 and fit.held_out["rms_ln"] < 0.05
    with pytest.raises(UserError, match="largest=6 leaves nothing"):
        FORMULAS["isoflop"].fit(isoflop_points(), hold_out=6)


def curves(sizes=17, noise=0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    d = np.geomspace(1e7, 1e12, 80)
    parts = [
        pd.DataFrame({"run": f"{n:.3g}", "n_params": n, "n_tokens": d, "flops": 6 * n * d, "loss": loss(n, d) * factor})
        for n, factor in zip(np.geomspace(1e6, 1e10, sizes), np.exp(noise * rng.normal(size=sizes)), strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def test_envelope_of_planted_curves() -> None:
    fit = FORMULAS["envelope"].fit(curves(), n_boot=40)
    assert fit.value("a") == pytest.approx(BETA / (ALPHA + BETA), abs=0.01)
    assert fit.value("b") == pytest.approx(ALPHA / (ALPHA + BETA), abs=0.01)
    found = fit.details["optima"][len(fit.details["optima"]) // 2]
    assert found["loss"] == pytest.approx(loss(*best(found["flops"])), rel=2e-3)
    assert fit.parameters["a"].low < fit.value("a") < fit.parameters["a"].high
    assert {"smallest", "largest"} <= set(" ".join(one["reason"] for one in fit.details["left_out"]).split())


def test_envelope_needs_curves_and_one_size_a_run() -> None:
    table = curves(5)
    with pytest.raises(UserError, match="no run has two rows"):
        FORMULAS["envelope"].fit(table.groupby("run", as_index=False).last())
    with pytest.raises(UserError, match="'n_params': run 'x' has 5 values"):
        FORMULAS["envelope"].fit(table.assign(run="x"))


def test_envelope_with_two_sizes_is_not_identified() -> None:
    fit = FORMULAS["envelope"].fit(curves(2))
    assert not fit.identified and "optima" in fit.reason


def test_envelope_with_one_size_between_the_ends_is_not_identified() -> None:
    fit = FORMULAS["envelope"].fit(curves(3))
    assert (
        not fit.identified
        and "alone is a best size between two others" in fit.reason
        and fit.parameters["a"].estimate is None
    )


def test_envelope_takes_no_other_objective() -> None:
    with pytest.raises(UserError, match="'huber' is not one of mse_log"):
        FORMULAS["envelope"].fit(curves(5), objective="huber")


def test_envelope_takes_no_weights() -> None:
    with pytest.raises(UserError, match="weights: envelope has none"):
        FORMULAS["envelope"].fit(curves(5).assign(w=2.0), weights="w")
