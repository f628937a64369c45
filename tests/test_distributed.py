"""Two CPU processes under torchrun train what one trains: replicated and sharded, interrupted, with other numbers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.engines.distributed import torchrun
from pipeline.plan.run import Run
from pipeline.plan.trunk import up_to
from pipeline.train import checkpoint
from pipeline.train.__main__ import EXIT_PREEMPTED
from pipeline.train.results import read_snapshots, read_weights

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("distributed")]
WAYS = {
    "replicated": "Placement(micro_batch=2)",
    "sharded": "Placement(micro_batch=2, recompute=True, sharded=True, chunk=1)",
}
PROGRAM = """
import sys
from pipeline.plan.placement import Placement
from pipeline.engines import parallel
from pipeline.train.__main__ import main
placement = {way}
def engine(run, group, device, threads, compile):
    kind = parallel.ShardedEngine if placement.sharded else parallel.ReplicatedEngine
    return kind(run, group, device, threads, compile, placement)
parallel.parallel_engine = engine
sys.exit(main())
"""
"""Training that is laid on its processes in a given way, which a CPU's memory would not ask for."""


@pytest.fixture
def start(tiny_tokens: Path, tmp_path: Path):
    """Return a function that starts torchrun with two processes."""

    def start_it(run: Run, way: str, folder: str, *options: str, name: str = "curve.parquet") -> subprocess.Popen:
        program = tmp_path / f"{way}.py"
        program.write_text(PROGRAM.format(way=WAYS[way]))
        arguments = ["--run", run.to_json(), "--tokens", str(tiny_tokens), "--device", "cpu", *options]
        arguments += ["--output", str(tmp_path / folder / name)]
        arguments += ["--scratch", str(tmp_path / "scratch" / folder)]
        command = torchrun(2, arguments)
        where = command.index("pipeline.train")
        command[where - 2 : where + 1] = ["--", str(program)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    return start_it


def finish(process: subprocess.Popen) -> str:
    """Wait for the end and return what was printed."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def assert_same_run(one: Path, other: Path) -> None:
    """The same curve and the same weights, within what float32 sums of another order differ by."""
    pd.testing.assert_frame_equal(
        pd.read_parquet(one / "curve.parquet"), pd.read_parquet(other / "curve.parquet"), rtol=2e-3
    )
    first, second = (read_weights(folder / "model.safetensors")[0] for folder in (one, other))
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=2e-3)


def run_of(tiny_run, **fields: object) -> Run:
    base = {"n_layer": 2, "batch_sequences": 8, "n_steps": 40, "noise": True, "snapshots": 3, "lr_hidden": 0.5}
    return tiny_run(**base | fields)


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_what_one_trains(way: str, tiny_run, train, start, tmp_path: Path) -> None:
    run = run_of(tiny_run)
    errors = finish(start(run, way, "two"))
    assert errors.count("engine torch") == 1  # the first process alone reports
    one = train(run, "--engine", "torch", folder="one")
    assert_same_run(one, tmp_path / "two")
    assert pd.read_parquet(tmp_path / "two" / "curve.parquet")["noise_scale"].notna().any()
    assert (tmp_path / "two" / "snapshots.safetensors").exists()
    assert not (tmp_path / "scratch" / "two").exists()


@pytest.mark.parametrize("way", WAYS)
def test_interrupted_and_continued_by_any_number_of_processes(way: str, tiny_run, train, start, tmp_path: Path) -> None:
    run = run_of(tiny_run, n_steps=400, noise=False, evaluations=8)
    state = tmp_path / "scratch" / "two"
    process = start(run, way, "two", "--checkpoint-seconds", "0")
    while not (state / checkpoint.FILE).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "state saved" in errors
    saved = checkpoint.load(state / checkpoint.FILE, run, "torch")
    progress, arrays = saved.progress, saved.engine
    assert 0 < progress.step < run.n_steps
    assert arrays["weights/embedding"].shape == (64, 16)
    shutil.copytree(state, tmp_path / "scratch" / "one")

    errors = finish(start(run, way, "two"))
    assert f"{run.n_steps - progress.step} steps" in errors
    alone = train(run, "--engine", "torch", folder="one")
    whole = train(run, "--engine", "torch", folder="whole")
    assert_same_run(tmp_path / "two", alone)
    assert_same_run(tmp_path / "two", whole)


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_a_trunk_and_branch_off(way: str, tiny_run, train, start, tmp_path: Path) -> None:
    """The snapshots of the trunk are in its state, which any number of processes goes on from."""
    run = run_of(tiny_run, schedule="wsd", n_steps=50, noise=False)
    trunk = f"trunks/{run.trunk_id}"
    finish(start(up_to(run, 40), way, trunk, "--segment", name="step-40.safetensors"))
    errors = finish(start(run, way, "two", "--trunks", str(tmp_path / "trunks")))
    assert " 10 steps" in errors
    assert_same_run(
        train(run, "--engine", "torch", "--trunks", str(tmp_path / "none"), folder="whole"), tmp_path / "two"
    )
    assert_same_run(
        train(run, "--engine", "torch", "--trunks", str(tmp_path / "trunks"), folder="one"), tmp_path / "two"
    )
    snapshots = [read_snapshots(tmp_path / folder / "snapshots.safetensors") for folder in ("whole", "two")]
    assert snapshots[0].keys() == snapshots[1].keys() == {1, 22}


def test_replicas_may_have_unequal_shares(tiny_run, train, start, tmp_path: Path) -> None:
    run = run_of(tiny_run, batch_sequences=3, family="lstm")
    finish(start(run, "replicated", "two"))
    assert_same_run(train(run, folder="one"), tmp_path / "two")


def test_what_cant_be_sharded_is_refused(tiny_run, start) -> None:
    process = start(run_of(tiny_run, batch_sequences=5), "sharded", "two")
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "can't be sharded over 2 processes" in errors
    assert process.returncode != EXIT_PREEMPTED
