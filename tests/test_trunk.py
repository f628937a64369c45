"""Runs that branch off a shared trunk: the bytes of runs trained from nothing, whatever happens on the way."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from pipeline.engines.native import available
from pipeline.plan.run import Run
from pipeline.plan.steps import evaluation_steps, grid, snapshot_steps
from pipeline.plan.trunk import up_to
from pipeline.train import __main__ as training
from pipeline.train import branch, checkpoint

FILES = ("curve.parquet", "model.safetensors", "snapshots.safetensors")
LENGTHS = (50, 75, 100)
CASES = {
    "native": {"dropout": 0.1, "noise": True},
    "torch": {"dropout": 0.1, "noise": True},
    "every ten": {"evaluate_every": 10, "lr_final": 0.1},
    "lstm": {"family": "lstm", "n_layer": 2},
    "adafactor": {"optimizer": "adafactor", "lr": 0.1},
}
NATIVE = pytest.mark.skipif(not available(), reason="no C++ compiler")


def engine_of(case: str) -> list[str]:
    return ["--engine", case] if case in ("native", "torch") else []


@pytest.fixture
def wsd(tiny_run: Callable[..., Run]) -> Callable[..., Run]:
    """A function that makes a wsd run with snapshots: as many as fit into so few steps."""
    return lambda n_steps=100, **fields: tiny_run(**{"schedule": "wsd", "n_steps": n_steps, "snapshots": 8} | fields)


@pytest.fixture
def arguments(tiny_tokens: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """A function that returns the arguments of the command that trains a run from nothing, or with trunks."""

    def make(run: Run, folder: str, *options: str, segment: bool = False) -> list[str]:
        root = tmp_path / folder
        output = root / "runs" / run.id / "curve.parquet"
        if segment:
            output = root / "trunks" / run.trunk_id / branch.state_file(run.n_steps)
        start = ["--run", run.to_json(), "--tokens", str(tiny_tokens), "--device", "cpu", "--output", str(output)]
        return [*start, "--scratch", str(root / "scratch" / run.id), *["--segment"] * segment, *options]

    return make


@pytest.fixture
def make(arguments: Callable[..., list[str]], tmp_path: Path) -> Callable[..., Path]:
    """A function that trains a run, or a segment of a trunk, in this process, and returns the folder of its file."""

    def train(run: Run, folder: str, *options: str, segment: bool = False, code: int = 0) -> Path:
        command = arguments(run, folder, *options, segment=segment)
        assert training.main(command) == code
        return Path(command[command.index("--output") + 1]).parent

    return train


def same(one: Path, other: Path) -> bool:
    names = [name for name in FILES if (one / name).exists()]
    assert names
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def steps_made(err: str) -> list[int]:
    """Return the steps that each process made, of what they printed."""
    return [int(line.split("; ")[1].split()[0]) for line in err.splitlines() if line.startswith("time: ")]


def status(folder: Path) -> tuple[str, str]:
    metadata = pq.read_schema(folder / "curve.parquet").metadata
    return metadata[b"status"].decode(), metadata[b"reason"].decode()


def test_up_to_its_cooldown_a_run_is_looked_at_whatever_its_length(wsd) -> None:
    shared = grid(10_000, 10)
    for n_steps in (50, 137, 1000, 9999):
        for part in (0.0, 0.1, 0.37):
            run = wsd(n_steps, cooldown=part, snapshots=6)
            point, steps = run.branch_point, evaluation_steps(run)
            assert [step for step in steps if step < point] == [0] + [step for step in shared if step < point]
            assert {point, n_steps} <= set(steps) and steps[-1] == n_steps
            assert len([step for step in steps if step > point]) == (4 if part else 0)
            assert snapshot_steps(run) == [step for step in grid(10_000, 7) if step < n_steps]


@pytest.mark.parametrize("case", CASES)
def test_a_branch_has_the_bytes_of_a_run_from_nothing(case: str, wsd, make, capsys) -> None:
    """Three lengths; the state of each branch point is made from the one before."""
    if case == "native" and not available():
        pytest.skip("no C++ compiler")
    runs = [wsd(n_steps, **CASES[case]) for n_steps in LENGTHS]
    whole = [make(run, "whole", *engine_of(case)) for run in runs]
    capsys.readouterr()
    for run in runs:
        make(up_to(run, run.branch_point), "parts", *engine_of(case), segment=True)
    parts = [make(run, "parts", *engine_of(case)) for run in runs]
    assert steps_made(capsys.readouterr().err) == [40, 20, 20, 10, 15, 20]
    assert all(map(same, whole, parts))
    assert not list((whole[0].parents[1] / "scratch").iterdir())


def test_where_the_grid_meets_the_branch_point_there_is_one_row(wsd, make) -> None:
    run = wsd(125, evaluations=9)
    assert run.branch_point == 100 and 100 in grid(125, 9)
    whole = make(run, "whole")
    make(up_to(run, 100), "parts", segment=True)
    assert same(whole, make(run, "parts"))
    assert pq.read_table(whole / "curve.parquet")["step"].to_pylist().count(100) == 1


def test_a_run_without_a_cooldown_is_the_trunk_looked_at(wsd, make, capsys) -> None:
    run = wsd(80, cooldown=0.0)
    whole = make(run, "whole")
    make(run, "parts", segment=True)
    capsys.readouterr()
    assert same(whole, make(run, "parts"))
    assert steps_made(capsys.readouterr().err) == [0]
    assert pq.read_table(whole / "curve.parquet")["step"].to_pylist()[-1] == 80


def test_a_longer_run_that_comes_later_goes_on_from_what_is_there(wsd, make, capsys) -> None:
    """Also where no state was made at its own branch point; and a shorter one takes no state beyond its own."""
    make(up_to(wsd(), 40), "parts", segment=True)
    make(up_to(wsd(), 60), "parts", segment=True)
    longer, shorter = wsd(100), wsd(60)
    whole = [make(run, "whole") for run in (longer, shorter)]
    capsys.readouterr()
    assert all(map(same, whole, [make(run, "parts") for run in (longer, shorter)]))
    assert steps_made(capsys.readouterr().err) == [40, 20]


@pytest.mark.parametrize("segment", [True, False], ids=["trunk", "branch"])
@pytest.mark.parametrize("engine", ["auto", pytest.param("torch", marks=pytest.mark.slow)])
def test_killed_and_resumed(engine: str, segment: bool, wsd, make, arguments, tmp_path: Path) -> None:
    """kill -9 of a real process in the second segment of a trunk, or in a branch: it goes on, and not from nothing."""
    run = wsd(1000, dropout=0.1, noise=True, d_model=32)
    whole = make(run, "whole", "--engine", engine)
    make(up_to(run, 200), "parts", "--engine", engine, segment=True)
    if not segment:
        make(up_to(run, 800), "parts", "--engine", engine, segment=True)
    part = up_to(run, 800) if segment else run
    options = ("--checkpoint-seconds", "0", "--engine", engine)
    command = [sys.executable, "-m", "pipeline.train", *arguments(part, "parts", *options, segment=segment)]
    saved = tmp_path / "parts" / "scratch" / part.id / checkpoint.FILE
    for target in (1, 30):
        first = (200 if segment else 800) + target
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while saved_step(saved) < first:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    assert steps_made(done.stderr)[0] <= (570 if segment else 170)
    assert same(whole, make(run, "parts", "--engine", engine))
    assert not saved.parent.exists()


def saved_step(state: Path) -> int:
    if not state.exists():
        return 0
    with safe_open(state, framework="numpy") as file:
        return json.loads(file.metadata()["checkpoint"])["progress"]["step"]


def test_of_a_checkpoint_and_a_state_of_the_trunk_the_further_one_is_taken(wsd, make, monkeypatch, capsys) -> None:
    """A run that was interrupted before its trunk was there, and one interrupted in its cooldown."""
    run = wsd()
    whole = make(run, "whole")

    class Interrupted(training.Trainer):
        def account(self, *arguments: object) -> None:
            super().account(*arguments)
            self.interrupted = self.progress.step == self.until

    def interrupt(step: int) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Interrupted, "until", step, raising=False)
            patched.setattr(training, "Trainer", Interrupted)
            make(run, "parts", code=training.EXIT_PREEMPTED)

    interrupt(30)
    make(up_to(run, 80), "parts", segment=True)
    interrupt(90)
    capsys.readouterr()
    assert same(whole, make(run, "parts"))
    assert steps_made(capsys.readouterr().err) == [10]


@NATIVE
def test_a_state_of_the_other_engine_is_not_used(wsd, make, tmp_path: Path, capsys) -> None:
    run = wsd()
    whole = make(run, "whole", "--engine", "torch")
    make(up_to(run, 80), "parts", "--engine", "native", segment=True)
    capsys.readouterr()
    parts = make(run, "parts", "--engine", "torch")
    said = capsys.readouterr().err
    state = tmp_path / "parts" / "trunks" / run.trunk_id / "step-80.safetensors"
    assert said.splitlines()[0] == f"{state}: is of engine native, not torch: the run starts anew"
    assert steps_made(said) == [100]
    assert same(whole, parts)


@pytest.mark.parametrize("where", ["first", "second", "branch"])
def test_a_trunk_that_diverges_ends_its_runs(where: str, wsd, make, monkeypatch, capsys) -> None:
    """In its first segment, in its second one, or in a cooldown; the run that has branched off before is unharmed."""
    bad = {"first": 30, "second": 50, "branch": 90}[where]

    def poisoned(*options: object) -> object:
        engine = make_engine(*options)
        step = engine.step

        def bad_step(tokens: object, lr: float, noise: bool) -> object:
            result = step(tokens, lr, noise)
            return result._replace(loss=math.nan) if engine._steps == bad else result

        engine.step = bad_step
        return engine

    make_engine = training.make_engine
    monkeypatch.setattr(training, "make_engine", poisoned)
    short, long = wsd(50), wsd(100)
    whole = [make(run, "whole") for run in (short, long)]
    for run in (short, long):
        make(up_to(run, run.branch_point), "parts", segment=True)
    capsys.readouterr()
    assert all(map(same, whole, [make(run, "parts") for run in (short, long)]))
    assert status(whole[1]) == ("diverged", f"the training loss is not finite at step {bad}")
    if where == "first":
        assert status(whole[0]) == status(whole[1])
        assert steps_made(capsys.readouterr().err) == [0, 0]


def test_a_trunk_that_stops_early_ends_its_runs(wsd, make, capsys) -> None:
    """The best weights are part of the state."""
    overfits = {"n_unique_tokens": 600, "evaluate_every": 10, "patience": 5, "lr": 0.01, "d_model": 32}
    short, long = wsd(120, **overfits), wsd(3000, **overfits)
    whole = [make(run, "whole") for run in (short, long)]
    assert [status(folder)[0] for folder in whole] == ["finished", "stopped"]
    for run in (short, long):
        make(up_to(run, run.branch_point), "parts", segment=True)
    capsys.readouterr()
    assert all(map(same, whole, [make(run, "parts") for run in (short, long)]))
    assert steps_made(capsys.readouterr().err)[1] == 0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "not a state of this version of the program ("),
        (lambda path: path.write_bytes(b""), "not a state of this version of the program ("),
        (lambda path: path.write_bytes(path.with_name("step-40.safetensors").read_bytes()), "holds the state of "),
    ],
    ids=["cut", "empty", "another's"],
)
def test_a_damaged_state_is_named(damage, said: str, wsd, make, capsys) -> None:
    run = wsd()
    make(up_to(run, 40), "parts", segment=True)
    state = make(up_to(run, 80), "parts", segment=True) / "step-80.safetensors"
    damage(state)
    capsys.readouterr()
    folder = make(run, "parts", code=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {state}: {said}") and line.endswith("; delete it to start anew")
    assert not folder.exists()


def test_what_is_no_segment_is_refused_in_one_line(wsd, tiny_run, arguments, capsys) -> None:
    def error(*command: str) -> str:
        assert training.main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    no_trunk = "error: --segment: the run is no trunk: it needs schedule wsd and cooldown 0"
    assert error(*arguments(wsd(), "parts", segment=True)) == no_trunk
    assert error(*arguments(tiny_run(), "parts", segment=True)) == no_trunk
    command = arguments(up_to(wsd(), 80), "parts")
    assert error(*command, "--segment").endswith("curve.parquet does not end in step-80.safetensors")
