"""A run that is cut off goes on to the bytes of one that was not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from pipeline.errors import UserError
from pipeline.plan.run import Run
from pipeline.train import __main__ as training
from pipeline.train import checkpoint
from pipeline.train.checkpoint import FILE, Progress, State

FILES = ("curve.parquet", "model.safetensors", "snapshots.safetensors")
CASES = {
    "native": {"dropout": 0.1, "noise": True},
    "stopping": {"n_unique_tokens": 600, "evaluate_every": 5, "patience": 4, "n_steps": 400, "d_model": 32},
    "lstm": {"family": "lstm", "dropout": 0.1, "n_layer": 2, "noise": True},
    "adafactor": {"optimizer": "adafactor", "lr": 0.1},
}


def same(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)


def command(run: Run, tokens: Path, folder: Path, *options: str) -> list[str]:
    arguments = ["--run", run.to_json(), "--tokens", str(tokens), "--device", "cpu", *options]
    arguments += ["--output", str(folder / "run" / "curve.parquet"), "--scratch", str(folder / "scratch")]
    return [sys.executable, "-m", "pipeline.train", *arguments]


@pytest.mark.parametrize("case", CASES)
def test_interrupted_at_many_steps_and_resumed(case: str, tiny_run, train, monkeypatch, tmp_path: Path) -> None:
    """A signal at each of some steps: every resumed part starts from the last one's file."""
    run = tiny_run(**CASES[case], snapshots=4)
    whole = train(run, folder="whole")
    stops = iter([0, 1, 7, 8, 31, 45])

    class Interrupted(training.Trainer):
        def account(self, *arguments: object) -> None:
            super().account(*arguments)
            self.interrupted = self.progress.step == self.until

        def train(self, checkpoint_seconds: float) -> bool:
            self.until = next(stops, None)
            self.interrupted = self.until == 0
            return super().train(checkpoint_seconds)

    monkeypatch.setattr(training, "Trainer", Interrupted)
    for _ in range(6):
        parts = train(run, folder="parts", code=training.EXIT_PREEMPTED)
        assert not parts.exists()  # an unfinished run has no files
    train(run, folder="parts")
    assert same(whole, parts)
    assert not (tmp_path / "scratch" / "parts").exists()


@pytest.mark.parametrize("engine", ["auto", pytest.param("torch", marks=pytest.mark.slow)])
def test_killed_and_resumed(engine: str, tiny_run, tiny_tokens, train, tmp_path: Path) -> None:
    """kill -9 of a real process, twice, wherever it is."""
    run = tiny_run(n_steps=500, dropout=0.1, noise=True, snapshots=6, evaluate_every=50, patience=9)
    whole = train(run, "--engine", engine, folder="whole")
    arguments = command(run, tiny_tokens, tmp_path, "--checkpoint-seconds", "0", "--engine", engine)
    state = tmp_path / "scratch" / FILE
    for target in (1, 200):
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        while _saved_step(state) < target:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "run").exists()
    result = subprocess.run(arguments, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 0, result.stderr
    assert f" {run.n_steps} steps" not in result.stderr  # it did not start anew
    assert same(whole, tmp_path / "run")
    assert not state.parent.exists()


def test_sigterm_saves_and_exits_with_its_own_code(tiny_run, tiny_tokens, train, tmp_path: Path) -> None:
    run = tiny_run(n_steps=100_000, evaluations=10)
    process = subprocess.Popen(command(run, tiny_tokens, tmp_path), stderr=subprocess.PIPE, text=True)
    time.sleep(0.2)
    while not _handles(process.pid, signal.SIGTERM):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == training.EXIT_PREEMPTED == 75
    assert errors.splitlines()[-1].endswith("of 100000: state saved")
    path = tmp_path / "scratch" / FILE
    progress = (checkpoint.load(path, run, "native") or checkpoint.load(path, run, "torch")).progress
    assert progress.status == "running" and 0 < progress.step < 100_000
    assert not (tmp_path / "run").exists()


def _saved_step(state: Path) -> int:
    """Return the step of a checkpoint, 0 when there is none."""
    if not state.exists():
        return 0
    with safe_open(state, framework="numpy") as file:
        return json.loads(file.metadata()["checkpoint"])["progress"]["step"]


def _handles(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal (Linux tells in /proc)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def test_what_is_saved_is_loaded(tiny_run, tmp_path: Path) -> None:
    progress = Progress(step=3, rows=[{"step": 0, "loss": float("nan")}], lr_sum=0.1 + 0.2, best_loss=1 / 3)
    progress.noise.add((4.0, 2.5), batch_sequences=4)
    state = {"weights": np.arange(5, dtype=np.float32), "step": np.array(3)}
    best = {"embedding": np.ones((2, 3), np.float32)}
    snapshots = {1: {"embedding": np.zeros((2, 3), np.float32)}, 10: {"embedding": np.ones((2, 3), np.float32)}}
    checkpoint.save(tmp_path / FILE, tiny_run(), "native", State(progress, state, best, snapshots))
    again = checkpoint.load(tmp_path / FILE, tiny_run(), "native")
    assert repr(again.progress) == repr(progress)
    assert again.snapshots.keys() == snapshots.keys()
    for own, loaded in (
        (state, again.engine),
        (best, again.best),
        *((snapshots[k], again.snapshots[k]) for k in (1, 10)),
    ):
        assert own.keys() == loaded.keys()
        assert all(np.array_equal(own[name], loaded[name]) for name in own)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_another_runs_state_is_refused_and_another_engines_is_not_used(tiny_run, tmp_path: Path, capsys) -> None:
    assert checkpoint.load(tmp_path / "none" / FILE, tiny_run(), "native") is None
    checkpoint.save(tmp_path / FILE, tiny_run(), "native", State(Progress(step=3), {}))
    with pytest.raises(UserError, match=r"holds the state of transformer-1x16-b4-s60-\w+, not of transformer-1x16-"):
        checkpoint.load(tmp_path / FILE, tiny_run(seed=1), "native")
    assert checkpoint.load(tmp_path / FILE, tiny_run(), "torch") is None
    assert "starts anew" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\x10" * 64])
def test_a_state_that_cant_be_read_is_refused(content: bytes, tiny_run, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match="not a state of this version of the program"):
        checkpoint.load(tmp_path / FILE, tiny_run(), "native")


def test_a_state_of_other_fields_is_refused(tiny_run, tmp_path: Path, monkeypatch) -> None:
    checkpoint.save(tmp_path / FILE, tiny_run(), "native", State(Progress(), {}))
    monkeypatch.setattr(checkpoint, "Progress", lambda step: None)
    with pytest.raises(UserError, match="not a state of this version of the program"):
        checkpoint.load(tmp_path / FILE, tiny_run(), "native")


def test_no_checkpoint_is_written_before_its_time(tiny_run, train, monkeypatch) -> None:
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda *arguments: saved.append(arguments))
    train(tiny_run(), "--checkpoint-seconds", "3600")
    assert saved == []
    train(tiny_run(), "--checkpoint-seconds", "0")
    assert len(saved) == 60
