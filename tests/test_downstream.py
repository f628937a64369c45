"""The error on downstream tasks by the loss: derivatives, and what points can't tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.laws import FORMULAS
from pipeline.laws.command import cli

LAW = FORMULAS["downstream"]
LOSS = np.linspace(2.2, 4.2, 14)


def points(noise: float = 0.0, error=None) -> pd.DataFrame:
    error = 0.857 - 2.21 * np.exp(-0.715 * LOSS) if error is None else error
    factor = np.exp(noise * np.random.default_rng(0).normal(size=len(LOSS)))
    return pd.DataFrame({"loss": LOSS, "error": error * factor})


def test_the_derivatives_are_those_of_the_value() -> None:
    model, theta = LAW.model(points()), np.array([-0.2, -1.5, 0.7])
    moved = 1e-6 * np.eye(3)
    value, jacobian = model.derivatives(theta[None])
    assert value[0] == pytest.approx(model.value(theta[None])[0])
    assert jacobian[0] == pytest.approx((model.value(theta + moved) - model.value(theta - moved)) / 2e-6, abs=1e-8)


def test_the_interval_holds_the_truth() -> None:
    fit = LAW.fit(points(0.005), n_boot=200)
    assert fit.identified
    for name, value in {"epsilon": 0.857, "k": 2.21, "gamma": 0.715}.items():
        assert fit.parameters[name].low < value < fit.parameters[name].high


def test_an_error_that_never_falls_has_no_slope() -> None:
    fit = LAW.fit(points(0.01, error=np.full(len(LOSS), 0.8)), n_boot=60)
    assert fit.found and not fit.identified and fit.parameters["gamma"].finding == "free"
    assert fit.parameters["k"].low is None


def test_where_gamma_could_be_0_epsilon_is_open_above() -> None:
    fit = LAW.fit(points(0.1), n_boot=200)
    assert not fit.identified and fit.parameters["epsilon"].high is None and fit.parameters["k"].high is None


def test_fit_plot_and_predict_on_the_command_line(tmp_path, capsys) -> None:
    table, fit = tmp_path / "points.csv", str(tmp_path / "fit.json")
    points().rename(columns={"error": "top-1 error"}).to_csv(table, index=False)
    arguments = ["--column", "error=top-1 error", "--n-boot", "0", "--out", fit, "--plot", fit + ".png"]
    assert cli.main(["fit", LAW.name, str(table), *arguments]) == 0
    assert "Err = 0.857 - 2.21 exp(-0.715 L)" in capsys.readouterr().out
    assert cli.main(["predict", fit, "--loss", "2.0"]) == 0
    said = capsys.readouterr().out
    assert "0.328127" in said and "error in share" in said and "below 1" not in said
