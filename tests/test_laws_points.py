"""Tables that can't be fitted end in one line that names the column and the row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.laws import FORMULAS
from pipeline.laws.command.cli import main
from pipeline.laws.fitting.point_table import choose_rows, read_points

GOOD = "n_params,loss,run\n1e5,5.0,a\n1e6,4.2,b\n1e7,3.5,c\n1e8,2.9,d\n"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "points.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def fit_error(points: pd.DataFrame, law: str = "L_N", **options) -> str:
    with pytest.raises(UserError) as error:
        FORMULAS[law].fit(points, n_boot=0, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "\ufeff" + GOOD,
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", "|"),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace(",", " , "),
        GOOD + "\n\n",
        GOOD.replace("1e5", "100000").replace("5.0", '"5.0"'),
    ],
)
def test_forms_of_a_table(text: str, tmp_path) -> None:
    points = read_points(write(tmp_path, text))
    assert list(points.columns) == ["n_params", "loss", "run"] and list(points.index) == [2, 3, 4, 5]
    fit = FORMULAS["L_N"].fit(points, n_boot=0)
    assert fit.identified and fit.runs == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 must be a header"),
        ("n_params,loss\n", "no rows"),
        ("n_params,loss,loss\n1,2,3\n", "'loss' appears twice"),
        ("n_params,loss\n1e5,5.0\n1e6\n", "line 3 has 1 cells, the header has 2"),
        (b"n_params,loss\n1e5,5.0\n\xff\xfe,3\n", "not UTF-8"),
    ],
)
def test_unreadable_tables(text: str | bytes, message: str, tmp_path) -> None:
    with pytest.raises(UserError, match=message):
        read_points(write(tmp_path, text))


def test_missing_file(tmp_path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_points(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("4.2", "abc", "column 'loss', line 3: 'abc' is not a number"),
        ("4.2", "", "column 'loss', line 3: is empty"),
        ("4.2", "nan", "column 'loss', line 3: is NaN"),
        ("4.2", "-4.2", "column 'loss', line 3: -4.2 is not a positive finite number"),
        ("4.2", "0", "column 'loss', line 3: 0 is not a positive"),
        ("4.2", "inf", "column 'loss', line 3: inf is not a positive"),
        ("1e7", "inf", "column 'n_params', line 4: inf is not a positive"),
        ("1e7", "ten", "column 'n_params', line 4: 'ten' is not a number"),
        ("4.2", "4,2", "line 3 has 4 cells"),
    ],
)
def test_cells(old: str, new: str, message: str, tmp_path) -> None:
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(UserError, match=message):
        FORMULAS["L_N"].fit(read_points(path), n_boot=0)


def test_missing_column(tmp_path) -> None:
    points = read_points(write(tmp_path, GOOD.replace("n_params", "size")))
    assert fit_error(points) == ("column 'n_params' is missing: L_N needs it; the table has 'size', 'loss', 'run'")
    assert FORMULAS["L_N"].fit(points, columns={"n_params": "size"}, n_boot=0).identified
    assert "column 'Size' (for n_params) is missing" in fit_error(points, columns={"n_params": "Size"})


def test_run_with_the_same_size_twice(tmp_path) -> None:
    points = read_points(write(tmp_path, GOOD.replace("1e6,4.2,b", "1e5,4.2,a")))
    assert fit_error(points) == "column 'run', line 3: run 'a' is there twice with n_params = 100000"


def test_sizes_without_runs_may_repeat() -> None:
    n = np.repeat(np.geomspace(1e5, 1e8, 4), 2)
    loss = (8.8e13 / n) ** 0.076
    points = pd.DataFrame({"n_params": n, "loss": loss * np.tile([1.0, 1.001], 4)})
    fit = FORMULAS["L_N"].fit(points, n_boot=0)
    assert fit.n_runs == 8 and fit.runs[0] == "row 0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "hubr"}, "objective: 'hubr' is not one of huber, lad, mse_log, mse"),
        ({"delta": 0.0}, "delta: 0.0 must be a positive number"),
        ({"delta": float("nan")}, "delta: nan"),
        ({"bootstrap": "jackknife"}, "bootstrap: 'jackknife' is not wild or pairs"),
        ({"hold_out": 4}, "hold_out: largest=4 leaves nothing"),
        ({"hold_out": -1}, "hold_out: -1 must be 0 or more"),
        ({"weights": [1.0, 2.0]}, "weights: 2 values for 4 points"),
        ({"weights": [1.0, 2.0, -1.0, 1.0]}, "column 'weight', line 4: -1 is not a positive"),
        ({"weights": "noise"}, "column 'noise' is missing"),
    ],
)
def test_options(options: dict, message: str, tmp_path) -> None:
    assert message in fit_error(read_points(write(tmp_path, GOOD)), **options)


def test_extra_columns_and_weights_by_name(tmp_path) -> None:
    text = "run,seed,loss,n_params,w\n" + "".join(f"r{i},{i},{5 - i},{10 ** (5 + i)},{i + 1}\n" for i in range(4))
    points = read_points(write(tmp_path, text))
    named = FORMULAS["L_N"].fit(points, weights="w", n_boot=0)
    given = FORMULAS["L_N"].fit(points, weights=[1.0, 2, 3, 4], n_boot=0)
    assert named.vector == given.vector != FORMULAS["L_N"].fit(points, n_boot=0).vector


def test_what_6nd_gives_need_not_be_there() -> None:
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 5)))
    full = pd.DataFrame({"n_params": n, "n_tokens": d, "flops": 6 * n * d, "loss": 1.7 + 400 / n**0.34 + 410 / d**0.28})
    expected = FORMULAS["chinchilla"].fit(full, n_boot=0)
    assert "derived" not in expected.details
    for missing, how in (("n_tokens", "flops / (6 n_params)"), ("n_params", "flops / (6 n_tokens)")):
        fit = FORMULAS["chinchilla"].fit(full.drop(columns=missing), n_boot=0)
        assert fit.vector == pytest.approx(expected.vector, rel=1e-6)
        assert fit.details["derived"] == [f"{missing} = {how}"]
    assert FORMULAS["L_C"].fit(full.drop(columns="flops"), n_boot=0).details["derived"] == [
        "flops = 6 n_params n_tokens"
    ]
    assert "column 'n_tokens' is missing" in fit_error(full[["n_params", "loss"]], "chinchilla")


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("loss<4", [4, 5]),
        ("loss <= 3.5", [4, 5]),
        ("L > 0", [2, 4, 5]),
        ("run = a", [2]),
        ("run != a", [3, 4, 5]),
        ("n_params=1e7", [4]),
    ],
)
def test_rows_by_condition(condition: str, left: list[int], tmp_path) -> None:
    points = read_points(write(tmp_path, GOOD.replace("loss", "L").replace("4.2", "nan")))
    assert choose_rows(points, [condition], {"loss": "L"}).index.tolist() == left


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("loss", "COLUMN OPERATOR VALUE"),
        ("size < 3", "column 'size' is missing"),
        ("loss < high", "'high' is not a number"),
        ("loss < 0", "no row is left"),
    ],
)
def test_conditions_that_can_not_be_used(condition: str, message: str, tmp_path) -> None:
    with pytest.raises(UserError, match=message):
        choose_rows(read_points(write(tmp_path, GOOD)), [condition], {})


def test_the_rows_of_the_highest_values_are_left_out(tmp_path, capsys) -> None:
    path, out = write(tmp_path, GOOD), tmp_path / "fit.json"
    command = ["fit", "L_N", str(path), "--n-boot", "0", "--out", str(out)]
    assert main([*command, "--drop-highest", "loss=1"]) == 0
    assert "(1 rows left out by --drop-highest)" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record["details"] == {"drop_highest": {"loss": 1.0}, "rows_left_out": 1} and record["runs"] == list("bcd")
    assert main([*command, "--column", "loss=loss", "--where", "n_params > 2e5", "--drop-highest", "loss=1"]) == 0
    assert json.loads(out.read_text())["runs"] == list("cd")
    for option, words in (
        ("loss=9", "no row is left"),
        ("loss=0", "whole number from 1"),
        ("lost=1", "'lost' is missing"),
    ):
        capsys.readouterr()
        assert main([*command, "--drop-highest", option]) == 2
        assert words in capsys.readouterr().err


def test_a_unit_is_said_and_missed(tmp_path, capsys) -> None:
    rows = [
        (n, 6 * n * 1e9 * 20e9 * n, 1.7 + 400 / (n * 1e9) ** 0.34 + 400 / (2e10 * n) ** 0.3) for n in (0.07, 0.4, 7)
    ]
    text = "n_params,flops,loss\n" + "".join(f"{n},{c},{loss}\n" for n, c, loss in rows)
    path, out = write(tmp_path, text), tmp_path / "fit.json"
    command = ["fit", "L_N", str(path), "--n-boot", "0", "--out", str(out)]
    assert main(command) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {path}: n_params is at most 7, and flops would give each parameter")
    assert error.startswith(f"error: {path}: column 'n_params', line 2: 0.07") and "--unit n_params=1e9" in error
    assert main([*command, "--unit", "n_params=1e9"]) == 0
    assert json.loads(out.read_text())["ranges"]["n_params"] == pytest.approx([7e7, 7e9])
    assert "warning: " not in capsys.readouterr().err
    for option, words in (
        ("n_params", "NAME=NUMBER"),
        ("n_params=-1", "positive"),
        ("size=2", "'size' is missing"),
    ):
        assert main([*command, "--unit", option]) == 2
        assert words in capsys.readouterr().err


def test_json_lines(tmp_path, capsys) -> None:
    path = tmp_path / "points.jsonl"
    rows = [{"n_params": 1e5 * 10**k, "loss": 5 - k / 2, "run": f"r{k}", "note": {"a": [1, "x"]}} for k in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    points = read_points(path)
    assert list(points.index) == [1, 2, 3, 4] and points["n_params"].tolist() == [1e5, 1e6, 1e7, 1e8]
    assert FORMULAS["L_N"].fit(points, n_boot=0).runs == ["r0", "r1", "r2", "r3"]
    for line, words in (
        ('{"n_params": 1e9, "run": "x"}', "column 'loss', line 5: is empty"),
        ('{"n_params": 1e9, "loss": "high", "run": "x"}', "column 'loss', line 5: 'high' is not a number"),
        ("[1, 2]", "line 5 is not a JSON object"),
        ('{"n_params": 1', "line 5 is not JSON"),
    ):
        path.write_text("\n".join([*map(json.dumps, rows), line]))
        assert main(["fit", "L_N", str(path), "--n-boot", "0"]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: {path}: ") and words in err and err.count("\n") == 1
    path.write_text("\n")
    with pytest.raises(UserError, match="no rows"):
        read_points(path)
