"""Every optimum is reported, with what the points tell of each parameter: planted truths for each finding."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from pipeline.errors import UserError
from pipeline.laws import FORMULAS, load_fit
from pipeline.laws.command.cli import main
from pipeline.laws.fitting import progress

N8 = np.geomspace(1e6, 1e9, 8)
SMALL, LARGE = (g.ravel() for g in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e13, 1e16, 6)))
N6, S6 = (g.ravel() for g in np.meshgrid(np.geomspace(1e5, 1e9, 6), np.geomspace(1e2, 1e5, 6)))


def noise(n: int, size: float, seed: int = 2) -> np.ndarray:
    return np.exp(size * np.random.default_rng(seed).normal(size=n))


def of_both(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103 * noise(len(n), 0.01, 1)


PLANTED = {
    "each is told": (
        "L_N",
        {"n_params": N8, "loss": (8.8e13 / N8) ** 0.076 * noise(8, 0.003)},
        {"N_c": "identified", "alpha_N": "identified"},
        "",
    ),
    "no constant is needed": (
        "power_plus_constant",
        {"n_params": N8, "loss": (1e13 / N8) ** 0.076 * noise(8, 0.003)},
        {"E": "one-sided", "A": "identified", "alpha": "identified"},
        "boundary: the points don't need the term of E",
    ),
    "the constant is best at 0": (
        "power_plus_constant",
        {"n_params": N8, "loss": (1e13 / N8) ** 0.076 - 0.5},
        {"E": "one-sided", "A": "identified", "alpha": "identified"},
        "boundary: the term of E is 0 at the optimum",
    ),
    "data never bind": (
        "L_N_D",
        {"n_params": SMALL, "n_tokens": LARGE, "loss": of_both(SMALL, LARGE)},
        {"N_c": "identified", "alpha_N": "identified", "alpha_D": "free"},
        "all points on one side: D_c, alpha_D leave no trace",
    ),
    "the size never binds": (
        "L_N_D",
        {"n_params": LARGE, "n_tokens": SMALL, "loss": of_both(LARGE, SMALL)},
        {"alpha_N": "free", "D_c": "identified", "alpha_D": "identified"},
        "all points on one side: N_c, alpha_N leave no trace",
    ),
    "an exponent near 0": (
        "L_N",
        {"n_params": N8, "loss": 3 * N8**-0.002 * noise(8, 0.01)},
        {"N_c": "one-sided", "alpha_N": "one-sided"},
        "flat direction: alpha_N is within 1.96 standard errors of 0",
    ),
    "one exponent of two near 0": (
        "L_N_S",
        {"n_params": N6, "steps": S6, "loss": (2 + (2e3 / S6) ** 0.76) * noise(36, 0.01, 5)},
        {"S_c": "identified", "alpha_S": "identified"},
        "N_c",
    ),
    "a rising loss": (
        "L_N",
        {"n_params": N8, "loss": (N8 / 1e13) ** 0.1 * noise(8, 0.003)},
        {"N_c": "identified", "alpha_N": "identified"},
        "alpha_N is negative: the loss rises",
    ),
    "a rising logarithm": (
        "log_N",
        {"n_params": N8, "loss": (1 + 0.1 * np.log(N8)) * noise(8, 0.003)},
        {"a": "identified"},
        "a is negative",
    ),
    "a scale beyond all numbers": (
        "L_N",
        {"n_params": N8, "loss": 3.1 * N8**-0.001 * noise(8, 1e-5)},
        {"N_c": "one-sided", "alpha_N": "identified"},
        "out of range: N_c is e^",
    ),
}


@pytest.mark.parametrize("n_boot", [0, 79])
@pytest.mark.parametrize("case", PLANTED)
def test_finding_of_each_parameter(case: str, n_boot: int, tmp_path) -> None:
    law, points, findings, reason = PLANTED[case]
    fit = FORMULAS[law].fit(pd.DataFrame(points), n_boot=n_boot)
    assert fit.found and {name: fit.parameters[name].finding for name in findings} == findings
    assert reason in (fit.reason or "") and fit.identified is (not reason)
    inputs = {name: np.asarray(points[fit.columns.get(name, name)]) for name in FORMULAS[law].inputs}
    predicted = fit.predict(**inputs)
    assert np.abs(predicted / points["loss"] - 1).max() < 0.05
    fit.to_json(tmp_path / "fit.json")
    again = load_fit(tmp_path / "fit.json")
    assert again.parameters == fit.parameters and again.formula() == fit.formula() and again.reason == fit.reason
    assert again.predict(**inputs) == pytest.approx(predicted, rel=1e-12)
    if n_boot:
        low, high = again.interval(**inputs)
        assert (low <= predicted).all() and (predicted <= high).all()
        for one in fit.parameters.values():
            ends = [end is not None for end in (one.low, one.high)]
            assert sum(ends) <= {"identified": 2, "one-sided": 1, "free": 0}[one.finding]
            assert one.finding != "identified" or all(ends)


def test_a_term_at_the_edge_leaves_the_law_without_it() -> None:
    law, points, _, _ = PLANTED["the constant is best at 0"]
    fit = FORMULAS[law].fit(pd.DataFrame(points), n_boot=79)
    slope, intercept = np.polyfit(np.log(N8), np.log(points["loss"]), 1)
    assert fit.parameters["E"].estimate == 0 and fit.parameters["E"].low is None and fit.parameters["E"].high > 0
    assert fit.parameters["alpha"].estimate == pytest.approx(-slope, rel=1e-8)
    assert fit.parameters["A"].estimate == pytest.approx(np.exp(intercept), rel=1e-8)
    at_zero = np.isneginf(fit.draws[:, 0])
    assert 10 < at_zero.sum() < 79 and fit.bootstrap["at_the_edge"] == at_zero.sum()  # some need the constant again


def test_the_parameters_that_are_told_do_not_depend_on_the_one_that_is_not() -> None:
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e8, 1e11, 6)))
    loss = (1.8 + 8 / n**0.05 + 4.6e5 / d**0.63) * noise(30, 0.006)
    fit = FORMULAS["chinchilla"].fit(pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss}), n_boot=79)
    assert {name: one.finding for name, one in fit.parameters.items()} == {
        "E": "one-sided",
        "A": "identified",
        "B": "identified",
        "alpha": "identified",
        "beta": "identified",
    }
    beta = fit.parameters["beta"]
    assert beta.low < 0.63 < beta.high < 1.2 * beta.low and fit.parameters["E"].low is None


def test_an_interval_goes_through_infinity_where_an_exponent_changes_its_sign() -> None:
    fit = FORMULAS["L_N"].fit(pd.DataFrame(PLANTED["each is told"][1]), n_boot=0)
    draws = np.array([[32.0, 0.08], [700.0, 0.001], [-700.0, -0.001]])
    assert FORMULAS["L_N"].in_order(draws, np.array(fit.vector))[:, 0].tolist() == [32.0, 700.0, np.inf]
    batch = FORMULAS["B_crit"]
    assert batch.in_order(np.array([[15.0, 0.2], [15.0, -9.0]]), np.array([15.0, 0.3]))[:, 1].tolist() == [0.2, np.inf]


def test_an_edited_optimum_is_refused_and_a_file_of_before_is_read(tmp_path) -> None:
    path = tmp_path / "fit.json"
    FORMULAS["L_N_D"].fit(pd.DataFrame(PLANTED["data never bind"][1]), n_boot=0).to_json(path)
    record = json.loads(path.read_text())
    assert record["vector"][2:] == ["-inf", None] and record["parameters"]["D_c"]["estimate"] == 0
    record["parameters"]["alpha_D"]["estimate"] = 0.1
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="vector: the number of alpha_D is None"):
        load_fit(path)
    fit = FORMULAS["L_N"].fit(pd.DataFrame(PLANTED["each is told"][1]), n_boot=0)
    fit.to_json(path)
    record = json.loads(path.read_text())
    for name in ("found", "fixed", "tied", "level"):
        del record[name]
    for one in record["parameters"].values():
        del one["finding"]
    path.write_text(json.dumps(record))
    before = load_fit(path)
    assert before.found and before.identified and before.parameters["N_c"].finding is None and before.level == 0.95
    assert before.value("N_c") == fit.value("N_c")


def test_a_value_may_still_ask_for_identified() -> None:
    fit = FORMULAS["L_N"].fit(pd.DataFrame(PLANTED["an exponent near 0"][1]), n_boot=0)
    with pytest.raises(UserError, match="L_N is not identified: flat direction") as error:
        fit.value("alpha_N")
    assert error.value.exit_code == 3
    with pytest.raises(UserError, match="not identified"):
        replace(fit, vector=None).predict(n_params=1e7)


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipeline.laws", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])


def test_exit_codes_and_warnings_of_the_command(tmp_path) -> None:
    points, out = tmp_path / "points.csv", tmp_path / "fit.json"
    pd.DataFrame(PLANTED["no constant is needed"][1]).to_csv(points, index=False)
    done = run("fit", "power_plus_constant", points, "--n-boot", 39, "--out", out, "--plot", tmp_path / "fit.png")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: power_plus_constant is not identified: boundary: the points don't need")
    assert done.stderr.count("\n") == 1 and "one-sided" in done.stdout
    record = json.loads(out.read_text())
    assert record["found"] is True and record["identified"] is False and record["reason"].startswith("boundary")
    assert record["parameters"]["E"]["finding"] == "one-sided" and record["parameters"]["E"]["low"] is None
    done = run("predict", out, "--n-params", "1e10", "--json")
    assert done.returncode == 0 and done.stderr.startswith("warning: ")
    predicted = json.loads(done.stdout)
    assert predicted["identified"] is False and predicted["reason"] == record["reason"]
    assert predicted["predictions"][0]["loss"] == pytest.approx((1e13 / 1e10) ** 0.076, rel=0.02)
    pd.DataFrame({"n_params": 1e6, "loss": N8**-0.1}).to_csv(points, index=False)
    done = run("fit", "L_N", points, "--n-boot", 0)
    assert done.returncode == 3 and done.stderr.startswith("error: L_N is not identified: column 'n_params' has one")


def test_all_laws_with_an_optimum_are_compared(tmp_path, capsys) -> None:
    points = tmp_path / "points.csv"
    pd.DataFrame(PLANTED["no constant is needed"][1]).to_csv(points, index=False)
    command = ["compare", str(points), "--laws", "L_N,power_plus_constant", "--hold-out", "largest=1", "--json"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    line, constant = json.loads(out)
    assert constant["found"] and not constant["identified"] and constant["held_out_rms_ln"] < 0.05
    assert line["delta_aic"] == 0 < constant["delta_aic"] < 2.1
    assert err.startswith("warning: power_plus_constant is not identified") and err.count("\n") == 1


def test_likelihood_intervals_only_where_each_row_is_a_run() -> None:
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 5)))
    points = pd.DataFrame(
        {"n_params": n, "n_tokens": d, "loss": (1.7 + 400 / n**0.34 + 410 / d**0.28) * noise(25, 0.002)}
    )
    alone = FORMULAS["chinchilla"].fit(points, "mse_log", n_boot=39)
    assert set(alone.likelihood) == {"E", "A", "B", "alpha", "beta"}
    shared = FORMULAS["chinchilla"].fit(points.assign(run=[f"r{k // 2}" for k in range(25)]), "mse_log", n_boot=39)
    for options, names in (
        ({"fix": {"E": 1.7}}, {"A", "B", "alpha", "beta"}),
        ({"fix": {"E": 0}}, {"A", "B", "alpha", "beta"}),
        ({"fix": {"A": 400}}, {"E", "B", "alpha", "beta"}),
    ):
        fit = FORMULAS["chinchilla"].fit(points, "mse_log", n_boot=39, **options)
        assert set(fit.likelihood) == names
        for name in names:
            low, high = fit.likelihood[name]
            assert low < fit.parameters[name].estimate < high
    assert shared.likelihood == {} and shared.parameters["E"].low is not None


def test_level_of_the_intervals(tmp_path, capsys) -> None:
    points = pd.DataFrame(PLANTED["each is told"][1])
    widths = []
    for level in (0.9, 0.95):
        one = FORMULAS["L_N"].fit(points, level=level, n_boot=400).parameters["alpha_N"]
        widths.append(one.high - one.low)
    assert 0.6 < widths[0] / widths[1] < 0.95
    points.to_csv(tmp_path / "p.csv", index=False)
    out = str(tmp_path / "f.json")
    assert main(["fit", "L_N", str(tmp_path / "p.csv"), "--level", "90", "--n-boot", "39", "--out", out]) == 0
    assert "90 % intervals: 39 wild" in capsys.readouterr().out
    assert main(["predict", out, "--n-params", "1e8"]) == 0
    assert "90 % interval of the law" in capsys.readouterr().out
    for options, words in (
        (["--level", "100"], "level (--level): 100 must be a percentage"),
        (["--level", "99", "--n-boot", "100"], "at least 199"),
    ):
        assert main(["fit", "L_N", str(tmp_path / "p.csv"), *options]) == 2
        assert words in capsys.readouterr().err


def test_a_long_fit_tells_a_terminal_how_far_it_is(monkeypatch, capsys) -> None:
    clock = iter(np.arange(0.0, 100.0, 1.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert list(progress.counted(9, "fits")) == list(range(9))
    assert capsys.readouterr().err == ""  # not a terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress.counted(9, "fits")) == list(range(9))
    said = capsys.readouterr().err
    assert "\r5 of 9 fits" in said and said.endswith("\r\033[K") and "\n" not in said


def test_optimum_without_a_term_is_that_of_scipy() -> None:
    law, points, _, _ = PLANTED["the size never binds"]
    fit = FORMULAS[law].fit(pd.DataFrame(points), n_boot=0)

    def residual(p: np.ndarray) -> np.ndarray:
        return np.log(points["loss"]) - p[1] * (p[0] - np.log(points["n_tokens"]))

    found = optimize.least_squares(residual, [30.0, 0.1], xtol=1e-15, ftol=1e-15, gtol=1e-15).x
    assert fit.parameters["alpha_D"].estimate == pytest.approx(found[1], rel=1e-8)
    assert np.log(fit.parameters["D_c"].estimate) == pytest.approx(found[0], rel=1e-8)
