"""Tables as people have them, and commands as people type them: the right fit, or one line that says what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.laws.command.cli import main

ROOT = Path(__file__).parents[1]


def table(**more: object) -> pd.DataFrame:
    """30 points of a planted law, with some noise."""
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e11, 5)))
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(len(n)))
    loss = (1.8 + 406.4 / n**0.34 + 410.7 / d**0.28) * noise
    return pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss} | more)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the table in base.csv and its fit in fit.json."""
    monkeypatch.chdir(tmp_path)
    table().to_csv("base.csv", index=False)
    assert main(["fit", "chinchilla", "base.csv", "--n-boot", "40", "--out", "fit.json"]) == 0
    return tmp_path


def error_of(capsys: pytest.CaptureFixture, *arguments: str, code: int = 2) -> str:
    """Return the one line that a command ends in."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def lines_of(frame: pd.DataFrame) -> list[str]:
    return frame.to_csv(index=False).splitlines()


NOTES = {"note": [f"run {k}" for k in range(30)]}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda rows: [*rows[:18], '"' + rows[18], *rows[19:]],
            "line 19: a quote is opened in this row and never closed",
        ),
        (lambda rows: [*rows[:4], rows[4] + ",extra", *rows[5:]], "line 5 has 5 cells, the header has 4"),
        (lambda rows: [*rows[:4], rows[4].rpartition(",")[0], *rows[5:]], "line 5 has 3 cells, the header has 4"),
    ],
)
def test_no_row_is_lost_without_a_word(edit, message: str, folder: Path, capsys) -> None:
    Path("bad.csv").write_text("\n".join(edit(lines_of(table(**NOTES)))) + "\n")
    assert message in error_of(capsys, "fit", "chinchilla", "bad.csv", "--n-boot", "0")


@pytest.mark.parametrize("mark", ["\u0085", "\f", "\u2028", "\x1c", "; | ;", "x" * 200_000, "two\nlines"])
def test_what_stands_in_another_column_changes_nothing(mark: str, folder: Path, capsys) -> None:
    table(note=[mark] + ["plain"] * 29).to_csv("noted.csv", index=False)
    for name in ("base", "noted"):
        assert main(["fit", "chinchilla", f"{name}.csv", "--n-boot", "0", "--out", f"{name}.json"]) == 0
    base, noted = (json.loads(Path(f"{name}.json").read_text()) for name in ("base", "noted"))
    assert base["vector"] == noted["vector"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            table().assign(n_params=lambda t: t.n_params / 1e9),
            "column 'n_params', line 2: 0.01 parameters are fewer than 1",
        ),
        (pd.concat([table(), table()[:5]]), "line 32 is the same as line 2 in every column (5 such in all)"),
        (table(run=["a", "", *"cdefghijklmnopqrstuvwxyz1234"]), "column 'run', line 3: is empty"),
    ],
)
def test_implausible_tables_are_refused(frame: pd.DataFrame, message: str, folder: Path, capsys) -> None:
    frame.to_csv("bad.csv", index=False)
    assert message in error_of(capsys, "fit", "chinchilla", "bad.csv", "--n-boot", "0")


def test_parquet_of_every_kind(folder: Path, capsys) -> None:
    table().set_index(["n_params", "n_tokens"]).to_parquet("multi.parquet")
    assert main(["fit", "chinchilla", "multi.parquet", "--n-boot", "0"]) == 0
    Path("fake.parquet").write_text("n_params,loss\n")
    assert "fake.parquet: is not a parquet file" in error_of(capsys, "fit", "chinchilla", "fake.parquet")
    dates = table().assign(n_params=pd.date_range("2026-01-01", periods=30))
    dates.to_parquet("dates.parquet")
    assert "column 'n_params': holds dates" in error_of(capsys, "fit", "chinchilla", "dates.parquet")


FIT = ("fit", "chinchilla", "base.csv", "--n-boot", "0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*FIT, "--out", "base.csv"), "--out base.csv: is the file of the points"),
        ((*FIT, "--out", "./link.csv"), "is the file of the points"),
        ((*FIT, "--plot", "a.png", "--out", "a.png"), "--plot a.png: is the file of --out"),
        ((*FIT, "--out", ""), "--out '': the name of a file is needed"),
        ((*FIT, "--x", "loss"), "--x loss: chinchilla has no x"),
        (("fit", "power_plus_constant", "base.csv", "--x", "loss"), "x must be another column"),
        (("fit", "chinchilla", "base.csv", "--n-boot", "1"), "1 must be 0, for no intervals, or at least 39"),
        (("fit", "chinchilla", "base.csv", "--seed", "-1"), "--seed"),
        (("fit", "chinchilla", "."), "is a folder; a CSV or parquet file is needed"),
        (("compare", "base.csv", "--laws", ","), "names of laws are needed"),
        (("compare", "base.csv", "--laws", "isoflop,chinchilla"), "isoflop: it predicts n_params"),
        (("allocate", "fit.json", "--flops", "-1e20"), "flops: -1e+20 must be a positive number of FLOP"),
        (("allocate", "fit.json", "--flops", "1e-5"), "flops: 1e-05 must be at least 1"),
    ],
)
def test_a_wrong_command_is_one_line_and_no_file_is_touched(arguments, message: str, folder: Path, capsys) -> None:
    Path("link.csv").symlink_to("base.csv")
    before = Path("base.csv").read_bytes()
    assert message in error_of(capsys, *arguments)
    assert Path("base.csv").read_bytes() == before
    assert not Path("a.png").exists()


def test_an_edited_fit_is_refused(folder: Path, capsys) -> None:
    record = json.loads(Path("fit.json").read_text())
    record["parameters"]["E"]["estimate"] = 1.69
    Path("edited.json").write_text(json.dumps(record))
    said = error_of(capsys, "allocate", "edited.json", "--flops", "1e21")
    assert "parameter E: the estimate is 1.69, the vector says" in said


def test_extrapolation_is_said(folder: Path, capsys) -> None:
    capsys.readouterr()
    assert main(["predict", "fit.json", "--n-params", "1e9", "--n-tokens", "1e10"]) == 0
    assert "extrapolated" not in "".join(capsys.readouterr())
    assert main(["predict", "fit.json", "--n-params", "1e13", "--n-tokens", "1e10"]) == 0
    assert "n_params 3 decades above" in "".join(capsys.readouterr())


@pytest.mark.parametrize("law", ["L_N", "log_N"])
@pytest.mark.parametrize("shake", [0.0, 1e-16, 1e-13])
def test_equal_losses_identify_nothing_whatever_the_rounding(law: str, shake: float, folder: Path, capsys) -> None:
    signs = np.random.default_rng(1).choice([-1, 1], 12)
    loss = 5.0 * (1 + shake * signs)
    pd.DataFrame({"n_params": np.geomspace(1e4, 1e9, 12), "loss": loss}).to_parquet("flat.parquet")
    assert main(["fit", law, "flat.parquet", "--n-boot", "0"]) == 3
    said = capsys.readouterr().err
    assert "is not identified" in said and "rises" not in said


def test_a_pipe_that_closes_early_ends_quietly(folder: Path) -> None:
    command = f"{sys.executable} -m pipeline.laws fit chinchilla base.csv --n-boot 0 --json | head -1"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert done.stdout == "{\n" and done.stderr == ""
