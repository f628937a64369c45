"""gain: by how much less compute one set of runs reaches the loss of another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.laws import FORMULAS, Fit
from pipeline.laws.command.cli import main
from pipeline.laws.command.gain import gain

C = np.geomspace(1e15, 1e19, 12)


def runs(name: str, factor: float = 1.0, noise: np.ndarray | float = 0.0) -> pd.DataFrame:
    """Return runs whose compute counts as if it were `factor` times as much: L = (1e25 / (factor C))^0.05."""
    loss = (1e25 / (factor * C)) ** 0.05 * np.exp(noise)
    return pd.DataFrame({"run": [f"{name}{k}" for k in range(len(C))], "flops": C, "loss": loss})


def law(scale: float, exponent: float, n_boot: int = 0) -> Fit:
    points = pd.DataFrame({"flops": C, "loss": (scale / C) ** exponent})
    return FORMULAS["L_C"].fit(points, n_boot=n_boot)


def test_half_of_the_compute_is_a_gain_of_two() -> None:
    found = gain(*(FORMULAS["L_C"].fit(runs(*one), n_boot=39) for one in (("a",), ("b", 2.0))))
    assert found.gain.tolist() == pytest.approx([2, 2, 2], rel=1e-9)
    assert found.low.tolist() == pytest.approx([2, 2, 2], rel=1e-9) and found.notes == [None, None, None]
    assert found.needs_a.tolist() == pytest.approx((2 * found.needs_b).tolist())
    assert found.losses.tolist() == pytest.approx([(5e9) ** 0.05, (5e15) ** 0.025, (1e6) ** 0.05])  # what both have


def test_the_interval_holds_the_planted_gain() -> None:
    """Of 40 pairs of sets with 1 % noise the interval at the middle loss holds 2 in 36 or more; none is open."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(40):
        sets = runs("a", 1.0, 0.01 * rng.normal(size=12)), runs("b", 2.0, 0.01 * rng.normal(size=12))
        found = gain(*(FORMULAS["L_C"].fit(one, n_boot=199) for one in sets), losses=[2.5])
        assert 1 < found.low[0] < found.gain[0] < found.high[0] < 4
        held += found.low[0] < 2 < found.high[0]
    assert held >= 36


def test_the_gain_depends_on_the_loss_where_exponents_differ() -> None:
    found = gain(law(1e25, 0.05), law(1e24, 0.06), losses=[2.0, 4.0])
    expected = [10 * 2 ** (1 / 0.06 - 1 / 0.05), 10 * 4 ** (1 / 0.06 - 1 / 0.05)]  # 0.99 and 0.098
    assert found.gain.tolist() == pytest.approx(expected)
    assert np.isnan(found.low).all()


def test_losses_outside_of_either_set_are_named() -> None:
    found = gain(law(1e25, 0.05), law(1e24, 0.05), losses=[1.9, 3.0, 3.1, 1.5])
    assert found.notes == [
        "extrapolated: below what was fitted of A (1.995 to 3.162)",
        "extrapolated: above what was fitted of B (1.778 to 2.818)",
        "extrapolated: above what was fitted of B (1.778 to 2.818)",
        "extrapolated: below what was fitted of A (1.995 to 3.162), below what was fitted of B (1.778 to 2.818)",
    ]
    assert "loss 1.9: extrapolated: below what was fitted of A" in found.table()


def test_a_loss_that_is_never_reached_has_no_gain() -> None:
    n = np.geomspace(1e6, 1e9, 8)
    fits = [
        FORMULAS["power_plus_constant"].fit(pd.DataFrame({"n_params": n, "loss": e + 400 / n**0.34}), n_boot=0)
        for e in (1.7, 1.5)
    ]
    found = gain(*fits, losses=[1.6])
    assert found.input == "n_params" and found.to_dict()["at"][0]["gain"] is None
    assert found.notes == ["extrapolated: the law of A has it at no input, below what was fitted of B (1.848 to 5.148)"]


def test_shared_runs_are_paired_and_said() -> None:
    noise = 0.01 * np.random.default_rng(0).normal(size=12)
    same = [FORMULAS["L_C"].fit(runs("a", factor, noise), n_boot=99) for factor in (1.0, 2.0)]
    other = FORMULAS["L_C"].fit(runs("b", 2.0, noise), n_boot=99)
    paired, apart = gain(*same, losses=[2.3]), gain(same[0], other, losses=[2.3])
    assert 1.9 < paired.low[0] < 2 < paired.high[0] < 2.15  # what a run is off by cancels, but in the exponent
    assert apart.high[0] - apart.low[0] > 3 * (paired.high[0] - paired.low[0])
    assert "runs that both sets name: 12, taken as the same runs" in paired.table()
    assert apart.shared == 0


def test_what_can_not_be_compared() -> None:
    one, sizes = law(1e25, 0.05), FORMULAS["L_N"].not_fitted("no runs")
    both = FORMULAS["chinchilla"].not_fitted("no runs")
    rising = FORMULAS["N_opt"].fit(pd.DataFrame({"flops": C, "n_params": C**0.5}), n_boot=0)
    for fits, losses, words in (
        ((one, sizes), None, "L_C and L_N: fits of one law"),
        ((one, law(1e40, 0.05)), None, "no loss in common .* --loss says where"),
        ((one, law(1e24, 0.05)), [-1.0], "--loss: -1 is not a positive number"),
        ((both, both), None, "chinchilla: depends on n_params, n_tokens; a law of one input"),
        ((one, FORMULAS["L_C"].not_fitted("no runs")), None, "set B: L_C is not identified: no runs"),
        ((rising, rising), None, "set A: n_params does not fall with flops by the fitted N_opt"),
    ):
        with pytest.raises(UserError, match=words):
            gain(*fits, losses=losses)


def test_tables_and_their_fits_say_the_same(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    for name, factor in (("a", 1.0), ("b", 2.0)):
        table = runs(name, factor, 0.01 * rng.normal(size=12)).rename(columns={"flops": "C"})
        table.to_csv(f"{name}.csv", index=False)
        columns = ["--column", "flops=C", "--n-boot", "99"]
        assert main(["fit", "L_C", f"{name}.csv", "--out", f"{name}.json", *columns]) == 0
    capsys.readouterr()
    assert main(["gain", "a.csv", "b.csv", "--law", "L_C", "--loss", "2.5", *columns, "--json", "--out", "g.json"]) == 0
    of_tables = json.loads(capsys.readouterr().out)
    assert main(["gain", "a.json", "b.json", "--loss", "2.5", "--json"]) == 0
    of_fits = json.loads(capsys.readouterr().out)
    assert of_tables == json.loads(Path("g.json").read_text()) and of_tables["law"] == "L_C"
    (one,), (two,) = of_tables["at"], of_fits["at"]
    assert one == pytest.approx(two, rel=1e-9) and one["low"] < 2 < one["high"] and one["note"] is None
    assert main(["gain", "a.json", "b.json"]) == 0
    assert "gain: flops that A needs for this loss, divided by what B needs, by L_C" in capsys.readouterr().out
    for arguments, words in (
        (["a.csv", "b.csv"], "--law is missing: a.csv is a table"),
        (["a.json", "b.json", "--where", "C > 1"], "--where: is of tables, which --law is fitted to"),
        (["a.csv", "b.csv", "--law", "L_C"], "a.csv: column 'flops' is missing"),
        (["a.csv", "b.csv", "--law", "L_C", "--out", "b.csv"], "--out b.csv: is the file of B (b.csv)"),
        (["a.json", "missing.json"], "missing.json: no such file"),
        (["a.json", "b.json", "--loss", "x"], "--loss"),
    ):
        assert main(["gain", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
