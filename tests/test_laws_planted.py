"""Every law finds the parameters that its points were made with."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.laws import LAWS, load_fit
from pipeline.laws.estimate import OBJECTIVES

OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES)


@OBJECTIVE
@pytest.mark.parametrize(
    ("law", "column", "scale", "exponent"),
    [
        ("L_N", "n_params", 8.8e13, 0.076),
        ("L_D", "n_tokens", 5.4e13, 0.095),
        ("L_C", "flops", 1.6e7 * 8.64e19, 0.057),
        ("L_C_min", "flops", 3.1e8 * 8.64e19, 0.050),
    ],
)
def test_power_law(law: str, column: str, scale: float, exponent: float, objective: str) -> None:
    x = np.geomspace(1e5, 1e9, 9)
    points = pd.DataFrame({column: x, "loss": (scale / x) ** exponent})
    fit = LAWS[law].fit(points, objective=objective, n_boot=0)
    found = [e.estimate for e in fit.parameters.values()]
    assert found == pytest.approx([scale, exponent], rel=1e-7)
    assert fit.identified and fit.converged and fit.r_squared == pytest.approx(1)


@OBJECTIVE
def test_loss_of_size_and_data(objective: str) -> None:
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(4e5, 7e8, 6), [*np.geomspace(2e7, 2e10, 7), np.inf]))
    loss = ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103
    fit = LAWS["L_N_D"].fit(pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss}), objective=objective, n_boot=0)
    found = [fit.value(name) for name in ("N_c", "alpha_N", "D_c", "alpha_D")]
    assert found == pytest.approx([6.4e13, 0.076, 1.8e13, 0.103], rel=1e-5)
    assert fit.predict(n_params=n, n_tokens=d) == pytest.approx(loss)


@OBJECTIVE
def test_logarithm(objective: str) -> None:
    n = np.geomspace(1e4, 1e9, 8)
    fit = LAWS["log_N"].fit(
        pd.DataFrame({"n_params": n, "loss": -0.25 * np.log(n / 7.1e12)}), objective=objective, n_boot=0
    )
    assert [fit.value("N_0"), fit.value("a")] == pytest.approx([7.1e12, 0.25], rel=1e-6)


def test_json_round_trip(tmp_path) -> None:
    n = np.geomspace(1e5, 1e9, 9)
    noise = np.exp(0.01 * np.random.default_rng(0).normal(size=9))
    fit = LAWS["L_N"].fit(pd.DataFrame({"n_params": n, "loss": (8.8e13 / n) ** 0.076 * noise}), n_boot=100)
    fit.to_json(tmp_path / "L_N.json")
    again = load_fit(tmp_path / "L_N.json")
    assert again.parameters == fit.parameters and again.formula() == fit.formula()
    assert np.allclose(again.interval(n_params=1e10), fit.interval(n_params=1e10), rtol=1e-9)
