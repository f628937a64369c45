"""The Multi-Power Law: its sums, its derivatives, and whether some schedules tell the curve of another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.laws import FORMULAS
from pipeline.laws.command.cli import main
from pipeline.laws.formulas.schedule import Schedule

LAW = FORMULAS["multi_power"]
TRUTH = {"L_0": 2.375, "A": 0.654, "alpha": 0.429, "B": 523.0, "C": 2.025, "gamma": 0.635, "beta": 0.594}
VECTOR = np.array([[value if name in ("alpha", "gamma") else np.log(value) for name, value in TRUTH.items()]])
WARM, PEAK = 100, 3e-3


def schedule(kind: str, n: int = 2000, end: float = 0.1) -> np.ndarray:
    """Return the rate of steps 0 to n: a straight warmup of 100 steps to 3e-3, then a constant, a cosine, ..."""
    k = np.arange(n + 1)
    lr = PEAK * np.minimum(k / WARM, 1.0)
    after = np.clip((k - WARM) / (n - WARM), 0, 1)
    falling = np.clip((k - 0.8 * n) / (0.2 * n), 0, 1)
    return (
        lr
        * {
            "constant": 1.0,
            "cosine": end + (1 - end) * (1 + np.cos(np.pi * after)) / 2,
            "down": np.where(k > n / 2, 3 * end, 1.0),
            "wsd": end**falling,
            "again": np.where((k > n / 3) & (k < n / 2), 3 * end, 1.0),
        }[kind]
    )


def plain(lr: np.ndarray, at: np.ndarray, truth: dict[str, float] = TRUTH) -> np.ndarray:
    """Return the law by its formula, step by step."""
    summed, found = np.cumsum(lr), []
    for t in at:
        k = np.arange(WARM + 1, t + 1)
        reach = lr[k] ** -truth["gamma"] * (summed[t] - summed[k - 1])
        gained = (lr[k - 1] - lr[k]) @ (1 - (1 + truth["C"] * reach) ** -truth["beta"])
        found.append(truth["L_0"] + truth["A"] * summed[t] ** -truth["alpha"] - truth["B"] * gained)
    return np.array(found)


def curves(kinds, every: int = 20, noise: float = 0.0, seed: int = 0, n: int = 2000, **truth: float) -> pd.DataFrame:
    """Return a table of runs with a row each so many steps, and at both ends of what is sudden; losses after warmup."""
    parts, rng = [], np.random.default_rng(seed)
    for kind in kinds:
        lr = schedule(kind, n)
        sudden = np.flatnonzero(np.abs(np.diff(lr)) > PEAK / 30)
        step = np.unique(np.concatenate([np.arange(0, len(lr), every), sudden, sudden + 1]))
        loss, after = np.full(len(step), np.nan), step >= WARM
        loss[after] = plain(lr, step[after], TRUTH | truth) * np.exp(noise * rng.normal(size=after.sum()))
        parts.append(pd.DataFrame({"run": kind, "step": step, "lr": lr[step], "loss": loss}))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("kind", ["constant", "cosine", "down", "wsd", "again"])
def test_the_sums_are_those_of_every_step(kind: str) -> None:
    lr = schedule(kind, n=350)
    found = LAW.evaluate(VECTOR, {"step": np.arange(351.0), "lr": lr})[0]
    assert np.isnan(found[:WARM]).all()
    assert found[WARM:] == pytest.approx(plain(lr, np.arange(WARM, 351)), rel=1e-12)


@pytest.mark.parametrize("kind", ["cosine", "down", "wsd"])
def test_long_schedules_are_summed_in_pieces(kind: str) -> None:
    lr = schedule(kind, n=8000)
    found = LAW.evaluate(VECTOR, {"step": np.arange(8001.0), "lr": lr})[0]
    at = np.unique(np.concatenate([np.geomspace(WARM, 8000, 30), 4000 + np.geomspace(1, 4000, 30)]).astype(int))
    assert found[at] == pytest.approx(plain(lr, at), rel=2e-4)


def test_between_rows_the_rate_is_a_straight_line() -> None:
    lr = schedule("constant", n=400)
    lr[200:] = np.linspace(PEAK, 0.2 * PEAK, 201)
    rows = np.array([0, WARM, 150, 200, 300, 400])
    found = LAW.evaluate(VECTOR, {"step": rows.astype(float), "lr": lr[rows]})[0]
    assert found[1:] == pytest.approx(plain(lr, rows[1:]), rel=1e-5)


def test_the_derivatives_are_those_of_the_value() -> None:
    used, _ = LAW.prepare(curves(["cosine", "down"]), {})
    model = LAW.model(used)
    theta = np.array([0.8, -0.7, 0.5, 6.0, 3.0, 0.4, -0.5])
    moved = 1e-6 * np.eye(7)
    value, jacobian = model.derivatives(theta[None])
    differences = (model.value(theta + moved) - model.value(theta - moved)) / 2e-6
    assert value[0] == pytest.approx(model.value(theta[None])[0])
    assert jacobian[0] == pytest.approx(differences, abs=1e-7)


@pytest.mark.parametrize("kinds", [["cosine", "constant"], ["cosine", "constant", "down"]])
def test_the_curve_of_a_schedule_that_was_not_fitted(kinds: list[str]) -> None:
    fit = LAW.fit(curves(kinds, every=1, n=350), n_boot=0)
    assert fit.identified and fit.converged
    for name, value in TRUTH.items():
        assert fit.parameters[name].estimate == pytest.approx(value, rel=1e-6), name
    wsd = curves(["wsd"], every=1, n=400)
    found = fit.predict(run=wsd.run, step=wsd.step, lr=wsd.lr)
    assert found == pytest.approx(wsd.loss.to_numpy(), rel=1e-5, nan_ok=True)


@pytest.mark.slow
def test_rows_now_and_then_will_do() -> None:
    """What is interpolated is a chord of the cosine, so C and beta are not quite what they were; the curve is."""
    fit = LAW.fit(curves(["cosine", "constant"], every=5), n_boot=0)
    wsd = curves(["wsd"], every=5)
    assert fit.predict(step=wsd.step, lr=wsd.lr) == pytest.approx(wsd.loss.to_numpy(), rel=6e-4, nan_ok=True)


@pytest.mark.slow
def test_noise_is_no_hindrance_with_a_sudden_fall() -> None:
    """Without one C and beta are told badly, and so is what another schedule gains."""
    wsd, error = curves(["wsd"], every=5), {}
    for kinds in (("cosine", "constant"), ("cosine", "constant", "down")):
        fits = [LAW.fit(curves(kinds, noise=0.001, seed=seed), n_boot=0) for seed in range(5)]
        off = [np.log(fit.predict(step=wsd.step, lr=wsd.lr) / wsd.loss.to_numpy()) for fit in fits]
        error[len(kinds)] = np.sqrt(np.nanmean(np.square(off)))
    assert error[3] < 0.001 and error[2] > 5 * error[3], error


def test_intervals_hold_the_truth_where_there_are_runs_enough() -> None:
    kinds = ["constant", "cosine", "down", "wsd", "again"]
    parts = [curves(kinds, noise=0.002, seed=seed) for seed in range(3)]
    table = pd.concat([one.assign(run=one.run + str(k)) for k, one in enumerate(parts)], ignore_index=True)
    fit = LAW.fit(table, objective="mse_log", n_boot=60)
    held = [e.low < TRUTH[name] < e.high for name, e in fit.parameters.items()]
    assert fit.n_runs == 15 and sum(held) >= 6
    wsd = curves(["wsd"])
    low, high = fit.interval(step=wsd.step, lr=wsd.lr)
    assert ((low < wsd.loss) & (wsd.loss < high))[wsd.loss.notna()].mean() > 0.8


def test_what_the_rows_are_taken_for() -> None:
    used, said = LAW.prepare(curves(["cosine", "constant"], every=50), {})
    assert len(used) == 78 and used["step"].min() == 100
    assert said == [
        "rows that give the learning rate alone: 4 without a loss",
        "the learning rate is interpolated between rows, where it changes over 50 steps at most",
    ]
    late = curves(["cosine"]).query("step > 100")
    assert LAW.prepare(late, {})[1][1] == (
        "the learning rate before the first row, at step 120, is taken as what it is there"
    )
    table = curves(["cosine"]).fillna({"loss": 3.0})  # as if measured in the warmup
    assert "5 of the warmup" in LAW.prepare(table, {})[1][0]


@pytest.mark.parametrize(
    ("lr", "warm"),
    [
        ([0, 1, 2, 2, 1], 2),
        ([0, 0, 1, 2, 1], 3),
        ([0, 1, 1, 2, 2], 3),  # in stairs
        ([2, 2, 1, 3, 1], 0),  # it rises again later
        ([2, 1, 1, 1, 1], 0),
    ],
)
def test_where_the_warmup_ends(lr: list[float], warm: int) -> None:
    assert Schedule(np.arange(5), np.array(lr, dtype=float)).warm == warm


def test_a_rate_that_ends_at_0() -> None:
    table = curves(["down", "constant"])
    lr = schedule("cosine", end=0.0)
    step = np.arange(0, 2001, 20)
    found = LAW.evaluate(VECTOR, {"step": step.astype(float), "lr": lr[step]})[0]
    assert np.isfinite(found[6:]).all()
    with np.errstate(divide="ignore"):
        assert found[60] == pytest.approx(plain(lr, step[60:61])[0], rel=1e-4)
    ending = pd.DataFrame({"run": "cosine to 0", "step": step, "lr": lr[step], "loss": found})
    fit = LAW.fit(pd.concat([table, ending], ignore_index=True), n_boot=0)
    assert fit.identified and fit.value("gamma") == pytest.approx(TRUTH["gamma"], rel=1e-3)
    assert fit.ranges["lr"] == [0.0, PEAK]


def test_a_rate_that_never_falls_tells_no_gain() -> None:
    table = curves(["constant"])
    table = pd.concat([table, table.assign(run="low", lr=table.lr / 2, loss=table.loss * 1.02)], ignore_index=True)
    fit = LAW.fit(table, n_boot=0)
    assert not fit.found and "never falls after the warmup" in fit.reason and "--fix B=0" in fit.reason
    without = LAW.fit(curves(["constant"]), n_boot=0, fix={"B": 0.0})
    assert without.formula().startswith("L = 2.37") and without.parameters["gamma"].estimate is None


def test_a_gain_that_is_not_there_is_said_once() -> None:
    table = curves(["cosine", "down"], noise=0.001, B=1e-9)
    fit = LAW.fit(table, n_boot=0)
    assert fit.found and not fit.identified and fit.reason.count("boundary") == 1
    assert fit.parameters["B"].finding == "one-sided"
    assert fit.parameters["alpha"].estimate == pytest.approx(TRUTH["alpha"], rel=0.05)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    curves(["cosine", "constant", "down", "again"], noise=0.001).to_csv("curves.csv", index=False)
    curves(["wsd"]).rename(columns={"lr": "rate"}).to_csv("plan.csv", index=False)


def test_fit_predict_and_plot_on_the_command_line(files, capsys) -> None:
    assert main(["fit", "multi_power", "curves.csv", "--n-boot", "0", "--out", "fit.json", "--plot", "fit.png"]) == 0
    printed = capsys.readouterr().out
    assert "derived: rows that give the learning rate alone: 20 without a loss" in printed
    assert json.loads(Path("fit.json").read_text())["ranges"] == {"step": [0.0, 2000.0], "lr": [0.0, PEAK]}
    options = ["--column", "lr=rate", "--output", "predicted.csv"]
    assert main(["predict", "fit.json", "--input", "plan.csv", *options]) == 0
    assert "rows without a prediction: 5" in capsys.readouterr().out
    table = pd.read_csv("predicted.csv")
    assert (table.note[:5] == "in the warmup, of which multi_power says nothing").all()
    assert table.predicted.to_numpy() == pytest.approx(table.loss.to_numpy(), rel=2e-3, nan_ok=True)
    assert main(["predict", "fit.json", "--step", "0", "100", "2000", "4000", "--lr", "0", "3e-3", "3e-3", "0"]) == 0
    printed = capsys.readouterr().out
    assert "line 4: extrapolated: step 0.3 decades above" in printed and "line 1: in the warmup" in printed


def test_each_curve_is_left_out_in_its_turn(files, capsys) -> None:
    assert main(["compare", "curves.csv", "--laws", "multi_power", "--leave-one-run-out", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["held_out"] == "each of 4 runs in its turn" and 0.0005 < found["held_out_rms_ln"] < 0.03
    assert main(["compare", "curves.csv", "--laws", "multi_power", "--hold-out", "step > 1500", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["n_points"] == 288 and found["held_out_rms_ln"] < 0.004
    assert main(["compare", "curves.csv", "--laws", "multi_power,L_C"]) == 2


WRONG = {
    "half a step": ({"step": 2.5}, "column 'step', line 9: 2.5 is not a whole number of steps"),
    "negative rate": ({"lr": -1.0}, "column 'lr', line 9: -1 is not a finite number of 0 or more"),
    "a step twice": ({"step": 120}, "run 'cosine' has step 120 twice"),
    "no rate": ({"lr": ""}, "column 'lr', line 9: is empty"),
    "no positive loss": ({"loss": 0.0}, "column 'loss', line 9: 0 is not a positive finite number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_cell_that_can_not_be_is_named(files, capsys, case: str) -> None:
    change, words = WRONG[case]
    table = curves(["cosine", "down"]).astype(object)
    for name, value in change.items():
        table.loc[7, name] = value
    table.to_csv("curves.csv", index=False)
    assert main(["fit", "multi_power", "curves.csv", "--n-boot", "0"]) == 2
    assert words in capsys.readouterr().err


def test_a_table_without_runs_is_one_curve() -> None:
    table = curves(["cosine"]).drop(columns="run")
    assert LAW.fit(table, n_boot=0).runs == ["curve"]
    with pytest.raises(UserError, match="every row lies in the warmup"):
        LAW.fit(table[table.step <= WARM].assign(loss=[3.0] * 5 + [None]), n_boot=0)
    with pytest.raises(UserError, match="'loss': is empty in every row"):
        LAW.fit(table.assign(loss=None), n_boot=0)
