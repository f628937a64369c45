"""predict from a file to a file: the interval of a new run holds new runs, and a row outside of the fit says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.laws import FORMULAS
from pipeline.laws.command.cli import main

ADDED = ["predicted", "low", "high", "run_low", "run_high", "beyond", "note"]
NOISE = np.exp(0.01 * np.array([1, -1, 2, -2, 1, -1, 2, -2]))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder with the fit of L(N) = (1e14 / N)^0.07 from 1e5 to 1e9 parameters, and a table of new sizes."""
    monkeypatch.chdir(tmp_path)
    n = np.geomspace(1e5, 1e9, 8)
    points = pd.DataFrame({"n_params": n, "loss": (1e14 / n) ** 0.07 * NOISE})
    FORMULAS["L_N"].fit(points, n_boot=199).to_json("fit.json")
    Path("new.csv").write_text("name,n_params\nsmall,1e4\nsame,1e7\nlarge,1e11\n", encoding="utf-8")
    return tmp_path


def test_a_table_gets_the_interval_of_the_law_and_of_a_new_run(folder: Path, capsys) -> None:
    assert main(["predict", "fit.json", "--input", "new.csv", "--output", "out.csv"]) == 0
    found = pd.read_csv("out.csv", keep_default_na=False, dtype=str)
    assert list(found) == ["name", "n_params", *ADDED]
    assert found["n_params"].tolist() == ["1e4", "1e7", "1e11"]  # cells stay as they were written
    assert found["note"].tolist() == [
        "extrapolated: n_params 1 decades below what was fitted",
        "",
        "extrapolated: n_params 2 decades above what was fitted",
    ]
    assert found["beyond"].tolist()[1] == ""
    assert [float(found["beyond"][k]) for k in (0, 2)] == pytest.approx([1, 2])
    numbers = found[["run_low", "low", "predicted", "high", "run_high"]].astype(float).to_numpy()
    assert (np.diff(numbers, axis=1) > 0).all()
    assert numbers[:, 2] == pytest.approx((1e14 / np.array([1e4, 1e7, 1e11])) ** 0.07, rel=0.05)
    out = capsys.readouterr().out
    assert "out.csv: 3 rows" in out and "run_low and run_high: of a new run, whose noise is 0.018 in ln loss" in out
    assert "rows that extrapolate: 2, the farthest line 4: extrapolated: n_params 2 decades above" in out


@pytest.mark.parametrize("ending", ["csv", "jsonl", "ndjson", "parquet"])
def test_what_is_written_can_be_read_again(folder: Path, ending: str) -> None:
    """The formats hold the same numbers, and the command takes each as its input."""
    pd.DataFrame({"size": [1e7, 1e11], "name": ["a", "b"]}).to_parquet("new.parquet")
    arguments = ["predict", "fit.json", "--column", "n_params=size"]
    assert main([*arguments, "--input", "new.parquet", "--output", f"one.{ending}"]) == 0
    assert main([*arguments, "--input", "new.parquet", "--output", "plain.jsonl"]) == 0
    plain = [json.loads(line) for line in Path("plain.jsonl").read_text().splitlines()]
    assert [row["beyond"] for row in plain] == [None, pytest.approx(2)] and plain[0]["note"] is None
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}.get(ending, lambda path: pd.read_json(path, lines=True))
    assert read(f"one.{ending}")["run_low"].tolist() == pytest.approx([row["run_low"] for row in plain], rel=1e-12)
    assert main([*arguments, "--input", f"one.{ending}", "--output", "two.csv"]) == 2  # the names are taken


def test_a_missing_column_comes_from_c_6nd_and_units_are_said(folder: Path) -> None:
    Path("new.csv").write_text("size;C\n0.01;6e17\n", encoding="utf-8")
    points = pd.DataFrame({"n_tokens": [1e8, 1e9, 1e10, 1e11], "loss": [4.0, 3.5, 3.05, 2.7]})
    FORMULAS["L_D"].fit(points, n_boot=0).to_json("data.json")
    columns = ["--column", "n_params=size", "--column", "flops=C", "--unit", "n_params=1e9"]
    assert main(["predict", "data.json", "--input", "new.csv", "--output", "out.csv", *columns]) == 0
    found = pd.read_csv("out.csv")
    assert found["predicted"][0] == pytest.approx(3.05, rel=0.01)  # 6e17 / (6 * 1e7) is 1e10 tokens
    assert found[["low", "run_low", "beyond"]].isna().all(axis=None) and found["size"][0] == 0.01


def test_x_is_the_column_that_was_fitted(folder: Path, capsys) -> None:
    width = np.array([64.0, 128, 256, 512, 1024])
    points = pd.DataFrame({"width": width, "loss": 2.5 + 20 / width**0.6})
    FORMULAS["power_plus_constant"].fit(points, n_boot=0, columns={"x": "width"}).to_json("x.json")
    Path("new.csv").write_text("width,w2\n4096,64\n", encoding="utf-8")
    for options, beyond in (([], 0.6021), (["--column", "x=w2"], np.nan)):
        assert main(["predict", "x.json", "--input", "new.csv", "--output", "out.csv", *options]) == 0
        assert pd.read_csv("out.csv")["beyond"][0] == pytest.approx(beyond, rel=1e-3, nan_ok=True)
    Path("new.csv").write_text("w2\n4096\n", encoding="utf-8")
    assert main(["predict", "x.json", "--input", "new.csv", "--output", "out.csv"]) == 2
    assert "new.csv: column 'width' (for x) is missing; the table has 'w2'" in capsys.readouterr().err


BAD = {
    "not a number": ("n_params\n1e6\nbig\n", [], "new.csv: column 'n_params', line 3: 'big' is not a number"),
    "missing": ("size\n1e6\n", [], "new.csv: column 'n_params' is missing: L_N needs it"),
    "unit": ("n_params\n0.4\n", [], "new.csv: column 'n_params', line 2: 0.4 parameters are fewer than 1"),
    "taken": ("n_params,low\n1e6,1\n", [], "new.csv: column 'low': is the name of a column that predict adds"),
    "cells": ("n_params,a\n1e6\n", [], "new.csv: line 2 has 1 cells, the header has 2"),
    "column": ("n_params\n1e6\n", ["--column", "n_params=Size"], "new.csv: column 'Size' (for n_params) is missing"),
    "value": ("n_params\n1e6\n", ["--n-params", "1"], "--n-params: does not go with --input"),
    "json": ("n_params\n1e6\n", ["--json"], "--json: does not go with --input"),
    "the input": ("n_params\n1e6\n", ["--output", "new.csv"], "--output new.csv: is the file of --input (new.csv)"),
    "the fit": ("n_params\n1e6\n", ["--output", "./fit.json"], "--output ./fit.json: is the file of the fit"),
    "ending": ("n_params\n1e6\n", ["--output", "out.xlsx"], "--output out.xlsx: a name that ends in .csv, .jsonl"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_one_line_and_nothing_is_written(folder: Path, capsys, case: str) -> None:
    text, options, words = BAD[case]
    Path("new.csv").write_text(text, encoding="utf-8")
    fitted = Path("fit.json").read_bytes()
    assert main(["predict", "fit.json", "--input", "new.csv", "--output", "out.csv", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words}") and error.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["fit.json", "new.csv"]
    assert Path("new.csv").read_text() == text and Path("fit.json").read_bytes() == fitted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "new.csv"], "--output is missing"),
        (["--output", "out.csv"], "--input is missing"),
        (["--n-params", "1e6", "--unit", "n_params=1e9"], "--unit: is of a table"),
    ],
)
def test_half_of_the_options(folder: Path, capsys, arguments: list[str], words: str) -> None:
    assert main(["predict", "fit.json", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_mixed_types_are_no_parquet(folder: Path, capsys) -> None:
    Path("new.jsonl").write_text('{"n_params": 1e6, "tag": 1}\n{"n_params": 1e7, "tag": "x"}\n', encoding="utf-8")
    assert main(["predict", "fit.json", "--input", "new.jsonl", "--output", "out.parquet"]) == 2
    error = capsys.readouterr().err
    assert "--output a column is not of one type" in error and error.count("\n") == 1
    assert not list(folder.glob("*out*"))


def law_of_size(n: np.ndarray, rng: np.random.Generator, rows: int) -> pd.DataFrame:
    """Return runs of (1e14 / N)^0.07 that are off by 2 % as a whole, and each of their rows by 1 % besides if many."""
    off = np.repeat(0.02 * rng.normal(size=len(n)), rows) + (rows > 1) * 0.01 * rng.normal(size=len(n) * rows)
    size = np.repeat(n, rows) * np.tile(np.geomspace(1, 1.5, rows), len(n))
    run = np.repeat([f"run {k} of it" for k in range(len(n))], rows)
    return pd.DataFrame({"run": run, "n_params": size, "loss": (1e14 / size) ** 0.07 * np.exp(off)})


@pytest.mark.parametrize("rows", [1, 3])
def test_coverage_of_the_interval_of_a_new_run(rows: int) -> None:
    """Of 300 runs that 30 fits have not seen, up to a decade beyond, 90 to 98 % lie inside of the 95 % interval."""
    rng, inside = np.random.default_rng(1), []
    for _ in range(30):
        fit = FORMULAS["L_N"].fit(law_of_size(np.geomspace(1e6, 1e9, 10), rng, rows), n_boot=199)
        new = law_of_size(np.geomspace(1e6, 1e10, 10), rng, rows).groupby("run").first()
        low, high = fit.new_run(n_params=new["n_params"].to_numpy())
        inside += ((low < new["loss"]) & (new["loss"] < high)).tolist()
    assert len(inside) == 300 and 0.90 <= np.mean(inside) <= 0.98
