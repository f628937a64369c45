"""Every law finds the parameters that its points were made with, under every objective."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.laws import FORMULAS, load_fit
from pipeline.laws.fitting.estimate import OBJECTIVES
from pipeline.units import PF_DAY


def grid(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(first, second)
    return a.ravel(), b.ravel()


SIZES = np.geomspace(1e5, 1e9, 9)
N, D = grid(np.geomspace(4e5, 7e8, 6), np.array([*np.geomspace(2e7, 2e10, 7), np.inf]))
N_S, S = grid(np.geomspace(1e6, 1e9, 7), np.geomspace(1e3, 1e6, 8))
N_H, D_H = grid(np.geomspace(5e7, 1e10, 6), np.geomspace(1e9, 1e12, 6))
T = np.arange(1.0, 65)
N_R, U_R, EPOCHS = (
    axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 9e9, 4), np.geomspace(1e8, 2e10, 3), [1.0, 3, 12, 60])
)


def best_size(unique: np.ndarray) -> np.ndarray:
    """U_N of Muennighoff et al. for the constants that are planted below."""
    g = (0.36 * 521 / (0.34 * 1488)) ** (1 / (0.36 + 0.34))
    return (unique * g) ** (0.34 / 0.36) * g


def repeated(total: np.ndarray, unique: np.ndarray, scale: float) -> np.ndarray:
    """Their Eq 5 and 6."""
    unique = np.minimum(total, unique)
    return unique + unique * scale * (1 - np.exp(-(total / unique - 1) / scale))


PLANTED = {
    "L_N": ({"n_params": SIZES}, (8.8e13 / SIZES) ** 0.076, {"N_c": 8.8e13, "alpha_N": 0.076}),
    "L_D": ({"n_tokens": SIZES}, (5.4e13 / SIZES) ** 0.095, {"D_c": 5.4e13, "alpha_D": 0.095}),
    "L_C": ({"flops": SIZES}, (1.4e27 / SIZES) ** 0.057, {"C_c": 1.4e27, "alpha_C": 0.057}),
    "L_C_min": ({"flops": SIZES}, (2.7e28 / SIZES) ** 0.050, {"C_c_min": 2.7e28, "alpha_C_min": 0.050}),
    "log_N": ({"n_params": SIZES}, -0.25 * np.log(SIZES / 7.1e12), {"N_0": 7.1e12, "a": 0.25}),
    "L_N_D": (
        {"n_params": N, "n_tokens": D},
        ((6.4e13 / N) ** (0.076 / 0.103) + 1.8e13 / D) ** 0.103,
        {"N_c": 6.4e13, "alpha_N": 0.076, "D_c": 1.8e13, "alpha_D": 0.103},
    ),
    "L_N_S": (
        {"n_params": N_S, "steps": S},
        (6.5e13 / N_S) ** 0.077 + (2.1e3 / S) ** 0.76,
        {"N_c": 6.5e13, "alpha_N": 0.077, "S_c": 2.1e3, "alpha_S": 0.76},
    ),
    "B_crit": (
        {"loss": np.linspace(3, 9, 8)},
        2e8 / np.linspace(3, 9, 8) ** (1 / 0.21),
        {"B_star": 2e8, "alpha_B": 0.21},
    ),
    "position": ({"position": T}, 2.3 + 5.4 * T**-0.62, {"a": 2.3, "b": 5.4, "c": 0.62}),
    "N_opt_min": ({"flops": 1e10 * SIZES}, 1.3e9 * (1e10 * SIZES / PF_DAY) ** 0.73, {"k": 1.3e9, "p": 0.73}),
    "S_opt_min": ({"flops": 1e10 * SIZES}, 5.4e3 * (1e10 * SIZES / PF_DAY) ** 0.03, {"k": 5.4e3, "p": 0.03}),
    "chinchilla": (
        {"n_params": N_H, "n_tokens": D_H},
        1.69 + 406.4 / N_H**0.34 + 410.7 / D_H**0.28,
        {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28},
    ),
    "downstream": (
        {"loss": np.linspace(2.2, 4.2, 9)},
        0.857 - 2.21 * np.exp(-0.715 * np.linspace(2.2, 4.2, 9)),
        {"epsilon": 0.857, "k": 2.21, "gamma": 0.715},
    ),
    "muennighoff": (
        {"n_params": N_R, "n_tokens": U_R * EPOCHS, "n_unique_tokens": U_R},
        1.87 + 521 / repeated(N_R, best_size(U_R), 5.3) ** 0.36 + 1488 / repeated(U_R * EPOCHS, U_R, 15.4) ** 0.34,
        {"E": 1.87, "A": 521, "alpha": 0.36, "B": 1488, "beta": 0.34, "decay_D": 1 / 15.4, "decay_N": 1 / 5.3},
    ),
    "power_plus_constant": ({"flops": SIZES}, 1.7 + 30 / SIZES**0.2, {"E": 1.7, "A": 30.0, "alpha": 0.2}),
    "power": ({"x": SIZES, "y": 3 * SIZES**-0.5}, None, {"k": 3.0, "p": -0.5}),
}


def planted_points(law: str) -> tuple[pd.DataFrame, dict[str, float]]:
    inputs, response, truth = PLANTED[law]
    points = pd.DataFrame(inputs)
    if response is not None:
        points[FORMULAS[law].response] = response
    return points, truth


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("law", PLANTED)
def test_truth_is_found(law: str, objective: str) -> None:
    points, truth = planted_points(law)
    fit = FORMULAS[law].fit(points, objective=objective, n_boot=0)
    assert fit.identified and fit.converged, fit.reason
    assert {name: fit.value(name) for name in truth} == pytest.approx(truth, rel=1e-5)
    assert fit.r_squared == pytest.approx(1)
    inputs = {name: points[fit.columns.get(name, name)] for name in FORMULAS[law].inputs}
    assert fit.predict(**inputs) == pytest.approx(points[FORMULAS[law].response].to_numpy(), rel=1e-9)


def test_power_plus_constant_names_its_column() -> None:
    points = pd.DataFrame({"flops": SIZES, "loss": 1.7 + 30 / SIZES**0.2})
    fit = FORMULAS["power_plus_constant"].fit(points, n_boot=0)
    assert fit.columns == {"x": "flops"}
    assert fit.predict(flops=1e6) == pytest.approx(fit.predict(x=1e6)) == pytest.approx(1.7 + 30 / 1e6**0.2)


@pytest.mark.parametrize(
    ("law", "text"),
    [
        ("L_N", "L = (N / 8.8e13)^-0.076"),
        ("L_N_D", "L = [(6.4e13 / N)^(0.076/0.103) + 1.8e13 / D]^0.103"),
        ("L_N_S", "L = (6.5e13 / N)^0.077 + (2.1e3 / S_min)^0.760"),
        ("log_N", "L = -0.25 ln(N / 7.1e12)"),
        ("B_crit", "B_crit = 2e8 / L^4.76"),
        ("position", "L = 2.3 + 5.4 / T^0.62"),
        ("N_opt_min", "N = 1.3e9 (C / PF-day)^0.73"),
        ("chinchilla", "L = 1.69 + 406 / N^0.34 + 411 / D^0.28"),
    ],
)
def test_formula(law: str, text: str) -> None:
    points, _ = planted_points(law)
    assert FORMULAS[law].fit(points, n_boot=0).formula() == text


@pytest.mark.parametrize("law", ["L_N", "L_N_D", "chinchilla", "power_plus_constant"])
def test_json_round_trip(law: str, tmp_path) -> None:
    points, _ = planted_points(law)
    response = FORMULAS[law].response
    points[response] *= np.exp(0.002 * np.random.default_rng(0).normal(size=len(points)))
    fit = FORMULAS[law].fit(points, n_boot=50)
    fit.to_json(tmp_path / "fit.json")
    again = load_fit(tmp_path / "fit.json")
    assert again.parameters == fit.parameters and again.formula() == fit.formula()
    inputs = {name: points[fit.columns.get(name, name)] for name in FORMULAS[law].inputs}
    assert np.allclose(again.interval(**inputs), fit.interval(**inputs), rtol=1e-8)


def test_hold_out_predicts_the_largest() -> None:
    points, _ = planted_points("L_N")
    points["run"] = [f"r{i}" for i in range(len(points))]
    fit = FORMULAS["L_N"].fit(points, hold_out=2, n_boot=0)
    assert fit.n_points == 7 and fit.held_out["runs"] == ["r7", "r8"]
    assert fit.held_out["relative_error"] == pytest.approx([0, 0], abs=1e-10)
    points.loc[8, "loss"] *= 1.1
    again = FORMULAS["L_N"].fit(points, hold_out=2, n_boot=0)
    assert again.parameters == fit.parameters  # the fit has not seen it
    assert again.held_out["largest_relative_error"] == pytest.approx(1 - 1 / 1.1)
