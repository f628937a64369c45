"""The law of repeated data: its published numbers, its derivatives, and what points can't tell of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.laws import FORMULAS
from pipeline.laws.command import cli

LAW = FORMULAS["muennighoff"]
PUBLISHED = np.array([[0.6254804, 6.255414, 0.3526596, 7.3049974, 0.3526596, -np.log(15.387756), -np.log(5.309743)]])


def points(sizes, unique, epochs, noise: float = 0.003) -> pd.DataFrame:
    n, u, e = (axis.ravel() for axis in np.meshgrid(sizes, unique, epochs))
    table = pd.DataFrame({"n_params": n, "n_tokens": u * e, "n_unique_tokens": u})
    loss = LAW.evaluate(PUBLISHED, {name: table[name].to_numpy() for name in table})[0]
    return table.assign(loss=loss * np.exp(noise * np.random.default_rng(0).normal(size=len(n))))


SIZES = np.geomspace(1e7, 9e9, 4)


def test_the_losses_that_the_authors_print() -> None:
    """Their README: two ways to spend one budget on 25e9 unique tokens."""
    inputs = {"n_params": [6.34e9, 8.67e9], "n_tokens": [242e9, 178e9], "n_unique_tokens": [25e9, 25e9]}
    found = LAW.evaluate(PUBLISHED, {name: np.array(values) for name, values in inputs.items()})[0]
    assert found == pytest.approx([2.2256440889984477, 2.2269634075087867], rel=1e-9)


@pytest.mark.parametrize("decays", [(0.065, 0.188), (3.0, 1e-4), (0.0, 0.0)])
def test_the_derivatives_are_those_of_the_value(decays: tuple[float, float]) -> None:
    model = LAW.model(points(SIZES, [1e8, 1e10], [1, 5, 80]))
    with np.errstate(divide="ignore"):
        theta = np.array([0.6, 0.5, 0.8, 0.7, 0.6, *np.log(decays)])
    moved = 1e-6 * np.eye(7)
    value, jacobian = model.derivatives(theta[None])
    differences = (model.value(theta + moved) - model.value(theta - moved)) / 2e-6
    assert value[0] == pytest.approx(model.value(theta[None])[0])
    assert jacobian[0] == pytest.approx(differences, abs=1e-7)


def test_one_amount_of_unique_tokens_will_do() -> None:
    fit = LAW.fit(points(SIZES, [1e9], [1, 2, 5, 15, 60], noise=0.0), n_boot=0)
    assert fit.identified and fit.value("decay_D") == pytest.approx(1 / 15.387756, rel=1e-4)


def test_the_procedure_of_the_source() -> None:
    held = {"E": 1.86914368, "A": 520.824952, "B": 1487.71609, "alpha": 0.3526596, "beta": 0.3526596}
    fit = LAW.fit(points(SIZES, [1e8, 1e10], [1, 5, 20, 80]), n_boot=100, fix=held)
    for name, scale in (("decay_D", 15.387756), ("decay_N", 5.309743)):
        assert fit.parameters[name].low < 1 / scale < fit.parameters[name].high
    assert fit.formula().startswith("L = 1.87 + 521 / N'^0.353 + 1.49e3 / D'^0.353, R_N* = 5.")


def test_without_decay_it_is_chinchilla() -> None:
    table = points(SIZES, [1e8, 1e10], [1, 5, 20])
    fit = LAW.fit(table, n_boot=0, fix={"decay_D": 0, "decay_N": 0})
    plain = FORMULAS["chinchilla"].fit(table, n_boot=0)
    assert fit.objective == pytest.approx(plain.objective, rel=1e-9)
    for name in ("E", "A", "B", "alpha", "beta"):
        assert fit.parameters[name].estimate == pytest.approx(plain.parameters[name].estimate, rel=1e-5)


def test_without_repeats_the_decay_of_the_data_is_free() -> None:
    fit = LAW.fit(points(SIZES, [1e8, 1e9, 1e10], [1]), n_boot=39)
    assert fit.found and not fit.identified
    assert fit.parameters["decay_D"].finding == "free" and fit.parameters["decay_D"].high is None
    assert "decay_D is 0 at the optimum; the points show no loss of worth of repeated tokens" in fit.reason


def test_fit_plot_and_predict_on_the_command_line(tmp_path, capsys) -> None:
    table, fit = tmp_path / "points.csv", str(tmp_path / "fit.json")
    points(SIZES, [1e8, 1e10], [1, 5, 20, 80], noise=0.0).to_csv(table, index=False)
    assert cli.main(["fit", LAW.name, str(table), "--n-boot", "0", "--out", fit, "--plot", fit + ".png"]) == 0
    assert "R_N* = 5.31, R_D* = 15.4" in capsys.readouterr().out
    inputs = ["--n-params", "6.34e9", "--n-tokens", "242e9", "--n-unique-tokens", "25e9"]
    assert cli.main(["predict", fit, *inputs]) == 0
    assert " 2.22564" in capsys.readouterr().out


def test_infinitely_many_epochs_are_worth_as_many_as_the_scale_and_one() -> None:
    size, tokens = np.array([1e7]), np.array([1e9])  # few parameters for so many tokens: none is in excess
    endless = {"n_params": size, "n_tokens": np.array([np.inf]), "n_unique_tokens": tokens}
    fresh = {"n_params": size, "n_tokens": 16.387756 * tokens, "n_unique_tokens": 16.387756 * tokens}
    assert LAW.evaluate(PUBLISHED, endless) == pytest.approx(LAW.evaluate(PUBLISHED, fresh), rel=1e-9)


def test_a_fit_to_infinitely_many_tokens_is_refused(tmp_path, capsys) -> None:
    table = tmp_path / "points.csv"
    points(SIZES, [1e8, 1e10], [1, 5]).assign(n_tokens=np.inf, run=range(16)).to_csv(table, index=False)
    assert cli.main(["fit", LAW.name, str(table), "--n-boot", "0"]) == 2
    assert "column 'n_tokens': muennighoff needs finite numbers" in capsys.readouterr().err
