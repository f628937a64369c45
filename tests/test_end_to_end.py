"""The test preset from text to figures, in real processes: killed in the middle, gone on with, and asked again."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.files import read_json

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("end_to_end")]
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def command(folder, *arguments):
    """Return a snakemake command of this checkout that works in `folder`."""
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    profile = ["--workflow-profile", str(ROOT / "profiles/default")]
    return [*start, *profile, "--cores", "2", *arguments, "--config", "preset=test"]


def run(folder, *arguments):
    return subprocess.run(command(folder, *arguments), env=ENVIRONMENT, capture_output=True, text=True)


def jobs(folder, *arguments):
    """Return rule -> number of jobs that would run."""
    done = run(folder, "--dry-run", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    stats = re.search(r"job +count\n-+ +-+\n(.*?)\ntotal", done.stdout + done.stderr, re.S)
    return {} if stats is None else {row.split()[0]: int(row.split()[1]) for row in stats[1].splitlines()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a folder where the preset was killed (-9, with all its children) in the middle, then run to the end."""
    folder = tmp_path_factory.mktemp("experiment")
    downloads = ROOT / "results/downloads"
    if downloads.is_dir():
        shutil.copytree(downloads, folder / "results/downloads")
    process = subprocess.Popen(
        command(folder, "figures"),
        env=ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and len(list(folder.glob("results/runs/*/curve.parquet"))) < 5:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert run(folder, "--unlock").returncode == 0
    done = run(folder, "figures")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_figure_and_table_is_there(finished):
    from pipeline.plan import catalog

    for kind, known, ends in (
        ("figures", catalog.FIGURES, ("svg", "png", "csv")),
        ("tables", catalog.TABLES, ("csv", "md")),
    ):
        for name in set(known) - set(catalog.EXTRAS):
            for end in ends:
                assert (finished / f"results/test/{kind}/{name}.{end}").stat().st_size > 0


def test_the_laws_say_what_they_found(finished):
    law = read_json(finished / "results/test/laws/L_N.json")
    assert law["n_runs"] >= 4
    assert law["identified"]
    assert 0.01 < law["parameters"]["alpha_N"]["estimate"] < 0.5


def test_losses_are_those_of_models_that_learned(finished):
    sizes = pd.read_parquet(finished / "results/test/sweeps/sizes.parquet")
    first, last = sizes[sizes.step == 0].loss, sizes[sizes.final].loss
    assert first.between(5.2, 6.5).all()  # ln 300 = 5.7
    assert (last < 4.2).all()


def test_a_killed_workflow_ends_with_the_same_bytes(finished, tmp_path):
    # The runs that the kill may have hit are among the last that were written: train some again, uninterrupted.
    curves = sorted(finished.glob("results/runs/*/curve.parquet"), key=lambda path: path.stat().st_mtime)[5:9]
    for curve in curves:
        run_json = pq.read_schema(curve).metadata[b"run"].decode()
        tokens = next(finished.glob("results/tokens/*/meta.json")).parent
        again = tmp_path / curve.parent.name / "curve.parquet"
        options = ["--run", run_json, "--tokens", tokens, "--output", again, "--scratch", tmp_path / "scratch"]
        subprocess.run([sys.executable, "-m", "pipeline.train", *options], check=True, cwd=ROOT, capture_output=True)
        assert again.read_bytes() == curve.read_bytes()
        weights = "model.safetensors"
        assert (again.parent / weights).read_bytes() == (curve.parent / weights).read_bytes()


def test_nothing_is_left_to_do(finished):
    assert jobs(finished, "figures") == {}


def test_one_changed_value_reruns_only_what_depends_on_it(finished, tmp_path):
    change = tmp_path / "change.yaml"
    change.write_text("sweeps: {depths: {lr_factor: 0.5}}\n")
    planned = jobs(finished, "figures", "--configfile", str(change))
    depths = len(pd.read_parquet(finished / "results/test/sweeps/depths.parquet").run.unique())
    assert planned["train"] == depths
    assert planned["gather"] == 1
    assert "fit" not in planned
    assert "tokenize" not in planned
    assert planned["plot"] == 1
    assert jobs(finished, "figures") == {}


def test_forcing_one_stage_reruns_it_and_what_follows(finished):
    planned = jobs(finished, "figures", "--forcerun", "fit")
    assert "train" not in planned
    assert "gather" not in planned
    assert planned["fit"] >= 4
    assert planned["plot"] >= 4


def test_touching_a_run_by_its_path(finished):
    curve = next(finished.glob("results/runs/*/curve.parquet")).relative_to(finished)
    assert jobs(finished, str(curve)) == {}
