"""One run to its curve and weights: what is recorded, when it stops, and what it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.engines.native import available
from pipeline.plan.steps import evaluation_steps, log_spaced, snapshot_steps
from pipeline.train.__main__ import main
from pipeline.train.optim import rate_at_step
from pipeline.train.results import read_snapshots, read_weights


def curve_of(folder: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    table = pq.read_table(folder / "curve.parquet")
    return table.to_pandas(), {key.decode(): value.decode() for key, value in table.schema.metadata.items()}


def test_evaluation_steps_are_log_spaced_and_hold_the_ends(tiny_run) -> None:
    steps = evaluation_steps(tiny_run(n_steps=4000, evaluations=40))
    assert steps[:3] == [0, 1, 2] and steps[-1] == 4000 and steps == sorted(set(steps))
    assert 30 <= len(steps) <= 41
    ratios = [b / a for a, b in pairwise(steps[20:])]
    assert max(ratios) / min(ratios) < 1.15
    assert set(range(0, 4001, 250)) <= set(evaluation_steps(tiny_run(n_steps=4000, evaluate_every=250)))
    assert evaluation_steps(tiny_run(n_steps=1, warmup_steps=0)) == [0, 1]


def test_snapshot_steps_leave_out_the_last(tiny_run) -> None:
    assert snapshot_steps(tiny_run(n_steps=4000)) == []
    steps = snapshot_steps(tiny_run(n_steps=4000, snapshots=6))
    assert len(steps) == 6 and steps[0] == 1 and steps[-1] < 4000
    assert log_spaced(1, 5) == [1]


def test_curve_has_the_contract_s_columns_and_metadata(tiny_run, train) -> None:
    run = tiny_run(noise=True, n_steps=200)
    curve, metadata = curve_of(train(run))
    assert list(curve.columns) == (
        ["step", "n_tokens", "lr", "lr_sum", "train_loss", "loss", "noise_scale", "gradient_norm"]
    )
    assert [str(kind) for kind in curve.dtypes] == ["int64", "int64"] + ["float64"] * 6
    assert (metadata["run"], metadata["status"], metadata["reason"]) == (run.to_json(), "finished", "")
    assert list(curve["step"]) == evaluation_steps(run)
    assert list(curve["n_tokens"]) == [step * run.batch_tokens for step in curve["step"]]
    assert curve["lr"].tolist() == [rate_at_step(run, step) for step in curve["step"]]
    sums = [sum(rate_at_step(run, s) for s in range(1, step + 1)) for step in curve["step"]]
    assert curve["lr_sum"].tolist() == pytest.approx(sums)
    first, rest = curve.iloc[0], curve.iloc[1:]
    assert math.isnan(first["train_loss"]) and math.isnan(first["gradient_norm"]) and math.isnan(first["noise_scale"])
    assert rest[["train_loss", "gradient_norm"]].notna().all(axis=None) and rest["noise_scale"].notna().any()
    assert curve["loss"].iloc[-1] < 3.0 < 4 < first["loss"]
    assert 0 < abs(rest["train_loss"].iloc[-1] - rest["loss"].iloc[-1]) < 0.3


def test_a_run_written_twice_is_the_same_bytes(tiny_run, train) -> None:
    run = tiny_run(dropout=0.1, snapshots=3, noise=True)
    one, two = train(run, folder="one"), train(run, folder="two")
    names = {"curve.parquet", "model.safetensors", "snapshots.safetensors"}
    assert {path.name for path in one.iterdir()} == names
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    assert not (one.parent / "scratch" / "one").exists()
    other = curve_of(train(tiny_run(dropout=0.1, snapshots=3, noise=True, seed=1), folder="three"))[0]
    assert (other["loss"] != curve_of(one)[0]["loss"]).all()


@pytest.mark.skipif(not available(), reason="no C++ compiler")
def test_the_engine_is_not_part_of_the_run(tiny_run, train) -> None:
    run = tiny_run(n_steps=300, noise=True, n_layer=2, lr=0.005)
    native, reference = (curve_of(train(run, "--engine", name, folder=name))[0] for name in ("native", "torch"))
    pd.testing.assert_frame_equal(native, reference, rtol=2e-3)
    pd.testing.assert_series_equal(native["loss"], reference["loss"], rtol=1e-4)


@pytest.mark.parametrize(
    "fields",
    [{"family": "lstm"}, {"family": "recurrent", "n_reuse": 2}, {"n_layer": 0}, {"optimizer": "adafactor", "lr": 0.1}],
    ids=str,
)
def test_every_family_learns(tiny_run, train, fields: dict) -> None:
    curve, _ = curve_of(train(tiny_run(**fields, n_steps=120)))
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0] - 0.5


def test_timing_and_its_line(tiny_run, train, tmp_path: Path, capsys) -> None:
    train(tiny_run(), "--timing", str(tmp_path / "timing.json"))
    timing = json.loads((tmp_path / "timing.json").read_text())
    assert timing["steps"] == 60 and timing["run"] == tiny_run().id
    assert {"start-up", "data", "steps", "evaluation", "writing"} <= timing["seconds"].keys()
    assert timing["total_seconds"] == pytest.approx(sum(timing["seconds"].values()), abs=1e-3)
    assert timing["tokens_per_second"] == pytest.approx(60 * 64 / timing["seconds"]["steps"], rel=0.05)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("time: ") and "tokens/s" in line and "FLOP/s" in line


def test_weights_can_be_left_out(tiny_run, train) -> None:
    folder = train(tiny_run(snapshots=2), "--no-keep-weights")
    assert [path.name for path in folder.iterdir()] == ["curve.parquet"]


def test_weights_are_whole_and_readable_by_others(tiny_run, train) -> None:
    run = tiny_run()
    path = train(run) / "model.safetensors"
    weights, owner, step = read_weights(path)
    assert (owner, step) == (run, 60) and weights["embedding"].shape == (64, 16)
    assert path.stat().st_mode & 0o077 == 0o044


def test_early_stopping_keeps_the_curve_and_the_best_weights(tiny_run, train) -> None:
    """A small training set is overfitted: the test loss falls, then rises, and patience ends the run."""
    run = tiny_run(n_steps=3000, n_unique_tokens=600, evaluate_every=10, patience=5, lr=0.01, d_model=32, snapshots=5)
    folder = train(run)
    curve, metadata = curve_of(folder)
    best = curve.loc[curve["loss"].idxmin()]
    last = int(curve["step"].max())
    assert metadata["status"] == "stopped"
    assert metadata["reason"] == f"no test loss below that of step {int(best['step'])} in 5 evaluations"
    assert last < 3000 and curve["loss"].iloc[-1] > best["loss"]
    regular = curve[(curve["step"] > best["step"]) & (curve["step"] % 10 == 0)]
    assert len(regular) == 5 and regular["step"].iloc[-1] == last
    assert read_weights(folder / "model.safetensors")[2] == int(best["step"])
    assert read_snapshots(folder / "snapshots.safetensors").keys() == {
        step for step in snapshot_steps(run) if step < best["step"]
    }


def test_a_rate_far_too_high_is_recorded_as_diverged(tiny_run, train) -> None:
    run = tiny_run(n_steps=2000, lr=3.0, clip=0.0, schedule="constant")
    folder = train(run)
    curve, metadata = curve_of(folder)
    assert metadata["status"] == "diverged"
    assert "above the initial loss" in metadata["reason"] or "not finite" in metadata["reason"]
    assert 1 < len(curve) < len(evaluation_steps(run))
    assert (folder / "model.safetensors").exists()


@pytest.mark.parametrize("where", ["training", "test", "high"])
def test_each_sign_of_divergence_is_recorded(tiny_run, train, monkeypatch, where: str) -> None:
    from pipeline.train import __main__ as module

    def poisoned(*arguments: object) -> object:
        engine = make_engine(*arguments)
        step, evaluate, count = engine.step, engine.evaluate, iter(range(10**6))

        def bad_step(*step_arguments: object) -> object:
            result = step(*step_arguments)
            if where == "training" and next(count) == 30:
                return result._replace(loss=math.nan)
            return result._replace(loss=result.loss + 3) if where == "high" and next(count) >= 5 else result

        def bad_evaluate(tokens: object) -> object:
            return evaluate(tokens) * (math.inf if where == "test" and next(count) == 4 else 1)

        engine.step, engine.evaluate = bad_step, bad_evaluate
        return engine

    make_engine = module.make_engine
    monkeypatch.setattr(module, "make_engine", poisoned)
    curve, metadata = curve_of(train(tiny_run(n_steps=200, lr=1e-4)))
    reason, last = {
        "training": ("the training loss is not finite at step 31", 31),
        "test": ("the test loss is not finite at step 6", 6),
        "high": ("the training loss was 0.5 nats and more above the initial loss for 100 steps to step 105", 105),
    }[where]
    assert (metadata["status"], metadata["reason"]) == ("diverged", reason)
    assert curve["step"].max() <= last


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_vocab": 128}, "error: n_vocab: the run has 128, the tokens in"),
        ({"n_unique_tokens": 70_000}, "error: n_unique_tokens: 70000 is not between"),
        ({"n_ctx": 8000}, "error: test tokens: 1 windows of 8000 tokens need 8001"),
        ({"n_ctx": 60_000}, "error: n_unique_tokens: 60000 is not between n_ctx + 1 = 60001"),
        ({"test_tokens": 10_000}, "error: test tokens: 625 windows of 16 tokens need 10001"),
    ],
    ids=str,
)
def test_tokens_that_dont_fit_the_run_are_refused_in_one_line(tiny_run, train, capsys, fields, message) -> None:
    train(tiny_run(**fields), code=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)


def test_missing_files_and_bad_runs_are_refused_in_one_line(tiny_run, tiny_tokens, tmp_path: Path, capsys) -> None:
    def error(run: str, tokens: Path) -> str:
        output = ["--output", str(tmp_path / "curve.parquet"), "--scratch", str(tmp_path / "scratch")]
        assert main(["--run", run, "--tokens", str(tokens), *output]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    run = tiny_run().to_json()
    assert (
        error(run, tmp_path / "none") == f"error: {tmp_path}/none/meta.json: no such file: make the token files first"
    )
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "meta.json").write_text('{"vocabulary": 64}')
    assert error(run, tmp_path / "half").startswith(f"error: {tmp_path}/half/train.bin: no token file")
    assert error("{", tiny_tokens).startswith("error: run: not the JSON of a run")
    assert error('{"depth": 3}', tiny_tokens).startswith("error: run: not the JSON of a run")
    assert error(run.replace('"lr":0.01', '"lr":100'), tiny_tokens).startswith("error: lr: 100.0 is outside")
    assert list(tmp_path.glob("*.parquet")) == []


@pytest.mark.skipif(not available(), reason="no C++ compiler")
def test_a_native_run_imports_no_torch_and_no_pandas(tiny_run, tiny_tokens, tmp_path: Path) -> None:
    """Hundreds of runs of some seconds: imports that take seconds would be most of their time."""
    arguments = ["--run", tiny_run(n_steps=6).to_json(), "--tokens", str(tiny_tokens), "--device", "cpu"]
    arguments += ["--output", str(tmp_path / "curve.parquet"), "--scratch", str(tmp_path / "scratch")]
    code = f"""
import sys
from pipeline.train.__main__ import main
assert main({arguments!r}) == 0
print(sorted({{"torch", "pandas", "scipy", "datasets"}} & sys.modules.keys()))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
