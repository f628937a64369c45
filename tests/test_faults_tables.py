"""Tables, fits and options that once gave a wrong number, a traceback or a misleading line, each with what is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.laws import FORMULAS, Fit, load_fit
from pipeline.laws.command.allocate import allocate
from pipeline.laws.command.cli import main
from pipeline.laws.fitting.law import take_draws
from pipeline.laws.fitting.point_table import read_points
from pipeline.laws.formulas.frontier import frontier

N8 = np.geomspace(1e6, 1e9, 8)
ROWS = [f"{1e5 * 10**k:.0f},{6 - 0.5 * k},note{k}" for k in range(5)]


def table(*rows: str, header: str = "n_params,loss,note") -> str:
    return "\n".join([header, *rows]) + "\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "points.csv"
    path.write_bytes(text.encode())
    return path


def planted() -> pd.DataFrame:
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 5)))
    loss = (1.7 + 400 / n**0.34 + 410 / d**0.28) * np.exp(0.002 * np.random.default_rng(0).normal(size=25))
    return pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss})


def error_of(capsys, *arguments: object, code: int = 2) -> str:
    """Return the one line that a command ends in."""
    assert main([str(one) for one in arguments]) == code
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err + out
    return err


# Cells --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (table(*ROWS[:3], '1e9,3.5,"open', *ROWS[3:]), "line 5: a quote is opened in this row and never closed"),
        (table(*ROWS[:2], '1e9,3.5,"open', *ROWS[2:4], '1e8,3.1,shut"'), "line 4: a quote .* takes in other rows"),
        (table(*ROWS[:2], '1e9,3.5,"open', '1e8,3.1,shut"'), "line 4: a quote .* such as '1e8,3.1,shut'"),
        (table(*ROWS[:2], '"1e9,3.5,a', *ROWS[2:], '"1e8",3.1,b'), "line 8: text follows a closing quote; .* line 4"),
        (table(*ROWS, header='n_params,loss,"note'), "line 1: a quote is opened in this row and never closed"),
        (table(*ROWS, '1,2,x"', header='n_params,loss,"note'), "line 1: a quote .* takes in other rows"),
        (table('1e5,5.0,"a"b', *ROWS[1:]), "line 2: text follows a closing quote"),
        (table(ROWS[0], ROWS[1] + ",1"), "line 3 has 4 cells, the header has 3"),
        (table(ROWS[0], "1e6,4"), "line 3 has 2 cells, the header has 3"),
        (table('1e5,6,"two\nlines"', "1e6,4"), "line 4 has 2 cells"),
    ],
)
def test_no_row_is_lost_to_a_quote_or_a_comma(text: str, message: str, tmp_path) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_points(write(tmp_path, text))
    assert str(error.value).startswith(str(tmp_path / "points.csv"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("character", ["\x85", "\x0c", "\x0b", "\x1c", "\u2028", "\u2029"])
def test_what_ends_a_line(character: str, end: str, tmp_path) -> None:
    text = table(f"1e5,6,warm{character}restart", '1e6,5,"two\nlines, a comma"', *ROWS[2:]).replace("\n", end)
    points = read_points(write(tmp_path, text))
    assert points.index.tolist() == [2, 3, 5, 6, 7] and points["note"].iloc[0] == f"warm{character}restart"


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ('n_params,loss,"note|host|gpu|node|rack"', ROWS),
        ('n_params,loss,"note;a;b;c"', ROWS),
        ('"note\tof\truns";n_params;loss', ["a, b, c;1e5;5.0", "d, e, f;1e6;4.0"]),
        ('"note\nof runs";n_params;loss', ["a, b;1e5;5.0", "c, d;1e6;4.0"]),
        ("n_params;loss", ["100000;5,0", "1000000;4,0"]),
    ],
)
def test_the_delimiter_gives_every_row_as_many_cells(header: str, rows: list[str], tmp_path) -> None:
    points = read_points(write(tmp_path, table(*rows, header=header)))
    assert {"n_params", "loss"} < {*points.columns, ""} and len(points) == len(rows)


def test_a_long_cell_is_read(tmp_path) -> None:
    assert len(read_points(write(tmp_path, table("1e5,6," + "x" * 200_000, *ROWS[1:])))["note"].iloc[0]) == 200_000


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.parquet", b"n_params,loss\n1,2\n", "not a parquet file that can be read"),
        ("a.parquet", b"", "not a parquet file that can be read"),
        ("a.csv", b"PAR1xxxx", "is a parquet file"),
        ("a.csv.gz", b"\x1f\x8b\x08", r"compressed \(gzip\)"),
        ("a.xlsx", b"PK\x03\x04", "zip archive, as .xlsx is"),
        ("a.csv", "n_params,loss\n1,2\n".encode("utf-16"), "is UTF-16"),
    ],
)
def test_a_file_of_another_kind_is_named(name: str, data: bytes, message: str, tmp_path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_points(tmp_path / name)


def test_a_folder_is_no_table_and_no_fit(tmp_path, capsys) -> None:
    for name in ("points.csv", "points.parquet"):
        (tmp_path / name).mkdir()
        assert "is a folder" in error_of(capsys, "fit", "L_N", tmp_path / name)
    assert "is a folder" in error_of(capsys, "predict", tmp_path / "points.csv", "--n-params", "1")


def test_the_index_of_a_parquet_file(tmp_path) -> None:
    path = tmp_path / "points.parquet"
    flat = planted()
    flat.set_index(["n_params", "n_tokens"]).to_parquet(path)
    assert read_points(path)[["n_params", "n_tokens", "loss"]].equals(flat.rename_axis("row"))
    flat.set_index("n_params").to_parquet(path)
    assert read_points(path)["n_params"].tolist() == flat["n_params"].tolist()
    flat.assign(a=1.0).set_index("loss", drop=False).to_parquet(path)
    with pytest.raises(UserError, match="'loss' is the name of a column and of the index"):
        read_points(path)
    pd.concat([flat.iloc[:10], flat.iloc[10:].set_index(pd.RangeIndex(15))]).to_parquet(path)
    assert FORMULAS["chinchilla"].fit(read_points(path), n_boot=0).n_runs == 25
    flat.groupby("n_params").agg({"loss": ["mean", "min"]}).to_parquet(path)
    with pytest.raises(UserError, match="2 levels"):
        read_points(path)


def test_rows_of_one_index_are_runs_of_their_own() -> None:
    parts = pd.concat([planted().iloc[:12].reset_index(drop=True), planted().iloc[12:].reset_index(drop=True)])
    assert FORMULAS["chinchilla"].fit(parts, n_boot=0).n_runs == 25


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (pd.date_range("2024-01-01", periods=8), "holds dates, from row 0"),
        (pd.date_range("2024-01-01", periods=8, tz="UTC"), "holds dates"),
        (pd.period_range("2024-01", periods=8, freq="M"), "holds dates"),
        (pd.timedelta_range("1s", periods=8), "holds times"),
        (np.array([True, False] * 4), "holds truth values"),
        (pd.array([True, False] * 4, dtype="boolean"), "holds truth values"),
        ([date(2024, 1, 1), *N8[1:]], "row 0: '2024-01-01' is not a number"),
        ([*N8[:7], True], "row 7: 'True' is not a number"),
        ([*N8[:7], pd.NaT], "row 7: is empty"),
        ([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0], "'n_params', row 0: 0.01 parameters are fewer than 1"),
    ],
)
def test_what_is_no_count_of_parameters(cells, message: str) -> None:
    with pytest.raises(UserError, match=message):
        FORMULAS["L_N"].fit(pd.DataFrame({"n_params": cells, "loss": (8.8e13 / N8) ** 0.076}), n_boot=0)


def test_counts_below_1_are_refused_in_every_column() -> None:
    points = planted()
    for column, law in (("n_params", "chinchilla"), ("n_tokens", "chinchilla"), ("flops", "L_C")):
        small = points.assign(flops=6 * points["n_params"] * points["n_tokens"])
        small[column] /= 1e30
        with pytest.raises(UserError, match=f"'{column}', row 0: .* fewer than 1; {column} is in"):
            FORMULAS[law].fit(small, n_boot=0)
    with pytest.raises(UserError, match="'n_params', row 0"):  # x is another column's name
        FORMULAS["power_plus_constant"].fit(points.assign(n_params=points.n_params / 1e9), columns={"x": "n_params"})


def test_rows_given_twice_are_said() -> None:
    points = pd.concat([planted(), planted().iloc[:5]], ignore_index=True)
    with pytest.raises(UserError, match=r"row 25 is the same as row 0 in every column \(5 such in all\)"):
        FORMULAS["chinchilla"].fit(points, n_boot=0)
    assert FORMULAS["chinchilla"].fit(points.assign(run=range(30)), n_boot=0).n_runs == 30


@pytest.mark.parametrize("name", ["", "  ", None, np.nan, pd.NA, "nan", "None"])
def test_a_run_without_a_name_is_refused(name) -> None:
    points = pd.DataFrame({"run": pd.Series(list("abcdefgh"), dtype=object), "n_params": N8, "loss": N8**-0.1})
    points.loc[3, "run"] = name
    with pytest.raises(UserError, match="column 'run', row 3: is empty"):
        FORMULAS["L_N"].fit(points, n_boot=0)


# Options ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    planted().to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path / "mine.csv"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", "-1"], ["--seed", "-1", "0 or more"]),
        (["--n-boot", "1"], ["--n-boot", "1", "0", "39"]),
        (["--n-boot", "38"], ["--n-boot", "39"]),
        (["--out", ""], ["--out ''", "name of a file"]),
        (["--plot", " "], ["--plot ' '", "name of a file"]),
        (["--x", "n_params"], ["--x n_params", "chinchilla has no x", "power_plus_constant"]),
        (["--delta", "-1e-3"], ["delta", "-0.001"]),
    ],
)
def test_options_that_can_not_be_are_one_line(csv, capsys, options: list[str], words: list[str]) -> None:
    said = error_of(capsys, "fit", "chinchilla", csv, *options)
    assert all(word in said for word in words), said


def test_x_is_not_what_is_predicted(csv, capsys) -> None:
    said = error_of(capsys, "fit", "power_plus_constant", csv, "--x", "loss")
    assert "--x loss: power_plus_constant predicts 'loss'" in said
    assert "says that x is another" in error_of(capsys, "fit", "power", csv, "--x", "loss", "--column", "x=n_params")
    with pytest.raises(UserError, match="column 'loss' is to be both n_params and loss"):
        FORMULAS["L_N"].fit(planted(), columns={"n_params": "loss"})


def test_laws_to_compare(csv, capsys) -> None:
    for laws in (",", " ", ""):
        assert "--laws" in error_of(capsys, "compare", csv, "--laws", laws)
    for laws in ("isoflop,chinchilla", "chinchilla,isoflop"):
        said = error_of(capsys, "compare", csv, "--laws", laws)
        assert "isoflop: it predicts n_params, the best at each compute; only laws that predict" in said
    assert "has no x" in error_of(capsys, "compare", csv, "--laws", "chinchilla", "--x", "n_params")


@pytest.mark.parametrize("how", ["same", "link", "hard link", "dots"])
def test_an_output_is_no_input(csv, tmp_path, capsys, how: str) -> None:
    before, out = csv.read_bytes(), tmp_path / "other.csv"
    if how == "link":
        out.symlink_to(csv)
    elif how == "hard link":
        os.link(csv, out)
    else:
        out = csv if how == "same" else tmp_path / ".." / tmp_path.name / csv.name
    assert "is the file of the points" in error_of(capsys, "fit", "chinchilla", csv, "--out", out)
    assert "is the file of the points" in error_of(capsys, "compare", csv, "--laws", "chinchilla", "--out", out)
    assert csv.read_bytes() == before


def test_an_output_is_no_other_output_and_no_picture_of_the_points(csv, tmp_path, capsys) -> None:
    one, other = tmp_path / "a.png", tmp_path / "b" / ".." / "a.png"
    said = error_of(capsys, "fit", "chinchilla", csv, "--out", one, "--plot", other)
    assert "is the file of --out" in said and not one.exists()
    picture = csv.rename(tmp_path / "points.svg")
    assert "is the file of the points" in error_of(capsys, "fit", "chinchilla", picture, "--plot", picture)


def piped(*arguments: object, code: str = "") -> subprocess.CompletedProcess:
    """Run the command with a standard output whose reader has gone."""
    read, end = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "pipeline.laws", *map(str, arguments)]
    done = subprocess.run(command, stdout=end, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    os.close(end)
    return done


def test_a_closed_pipe_ends_quietly_with_the_usual_status(csv, tmp_path) -> None:
    fine = piped("fit", "chinchilla", csv, "--n-boot", "0", "--json", "--out", tmp_path / "fit.json")
    assert (fine.returncode, fine.stderr) == (0, "") and load_fit(tmp_path / "fit.json").identified
    pd.DataFrame({"n_params": 1e6, "loss": N8}).to_csv(csv, index=False)
    none = piped("fit", "L_N", csv, "--n-boot", "0")
    assert none.returncode == 3 and none.stderr.startswith("error: L_N is not identified") and "\n" in none.stderr
    assert none.stderr.count("\n") == 1


# What was fitted, and what follows from it ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> Fit:
    return FORMULAS["chinchilla"].fit(planted(), n_boot=40)


@pytest.fixture
def saved(fitted: Fit, tmp_path: Path) -> Path:
    fitted.to_json(tmp_path / "fit.json")
    return tmp_path / "fit.json"


def change(path: Path, edit) -> None:
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r["parameters"]["alpha"].update(estimate=0.5), "parameter alpha: the estimate is 0.5, the vector"),
        (lambda r: r["parameters"]["A"].update(estimate=None), "parameter A: the estimate is null"),
        (lambda r: r["vector"].pop(), "vector: not the 5 numbers"),
        (lambda r: r["vector"].__setitem__(2, None), "vector: the number of B is None"),
        (lambda r: r.update(vector=None), "vector: not the 5 numbers"),
        (lambda r: r["draws"][3].pop(), "a draw has 4 numbers for 5 parameters"),
        (lambda r: r.update(law="L_N"), "parameters: E, A, B, alpha, beta are not N_c, alpha_N"),
    ],
)
def test_an_edited_fit_is_refused(saved, capsys, edit, message: str) -> None:
    change(saved, edit)
    assert message in error_of(capsys, "allocate", saved, "--flops", "1e21")


def test_a_fit_is_read_as_it_was_written(saved, fitted) -> None:
    assert load_fit(saved).vector == fitted.vector and load_fit(saved).ranges == fitted.ranges
    assert fitted.ranges == {"n_params": pytest.approx([1e7, 1e10]), "n_tokens": pytest.approx([1e9, 1e12])}


def test_prediction_says_how_far_outside_it_lies(saved, capsys) -> None:
    inputs = ["--n-params", "1e8", "1e12", "--n-tokens", "1e10", "1e7"]
    assert main(["predict", str(saved), *inputs]) == 0
    out = capsys.readouterr().out
    assert "line 2: extrapolated: n_params 2 decades above, n_tokens 2 decades below what was fitted" in out
    assert "line 1" not in out
    assert main(["predict", str(saved), *inputs, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    inside, outside = record["predictions"]
    assert record["fitted_range"]["n_params"] == pytest.approx([1e7, 1e10]) and inside["outside_range"] == {}
    assert outside["outside_range"]["n_params"] == {"side": "above", "decades": pytest.approx(2)}
    assert outside["outside_range"]["n_tokens"] == {"side": "below", "decades": pytest.approx(2)}
    assert main(["predict", str(saved), "--n-params", "1e8", "--n-tokens", "inf", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["predictions"]
    assert one["outside_range"] == {"n_tokens": {"side": "above", "decades": None}}


def test_infinite_data_that_were_fitted_are_no_extrapolation(tmp_path) -> None:
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(4e5, 7e8, 6), [*np.geomspace(2e7, 2e10, 6), np.inf]))
    loss = ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103 * np.exp(0.001 * np.cos(np.arange(len(n)) ** 2))
    fit = FORMULAS["L_N_D"].fit(pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss}), n_boot=0)
    fit.to_json(tmp_path / "fit.json")
    assert load_fit(tmp_path / "fit.json").ranges["n_tokens"] == [pytest.approx(2e7), np.inf]
    assert load_fit(tmp_path / "fit.json").outside(n_params=1e6, n_tokens=np.inf) == {"n_params": 0, "n_tokens": 0}


def test_a_fit_of_before_says_that_its_range_is_unknown(saved, capsys) -> None:
    change(saved, lambda record: record.pop("ranges"))
    for arguments in (
        ["predict", saved, "--n-params", "1e30", "--n-tokens", "1"],
        ["allocate", saved, "--flops", "1e9"],
    ):
        assert main([*map(str, arguments)]) == 0
        out = capsys.readouterr().out
        assert "range unknown" in out and "extrapolated" not in out
        assert main([*map(str, arguments), "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        if isinstance(record, dict):
            assert record["fitted_range"] is None
        else:
            assert record[0]["range_unknown"] == ["chinchilla"]


def test_a_split_says_how_far_outside_it_lies(saved, capsys) -> None:
    assert main(["allocate", str(saved), "--flops", "1e20", "1e30", "--json"]) == 0
    (split,) = json.loads(capsys.readouterr().out)
    inside, outside = split["budgets"]
    assert inside["outside_range"] == {} == dict.fromkeys(split["range_unknown"])
    away = outside["outside_range"]["n_params"]
    assert away["side"] == "above" and away["decades"] == pytest.approx(
        np.log10(outside["n_params"]["estimate"] / 1e10), abs=1e-6
    )
    assert main(["allocate", str(saved), "--flops", "1e308"]) == 0
    assert "extrapolated: n_params 1" in capsys.readouterr().out


def test_power_laws_are_extrapolated_in_compute() -> None:
    c = np.geomspace(1e15, 1e20, 8)
    fit = FORMULAS["N_opt"].fit(pd.DataFrame({"flops": c, "n_params": 1e-4 * c**0.7}), n_boot=0)
    (split,) = allocate([fit], [1e17, 1e23, 1.0])
    assert split.outside["flops"].round(6).tolist() == [0, 3, -15]
    assert split.problems == [[], [], ["n_params would be below 1"]]
    assert all(np.isnan(end[2]) for ends in split.values.values() for end in ends)
    assert "1e-04" not in split.table() and "-15" not in split.table()


@pytest.mark.parametrize(
    ("flops", "words"),
    [("-1e20", "-1e+20 must be a positive"), ("1e-5", "1e-05 must be at least 1"), ("-inf", "-inf must be a positive")],
)
def test_budgets_that_can_not_be(saved, capsys, flops: str, words: str) -> None:
    assert words in error_of(capsys, "allocate", saved, "--flops", flops)


@pytest.mark.parametrize(
    ("value", "words"),
    [("1e400", "inf is not a finite"), ("0.5", "0.5 must be at least 1"), ("-1e5", "-100000"), ("nan", "nan is not")],
)
def test_inputs_that_can_not_be(saved, capsys, value: str, words: str) -> None:
    assert words in error_of(capsys, "predict", saved, "--n-params", value, "--n-tokens", "1e9")


def test_a_prediction_that_can_not_be_is_no_number(tmp_path, capsys) -> None:
    noise = np.exp(0.001 * np.random.default_rng(0).normal(size=8))
    fit = FORMULAS["log_N"].fit(pd.DataFrame({"n_params": N8, "loss": (8 - 0.3 * np.log(N8)) * noise}), n_boot=40)
    fit.to_json(tmp_path / "fit.json")
    arguments = ["predict", str(tmp_path / "fit.json"), "--n-params", "1e8", "1e20"]
    assert main([*arguments, "--json"]) == 0
    fine, impossible = json.loads(capsys.readouterr().out)["predictions"]
    assert fine["problem"] is None and impossible["problem"] == "loss would not be positive"
    assert impossible["loss"] is impossible["low"] is impossible["high"] is None
    assert main(arguments) == 0
    assert "line 2: loss would not be positive" in capsys.readouterr().out


# Not identified -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["L_N", "log_N", "power", "power_plus_constant", "L_N_S", "chinchilla", "B_crit"])
@pytest.mark.parametrize("rounding", [0.0, 1e-16, -1e-16, 1e-12])
def test_equal_responses_tell_no_trend(law: str, rounding: float) -> None:
    grid = [g.ravel() for g in np.meshgrid(N8, N8 * 10)]
    response = 3.1 * (1 + rounding * np.arange(64) * np.tile([1, -1, 1, 1], 16))
    names = FORMULAS[law].inputs
    points = pd.DataFrame(dict(zip(names, grid, strict=False)) | {FORMULAS[law].response: response})
    if len(names) == 1:
        points = points.iloc[:8]
    fit = FORMULAS[law].fit(points, n_boot=0)
    assert not fit.identified and "has one value only" in fit.reason


@pytest.mark.parametrize("objective", ["mse_log", "mse", "huber", "lad"])
def test_an_exponent_of_zero_is_not_told_by_rounding(objective: str) -> None:
    n = np.repeat(np.geomspace(1e6, 1e9, 4), 2)
    points = pd.DataFrame({"n_params": n, "loss": np.tile([3.0, 3.1], 4)})
    for law in ("L_N", "power"):
        columns = {} if law == "L_N" else {"x": "n_params", "y": "loss"}
        fit = FORMULAS[law].fit(points, objective, columns=columns, n_boot=0)
        assert not fit.identified and fit.reason.startswith("flat direction: "), fit.reason


def test_a_term_whose_exponent_is_zero_is_not_told_by_rounding() -> None:
    n, s = (g.ravel() for g in np.meshgrid(np.geomspace(1e5, 1e9, 6), np.geomspace(1e2, 1e5, 6)))
    fit = FORMULAS["L_N_S"].fit(pd.DataFrame({"n_params": n, "steps": s, "loss": 2 + (2e3 / s) ** 0.76}), n_boot=0)
    assert not fit.identified and "alpha_N" in fit.reason + "N_c" and "negative" not in fit.reason


@pytest.mark.parametrize(
    ("n", "loss"),
    [
        (np.geomspace(1e7, 1e10, 8), 3.1 * np.geomspace(1, 1e3, 8) ** -0.001),
        (np.geomspace(1e290, 1e300, 6), np.geomspace(5, 3, 6)),
    ],
)
def test_a_constant_that_no_number_holds_is_not_identified(n, loss) -> None:
    fit = FORMULAS["L_N"].fit(pd.DataFrame({"n_params": n, "loss": loss}), n_boot=0)
    assert not fit.identified and "out of range: N_c is e^" in fit.reason
    assert fit.parameters["N_c"].estimate is None


def test_residuals_that_are_zero_by_construction_are_no_precision() -> None:
    """Least absolute deviation of three points goes through two of them: that tells no standard error of 0."""
    points = pd.DataFrame({"n_params": [1e6, 1e7, 1e8], "loss": [3.0, 3.4, 2.9]})
    fit = FORMULAS["L_N"].fit(points, objective="lad", n_boot=0)
    assert not fit.identified and "standard errors of 0" in fit.reason


def flat_curves(rounding: float, sizes: int = 8, falling: int = 0) -> pd.DataFrame:
    """Learning curves of a learning rate of 0, each of a loss of its own; some fall."""
    rng, d, parts = np.random.default_rng(1), np.geomspace(1e7, 1e10, 30), []
    for k, n in enumerate(np.geomspace(1e5, 1e8, sizes)):
        loss = 5.5 + 0.001 * rng.normal() + rounding * rng.normal(size=30)
        loss = 2 + 400 / n**0.34 + 410 / d**0.28 if k < falling else loss
        columns = {"run": f"r{k}", "n_params": n, "step": d / 1e4, "n_tokens": d, "flops": 6 * n * d, "loss": loss}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("rounding", [0.0, 1e-15, 1e-7])
@pytest.mark.parametrize(
    ("falling", "reason"),
    [
        (0, "no learning curve falls"),
        (1, "the learning curves of 1 size fall; at least 3 are needed"),
        (2, "the learning curves of 2 sizes fall; at least 3 are needed"),
    ],
)
def test_curves_that_do_not_fall_have_no_frontier(rounding: float, falling: int, reason: str) -> None:
    curves = flat_curves(rounding, falling=falling)
    with pytest.raises(UserError, match=f"frontier: {reason}"):
        frontier(curves)
    fit = FORMULAS["envelope"].fit(curves)
    assert not fit.identified and reason in fit.reason and fit.vector is None


@pytest.mark.parametrize("law", ["isoflop", "isoflop_akima"])
@pytest.mark.parametrize("rounding", [0.0, 1e-15])
def test_budgets_of_equal_losses_have_no_best_size(law: str, rounding: float) -> None:
    flops, n = np.repeat([1e18, 1e19, 1e20], 5), np.tile(np.geomspace(1e7, 1e9, 5), 3)
    loss = 3 - rounding * np.tile([0, 1, 2, 1, 0], 3)
    fit = FORMULAS[law].fit(pd.DataFrame({"flops": flops, "n_params": n, "loss": loss}), n_boot=0)
    assert not fit.identified and "its losses are equal, to rounding" in fit.reason


def test_a_best_size_that_stays_the_same_has_no_exponent() -> None:
    flops, n = np.repeat([1e18, 1e19, 1e20], 5), np.tile(np.geomspace(1e7, 1e9, 5), 3)
    loss = (3 + 0.1 * np.log(n / 1e8) ** 2) * flops**-0.05
    fit = FORMULAS["isoflop"].fit(pd.DataFrame({"flops": flops, "n_params": n, "loss": loss}), n_boot=0)
    assert not fit.identified and "the best size is the same at all computes" in fit.reason


@pytest.mark.parametrize(("sizes", "interval"), [(4, False), (17, True)])
def test_few_sizes_leave_no_interval(sizes: int, interval: bool) -> None:
    d, parts = np.geomspace(1e7, 1e12, 60), []
    for n in np.geomspace(1e6, 1e10, sizes):
        loss = 1.8 + 482 / n**0.35 + 2085 / d**0.37
        parts.append(pd.DataFrame({"run": f"{n:.3g}", "n_params": n, "flops": 6 * n * d, "loss": loss}))
    fit = FORMULAS["envelope"].fit(pd.concat(parts, ignore_index=True), n_boot=200)
    assert fit.identified and (fit.parameters["a"].low is not None) is interval
    if interval:
        assert "note" not in fit.bootstrap and fit.parameters["a"].low < fit.value("a") < fit.parameters["a"].high
    else:
        assert "too few sizes to tell the noise of runs" in fit.bootstrap["note"] and not len(fit.draws)


@pytest.mark.parametrize(("lost", "left"), [(0, 100), (5, 95), (6, 0)])
def test_one_replicate_in_twenty_may_have_no_value(fitted, lost: int, left: int) -> None:
    fit = FORMULAS["chinchilla"].not_fitted("")
    vectors = np.tile(fitted.vector, (100, 1))
    vectors[:lost, 0] = np.inf
    take_draws(fit, vectors, 100, {})
    assert np.isfinite(fit.draws).all(-1).sum() == left and fit.bootstrap["without_value"] == lost
    assert fit.bootstrap["replicates"] == left and len(fit.draws) in (0, 100)  # draws stay in their places
    assert fit.bootstrap.get("note") == (None if left else "6 of 100 replicates can't be fitted")
