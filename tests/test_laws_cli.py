"""The command line: the contract of its JSON, its exit codes, and one line for each bad input."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.laws import FORMULAS
from pipeline.laws.command.cli import main

CONTRACT = {
    *("law", "equation", "parameters", "objective", "objective_kind", "delta", "gradient_norm", "starts"),
    *("starts_at_optimum", "converged", "identified", "n_points", "n_runs", "r_squared", "held_out", "runs"),
}


def sizes(n: int = 8) -> pd.DataFrame:
    x = np.geomspace(1e5, 1e9, n)
    noise = np.exp(0.005 * np.random.default_rng(0).normal(size=n))
    return pd.DataFrame({"run": [f"r{k}" for k in range(n)], "n_params": x, "loss": (8.8e13 / x) ** 0.076 * noise})


@pytest.fixture
def csv(tmp_path: Path):
    def write(table: pd.DataFrame | None = None, text: str | None = None, **options) -> str:
        path = tmp_path / "points.csv"
        if text is not None:
            path.write_text(text, encoding="utf-8")
        else:
            (sizes() if table is None else table).to_csv(path, index=False, **options)
        return str(path)

    return write


def fit(*arguments: str) -> int:
    return main(["fit", *arguments, "--n-boot", "40"])


def test_json_is_the_contract(csv, tmp_path) -> None:
    out = tmp_path / "fit.json"
    assert fit("L_N", csv(), "--out", str(out), "--objective", "huber", "--delta", "0.01") == 0
    record = json.loads(out.read_text())
    assert set(record) >= CONTRACT
    assert record["law"] == "L_N" and record["equation"] == "1.1" and record["delta"] == 0.01
    alpha = record["parameters"]["alpha_N"]
    assert alpha["low"] < alpha["estimate"] < alpha["high"] and alpha["paper"] == 0.076 and alpha["unit"] == ""
    assert record["runs"] == [f"r{k}" for k in range(8)]


def test_table_and_json_on_the_terminal(csv, capsys) -> None:
    assert fit("L_N", csv()) == 0
    assert "alpha_N" in capsys.readouterr().out
    assert fit("L_N", csv(), "--json") == 0
    assert json.loads(capsys.readouterr().out)["law"] == "L_N"


def test_columns_are_renamed_and_others_carried_along(csv, tmp_path) -> None:
    table = sizes().rename(columns={"n_params": "Model Size", "loss": "L"}).assign(note="x")
    columns = ["--column", "n_params=Model Size", "--column", "loss=L"]
    assert fit("L_N", csv(table), *columns, "--out", str(tmp_path / "f.json")) == 0
    assert main(["predict", str(tmp_path / "f.json"), "--n-params", "1e10"]) == 0


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_delimiters_and_byte_order_mark(csv, capsys, separator: str, encoding: str) -> None:
    main(["fit", "L_N", csv(sep=separator, encoding=encoding), "--n-boot", "0", "--json"])
    found = json.loads(capsys.readouterr().out)
    expected = FORMULAS["L_N"].fit(sizes(), n_boot=0)
    assert found["parameters"]["alpha_N"]["estimate"] == pytest.approx(expected.value("alpha_N"), rel=1e-9)


def cell(column: str, row: int, value) -> pd.DataFrame:
    table = sizes().astype({column: object})
    table.loc[row, column] = value
    return table


BAD = {
    "missing column": (sizes().drop(columns="n_params"), [], ["'n_params'", "missing"]),
    "missing loss": (sizes().drop(columns="loss"), [], ["'loss'", "missing"]),
    "not a number": (cell("loss", 2, "high"), [], ["'loss'", "line 4", "'high'"]),
    "empty cell": (cell("n_params", 0, ""), [], ["'n_params'", "line 2", "empty"]),
    "negative loss": (cell("loss", 3, -1.0), [], ["'loss'", "line 5", "-1"]),
    "zero loss": (cell("loss", 3, 0.0), [], ["'loss'", "line 5", "0"]),
    "NaN loss": (cell("loss", 1, "nan"), [], ["'loss'", "line 3", "NaN"]),
    "infinite loss": (cell("loss", 1, "inf"), [], ["'loss'", "line 3", "inf"]),
    "duplicate run": (pd.concat([sizes(), sizes().iloc[:1]]), [], ["'run'", "line 10", "'r0'", "twice"]),
    "unknown column name": (sizes(), ["--column", "size=n_params"], ["size=n_params", "n_params"]),
    "column without =": (sizes(), ["--column", "n_params"], ["NAME=COLUMN"]),
    "column not in the table": (sizes(), ["--column", "n_params=Size"], ["'Size'", "missing"]),
    "column named twice": (sizes(), ["--column", "loss=loss", "--column", "loss=run"], ["already 'loss'"]),
    "weights missing": (sizes(), ["--weights", "w"], ["'w'", "missing"]),
    "weights not positive": (sizes().assign(w=[1.0] * 7 + [0.0]), ["--weights", "w"], ["'w'", "line 9", "0"]),
    "weights not numbers": (sizes().assign(w=["1"] * 7 + ["x"]), ["--weights", "w"], ["'w'", "line 9", "'x'"]),
    "hold out too many": (sizes(), ["--hold-out", "largest=8"], ["largest=8", "8 values"]),
    "hold out in other words": (sizes(), ["--hold-out", "smallest=2"], ["largest=K"]),
    "hold out none": (sizes(), ["--hold-out", "largest=0"], ["largest=K"]),
    "unknown objective": (sizes(), ["--objective", "l1"], ["'l1'", "huber, lad, mse_log, mse"]),
    "delta": (sizes(), ["--objective", "huber", "--delta", "0"], ["delta", "positive"]),
    "delta of another objective": (sizes(), ["--delta", "0.01"], ["--delta 0.01", "mse_log", "only huber"]),
    "delta not a number": (sizes(), ["--delta", "x"], ["--delta", "'x'"]),
    "bootstrap": (sizes(), ["--bootstrap", "block"], ["'block'", "wild or pairs"]),
    "n-boot": (sizes(), ["--n-boot", "-1"], ["--n-boot", "must be 0", "at least 39"]),
    "plot format": (sizes(), ["--plot", "x.bmp"], [".png, .svg"]),
    "unknown option": (sizes(), ["--colour", "red"], ["--colour"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(csv, tmp_path, capsys, case: str) -> None:
    table, options, words = BAD[case]
    path, out = csv(table), tmp_path / "fit.json"
    assert main(["fit", "L_N", path, "--out", str(out), *options]) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: ") and stderr.count("\n") == 1
    for word in words:
        assert word in stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["points.csv"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["line 1", "header"]),
        ("run,n_params,loss\n", ["no rows"]),
        ("run,n_params,loss\na,1e5,3\nb,1e6\n", ["line 3", "2 cells"]),
        ("n_params,n_params,loss\n1,2,3\n", ["'n_params'", "twice"]),
    ],
)
def test_a_file_that_is_no_table(csv, capsys, text: str, words: list[str]) -> None:
    assert main(["fit", "L_N", csv(text=text)]) == 2
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1 and all(word in stderr for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "L_X", "points.csv"], ["'L_X'", "L_N, L_D", "chinchilla"]),
        (["fit", "L_N", "missing.csv"], ["missing.csv", "no such file"]),
        (["fit", "L_N"], ["points.csv"]),
        (["refit"], ["refit"]),
        ([], ["COMMAND"]),
        (["predict", "missing.json", "--n-params", "1"], ["missing.json", "no such file"]),
        (["allocate", "missing.json", "--flops", "1"], ["missing.json"]),
    ],
)
def test_bad_arguments(capsys, arguments: list[str], words: list[str]) -> None:
    assert main(arguments) == 2
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1 and all(word in stderr for word in words)


@pytest.mark.parametrize("option", ["--out", "--plot"])
def test_a_file_that_can_not_be_written(csv, tmp_path, capsys, option: str) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "x.png"
    assert main(["fit", "L_N", csv(), "--n-boot", "0", option, str(path)]) == 2
    stderr = capsys.readouterr().err
    assert option in stderr and str(path) in stderr and stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (sizes().assign(n_params=1e6), ["'n_params'", "one value only"]),
        (sizes(1), ["'n_params'"]),
        (sizes().assign(loss=3.0), ["'loss'", "one value only"]),
    ],
)
def test_no_optimum_is_exit_3_with_nulls(csv, tmp_path, capsys, table: pd.DataFrame, words: list[str]) -> None:
    out = tmp_path / "fit.json"
    assert fit("L_N", csv(table), "--out", str(out)) == 3
    record = json.loads(out.read_text())
    assert record["identified"] is False and set(record) >= CONTRACT
    stderr = capsys.readouterr().err
    assert all(word in record["reason"] and word in stderr for word in words)
    for parameter in record["parameters"].values():
        assert parameter["estimate"] is parameter["low"] is parameter["high"] is None
    assert main(["predict", str(out), "--n-params", "1e6"]) == 3
    assert "not identified" in capsys.readouterr().err


def test_predict_takes_arrays_and_gives_intervals(csv, tmp_path, capsys) -> None:
    out = str(tmp_path / "fit.json")
    fit("L_N", csv(), "--out", out)
    capsys.readouterr()
    assert main(["predict", out, "--n-params", "1e6", "1e10", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["unit"] == "nats per token" and len(record["predictions"]) == 2
    for one in record["predictions"]:
        assert one["low"] < one["loss"] < one["high"]
        assert one["loss"] == pytest.approx((8.8e13 / one["n_params"]) ** 0.076, rel=0.02)
    for arguments, word in ((["--flops", "1"], "--n-params is missing"), (["--n-params", "-1"], "--n-params: -1")):
        assert main(["predict", out, *arguments]) == 2
        assert word in capsys.readouterr().err
    assert main(["predict", out, "--n-params", "1", "--flops", "1"]) == 2
    assert "does not depend" in capsys.readouterr().err


@pytest.mark.parametrize("x", ["n_params", "n_tokens", "flops", "steps"])
def test_power_plus_constant_of_any_column(csv, tmp_path, capsys, x: str) -> None:
    values = np.geomspace(1e3, 1e9, 12)
    noise = np.exp(0.001 * np.random.default_rng(0).normal(size=12))
    table = pd.DataFrame({x: values, "loss": (1.7 + 20 / values**0.2) * noise})
    out = str(tmp_path / "fit.json")
    assert fit("power_plus_constant", csv(table), "--out", out) == 0
    other = {"n_params": "n_tokens"}.get(x, "n_params")
    both = csv(table.assign(**{other: 1.0}))
    capsys.readouterr()
    assert fit("power_plus_constant", both) == 2
    assert "x must be one of" in capsys.readouterr().err
    assert fit("power_plus_constant", both, "--x", x) == 0
    assert main(["predict", out, f"--{x.replace('_', '-')}", "1e6", "--json"]) == 0
    capsys.readouterr()
    assert main(["predict", out, "--loss", "1"]) == 2


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot_of_a_fit_and_of_none(csv, tmp_path, suffix: str) -> None:
    for name, table, code in (("fit", sizes(), 0), ("none", sizes().assign(n_params=1e6), 3)):
        path = tmp_path / f"{name}{suffix}"
        assert fit("L_N", csv(table), "--plot", str(path)) == code
        assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm")


def test_allocate_and_compare(csv, tmp_path, capsys) -> None:
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 5)))
    loss = (1.7 + 400 / n**0.34 + 410 / d**0.28) * np.exp(0.002 * np.random.default_rng(0).normal(size=25))
    path, out = csv(pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss})), str(tmp_path / "fit.json")
    assert fit("chinchilla", path, "--out", out) == 0
    capsys.readouterr()
    assert main(["allocate", out, "--flops", "1e21", "1e22", "--json"]) == 0
    (split,) = json.loads(capsys.readouterr().out)
    assert split["budgets"][1]["n_params"]["low"] < split["budgets"][1]["n_params"]["estimate"]
    assert main(["allocate", out, "--flops", "0"]) == 2
    laws = ["--laws", "chinchilla,L_N_D"]
    capsys.readouterr()
    assert main(["compare", path, *laws, "--hold-out", "largest=1", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["delta_aic"] == 0 < second["delta_aic"] and first["held_out_rms_ln"] < second["held_out_rms_ln"]
    assert main(["compare", path, "--laws", "chinchilla,L_X"]) == 2
    assert main(["compare", path, "--laws", "L_N_S"]) == 2  # no steps; flops come from 6 N D


def test_chosen_rows_are_recorded(csv, tmp_path, capsys) -> None:
    out = tmp_path / "fit.json"
    table = sizes().rename(columns={"loss": "L"})
    assert fit("L_N", csv(table), "--column", "loss=L", "--where", "loss<4.5", "--out", str(out)) == 0
    left = int((table.L >= 4.5).sum())
    record = json.loads(out.read_text())
    assert record["details"] == {"where": ["loss<4.5"], "rows_left_out": left} and record["n_points"] == 8 - left > 2
    assert f"({left} rows left out by --where)" in capsys.readouterr().out
    assert (
        main(["compare", csv(table), "--laws", "L_N,power_plus_constant", "--column", "loss=L", "--where", "L<9"]) == 0
    )


NUMBER = r"(?<![\w.])(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
PAGE = (Path(__file__).parents[1] / "docs" / "laws.md").read_text(encoding="utf-8")


def test_commands_of_the_documentation(tmp_path, monkeypatch) -> None:
    """Every command line of docs/laws.md runs, on points made here."""
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6)))
    loss = (1.7 + 400 / n**0.34 + 410 / d**0.28) * np.exp(0.002 * np.random.default_rng(0).normal(size=36))
    table = pd.DataFrame({"Model Size": n, "flops": 6 * n * d, "n_params": n, "n_tokens": d, "loss": loss})
    monkeypatch.chdir(tmp_path)
    table.to_csv("points.csv", index=False)
    table[["n_params", "n_tokens"]].to_csv("planned.csv", index=False)
    for name, part in (("a", table[:18]), ("b", table[18:])):
        part.to_csv(f"{name}.csv", index=False)
    commands = [line for line in PAGE.splitlines() if line.startswith("scaling-laws ")]
    assert len(commands) >= 8
    for line in commands:
        assert main(shlex.split(line)[1:]) == 0, line


def test_the_example_of_the_documentation(tmp_path, monkeypatch, capsys) -> None:
    """Each command of the example, on the tables that stand in the page, prints what the page shows, to 1 %."""
    monkeypatch.chdir(tmp_path)
    for name, text in re.findall(r"`(\w+\.csv)`[^`]*:\n\n```csv\n(.*?)```", PAGE, re.S):
        Path(name).write_text(text, encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.csv", "runs.csv"]
    shown = re.findall(r"```console\n\$ (.*?)\n(.*?)```", PAGE, re.S)
    assert len(shown) == 5
    for line, expected in shown:
        assert main(shlex.split(line)[1:]) == 0, line
        printed = capsys.readouterr().out
        found, wanted = (re.split(NUMBER, " ".join(text.split())) for text in (printed, expected))
        assert found[::2] == wanted[::2], line  # the words between the numbers
        assert list(map(float, found[1::2])) == pytest.approx(list(map(float, wanted[1::2])), rel=0.01, abs=1e-9), line
