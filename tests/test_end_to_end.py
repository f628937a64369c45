"""The test preset from text to figures, in real processes: killed in the middle, gone on with, and asked again."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pandas as pd
import pyarrow.parquet as pq
import pytest
from workplace import ROOT, clear_lock, make, planned_jobs, run, start

from pipeline.files import read_json
from pipeline.plan import catalog

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("end_to_end")]


def jobs(folder, *arguments):
    """Return rule -> number of jobs that would run."""
    return planned_jobs(run(folder, "--dry-run", *arguments))


def named_jobs(folder, *arguments):
    """Return the jobs that would run as (rule, figure or table or law or sweep; "" where it has none)."""
    done = run(folder, "--dry-run", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found = set()
    for block in re.split(r"\n(?=(?:local)?rule \w+:)", done.stdout + done.stderr):
        if rule := re.match(r"(?:local)?rule (\w+):", block):
            name = re.search(r"wildcards: .*?(?:figure|table|law|sweep)=(\w+)", block)
            found.add((rule[1], name[1] if name else ""))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a folder where the preset was killed (-9, with all its children) in the middle, then run to the end.

    It has a checkout of its own, which tests may edit.
    """
    folder = make(tmp_path_factory.mktemp("experiment"))
    process = start(folder, "figures")
    while process.poll() is None and len(list(folder.glob("results/runs/*/curve.parquet"))) < 5:
        time.sleep(0.2)
    assert "is locked by a Snakemake that runs" in clear_lock(folder)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert "LockException" in run(folder, "figures").stderr
    assert "is cleared" in clear_lock(folder)
    done = run(folder, "figures")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"By its plan this takes .* on 2 cores of this machine", done.stderr)
    assert "] 100 % of the planned work\n" in done.stderr
    return folder


def test_every_figure_and_table_is_there(finished):
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


@pytest.fixture
def other_depths(tmp_path):
    """Return a config whose sweep `depths` has runs of its own."""
    change = tmp_path / "change.yaml"
    change.write_text("sweeps: {depths: {lr_factor: 0.5}}\n")
    return change


def test_one_changed_value_reruns_only_what_depends_on_it(finished, other_depths):
    planned = jobs(finished, "figures", "--configfile", str(other_depths))
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


def test_a_run_that_is_touched_reruns_nothing_and_one_that_is_lost_is_trained_again(finished):
    curve = next(finished.glob("results/runs/*/curve.parquet"))
    curve.touch()
    assert jobs(finished, "figures") == {}
    with aside(curve):
        assert jobs(finished, str(curve.relative_to(finished))) == {"train": 1}
    assert jobs(finished, str(curve.relative_to(finished))) == {}


@contextmanager
def aside(path):
    """Rename a file as long as the context lasts."""
    moved = path.rename(path.with_name("aside"))
    try:
        yield
    finally:
        moved.rename(path)


def test_tokens_made_again_train_nothing_that_is_finished_and_hide_nothing_that_is_not(finished):
    assert not {"train", "evaluate"} & jobs(finished, "figures", "--forcerun", "tokenize").keys()
    figure, curve = finished / "results/test/figures/fig02.svg", next(finished.glob("results/runs/*/curve.parquet"))
    with aside(figure):
        assert ("plot", "fig02") in named_jobs(finished, "figures", "--forcerun", "tokenize")
    with aside(curve):
        assert jobs(finished, "figures", "--forcerun", "tokenize")["train"] == 1


def test_tokens_that_are_gone_train_nothing_that_is_finished(finished, other_depths):
    planned = jobs(finished, "figures", "--configfile", str(other_depths))
    (meta,) = finished.glob("results/tokens/*/meta.json")
    with aside(meta):
        assert jobs(finished, "figures") == {}
        again = jobs(finished, "figures", "--configfile", str(other_depths))
    assert again["tokenize"] == 1
    assert again["train"] == planned["train"]
    assert "evaluate" not in again


@pytest.fixture
def edit(finished):
    """Return a function that adds lines to files of the checkout, or makes them; all is put back at the end."""
    before = {}

    def add(path, lines="# an edit\n"):
        file = finished / "checkout" / path
        before[file] = file.read_bytes() if file.exists() else None
        file.write_text((before[file] or b"").decode() + lines)

    yield add
    for file, content in before.items():
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)


ALL = {
    *((kind, name) for kind, names in (("plot", catalog.FIGURES), ("tabulate", catalog.TABLES)) for name in names),
    *(("fit", name) for name in catalog.LAWS),
}
EXTRA = {(kind, name) for kind, name in ALL if name in (*catalog.EXTRAS, "chinchilla")}
SWEEPS = {name for needs in (*catalog.FIGURES.values(), *catalog.TABLES.values()) for name in needs.sweeps}
EVALUATED = {name for needs in (*catalog.FIGURES.values(), *catalog.TABLES.values()) for name in needs.evaluations}
GATHERED = {("gather", name) for name in SWEEPS} | {("gather_evaluations", name) for name in EVALUATED}
GATHERED -= {("gather", name) for name in ("lr_scan", "precision", "validation")}


@pytest.mark.parametrize(
    ("file", "planned"),
    [
        ("plan/counts", ALL - EXTRA | GATHERED),
        ("analysis/points", {(kind, name) for kind, name in ALL - EXTRA if kind == "fit"}),
        ("analysis/evaluated", {("plot", f"fig{k:02}") for k in (7, 8, 20, 21, 24)} | {("tabulate", "claims")}),
        ("claims/measure", {("tabulate", "claims")}),
        ("laws/algebra/contradiction", {("plot", "fig15"), ("tabulate", "claims")}),
        ("figures/fig09", {("plot", "fig09")}),
        ("tables/table2", {("tabulate", "table2")}),
        ("models/lstm", ALL - EXTRA | GATHERED),
        ("train/trainer", set()),
        ("engines/native", set()),
    ],
)
def test_an_edit_reruns_what_it_can_change(file, planned, finished, edit):
    edit(f"pipeline/{file}.py")
    found = named_jobs(finished, "figures") - {("figures", "")}
    if file == "analysis/points":  # what reads a law or its points follows
        found = {(kind, name) for kind, name in found if kind not in ("plot", "tabulate")}
    assert found == planned


def test_an_edit_of_a_rule_or_of_the_environment_trains_nothing_again(finished, edit):
    rule = finished / "checkout/rules/train.smk"
    edit("rules/train.smk", "")
    rule.write_text(rule.read_text().replace("--timing", "--threads 1 --timing"))
    edit("environment.yml")
    assert jobs(finished, "figures") == {}


def test_a_new_figure_is_drawn_alone(finished, edit):
    edit("pipeline/figures/mine.py", (ROOT / "pipeline/figures/fig02.py").read_text())
    edit("pipeline/plan/catalog.py", '\nFIGURES["mine"] = Needs(sweeps=("sizes",))\n')
    assert named_jobs(finished, "figures") - {("figures", "")} == {("plot", "mine")}
    assert run(finished, "results/test/figures/mine.svg").returncode == 0
    mine, fig02 = ((finished / f"results/test/figures/{name}.csv").read_bytes() for name in ("mine", "fig02"))
    assert mine == fig02
