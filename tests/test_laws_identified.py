"""What the points can't decide is said by name: no number without an optimum, a finding for each parameter with one."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.laws import FORMULAS, Fit

RNG = np.random.default_rng(0)
N8 = np.geomspace(1e6, 1e9, 8)
GRID = [g.ravel() for g in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e13, 1e16, 6))]


def loss_of_both(n: np.ndarray, d: np.ndarray, noise: float) -> np.ndarray:
    exact = ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103
    return exact * np.exp(noise * np.random.default_rng(1).normal(size=len(n)))


def noisy(loss: np.ndarray, noise: float = 0.01) -> np.ndarray:
    return loss * np.exp(noise * np.random.default_rng(2).normal(size=len(loss)))


NO_OPTIMUM = {
    "one size only": ("L_N", {"n_params": np.full(8, 1e6), "loss": noisy(np.full(8, 3.0))}, "'n_params' has one value"),
    "one data size": (
        "chinchilla",
        {"n_params": N8, "n_tokens": np.full(8, 1e10), "loss": noisy(1.7 + 400 / N8**0.34)},
        "'n_tokens' has one value",
    ),
    "all at D = infinity": (
        "L_N_D",
        {"n_params": N8, "n_tokens": np.full(8, np.inf), "loss": noisy((8.8e13 / N8) ** 0.076)},
        "'n_tokens' is infinite",
    ),
    "two different points": (
        "L_N_S",
        {"n_params": [1e6, 1e7], "steps": [1e3, 1e4], "loss": [4.0, 3.0]},
        "fewer points",
    ),
    "four points for five": (
        "chinchilla",
        {"n_params": [1e6, 1e7, 1e6, 1e7], "n_tokens": [1e8, 1e8, 1e9, 1e9], "loss": [3.0, 2.5, 2.7, 2.2]},
        "fewer points than parameters: 4",
    ),
    "no trend": (
        "L_N",
        {"n_params": N8, "loss": 3 + 0.1 * np.array([1, -1, -1, 1, 1, -1, -1, 1])},
        "flat direction: alpha_N",
    ),
    "equal steps of data and size": (
        "chinchilla",
        {"n_params": N8, "n_tokens": 20 * N8, "loss": 1.7 + 400 / N8**0.34 + 400 / (20 * N8) ** 0.34},
        "flat direction: ",
    ),
}


@pytest.mark.parametrize("n_boot", [0, 50])
@pytest.mark.parametrize("case", NO_OPTIMUM)
def test_no_optimum(case: str, n_boot: int, tmp_path) -> None:
    law, points, reason = NO_OPTIMUM[case]
    fit = FORMULAS[law].fit(pd.DataFrame(points), n_boot=n_boot)
    assert not fit.found and not fit.identified and reason in fit.reason, fit.reason
    assert "\n" not in fit.reason
    assert all(
        e.finding is None and e.estimate is None and e.low is None and e.high is None for e in fit.parameters.values()
    )
    assert fit.vector is None and not len(fit.draws) and not fit.held_out
    fit.to_json(tmp_path / "fit.json")
    written = json.loads((tmp_path / "fit.json").read_text())
    assert written["identified"] is written["found"] is False and written["reason"] == fit.reason
    assert "not identified" in fit.formula()
    refuses(fit)


def refuses(fit: Fit) -> None:
    inputs = dict.fromkeys(FORMULAS[fit.law].inputs, 1e9)
    for ask in (lambda: fit.predict(**inputs), lambda: fit.interval(**inputs), lambda: fit.value("alpha_N")):
        with pytest.raises(UserError) as error:
            ask()
        assert error.value.exit_code == 3


def test_as_many_points_as_parameters_have_no_interval() -> None:
    fit = FORMULAS["L_N"].fit(pd.DataFrame({"n_params": [1e6, 1e8], "loss": [4.0, 3.0]}))
    e = fit.parameters["alpha_N"]
    assert e.estimate == pytest.approx(np.log(4 / 3) / np.log(100)) and e.low is None and e.high is None
    assert "no interval" in fit.bootstrap["note"]
    assert np.isnan(fit.interval(n_params=1e9)).all()


def test_identified_with_noise() -> None:
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(4e5, 7e8, 6), np.geomspace(2e7, 2e10, 7)))
    fit = FORMULAS["L_N_D"].fit(
        pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss_of_both(n, d, 0.01)}), n_boot=0
    )
    assert fit.identified and fit.value("alpha_D") == pytest.approx(0.103, abs=0.01)
