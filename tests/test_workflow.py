"""The workflow as Snakemake sees it: what is planned, what reruns when one value changes, how errors read.

Dry runs in real processes. They need no data and train nothing.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from workplace import planned_jobs

from pipeline.plan import catalog

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]


def snakemake(*arguments, cwd=ROOT):
    """Run snakemake with this interpreter's environment first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = [] if "--snakefile" in arguments else ["--snakefile", str(ROOT / "Snakefile")]
    command = [sys.executable, "-m", "snakemake", *own, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=300
    )


def planned(*arguments, cwd):
    """Return rule -> number of jobs of a dry run."""
    return planned_jobs(snakemake("--dry-run", "--cores", "2", *arguments, cwd=cwd))


@pytest.fixture
def override(tmp_path):
    """Return a function that writes a config file to lie over the preset."""

    def write(**sections):
        path = tmp_path / "override.yaml"
        path.write_text(yaml.safe_dump(sections))
        return ["--configfile", str(path)]

    return write


@pytest.mark.parametrize("preset", ["test", "laptop", "h100", "paper"])
def test_every_preset_resolves(preset, tmp_path):
    jobs = planned("figures", "--config", f"preset={preset}", cwd=tmp_path)
    assert jobs["train"] >= 10
    assert jobs["plot"] >= 6


@pytest.mark.parametrize("target", ["data", "runs", "evaluations", "laws", "tables", "figures"])
def test_every_stage_is_a_target(target, tmp_path):
    done = snakemake("--dry-run", "--cores", "2", target, "--config", "preset=test", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_without_a_target_everything_is_made(tmp_path):
    everything = planned("figures", "--config", "preset=test", cwd=tmp_path)
    default = planned("--config", "preset=test", cwd=tmp_path)
    assert everything.pop("figures") == default.pop("all") == 1
    assert default == everything


def test_the_slurm_profile_resolves(tmp_path):
    done = snakemake("--dry-run", "--profile", str(ROOT / "slurm"), "figures", "--config", "preset=test", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint():
    done = snakemake("--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_other_text_what_shows_it_is_left_out(override, tmp_path):
    own_text_alone = override(data={"transfer": []})
    jobs = planned("figures", *own_text_alone, "--config", "preset=test", cwd=tmp_path)
    assert jobs["plot"] == len(set(catalog.FIGURES) - set(catalog.EXTRAS)) - 1
    asked = snakemake("-n", "--cores", "1", *override(data={"transfer": []}, figures=["fig08"]), cwd=tmp_path)
    assert (
        "figures: fig08 can't be made: it shows the loss on text that was never trained on"
        in asked.stdout + asked.stderr
    )


ODD = ("scaling (1)", "it's", 'a"b', "sp ace [2]", "na\u00efve $HOME;")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a function that copies what a checkout needs to run into a folder of any name."""

    def copy(name):
        folder = tmp_path_factory.mktemp("odd") / name
        left_out = shutil.ignore_patterns(".*", "results", "logs", "__pycache__", "docs", "tests")
        shutil.copytree(ROOT, folder, ignore=left_out, symlinks=True)
        return folder

    return copy


@pytest.mark.parametrize("name", ODD)
def test_a_checkout_of_any_name_runs_from_within_and_from_elsewhere(name, checkout, tmp_path):
    folder = checkout(name)
    for cwd, options in ((folder, []), (tmp_path, ["--directory", str(tmp_path / f"work {name}")])):
        start = ["--snakefile", str(folder / "Snakefile"), *options, "--cores", "1"]
        done = snakemake(*start, "plan", "--config", "preset=test", cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "of training on" in done.stdout
        done = snakemake(*start, "--dry-run", "figures", "report", "--config", "preset=test", cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_checkout_with_braces_in_its_name_is_refused_in_one_line(checkout, tmp_path):
    folder = checkout("a{b}c")
    done = snakemake("--snakefile", str(folder / "Snakefile"), "--cores", "1", "plan", cwd=tmp_path)
    assert done.returncode != 0
    assert "Snakemake takes braces in a path for wildcards: rename the folder" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("sections", "word"),
    [
        ({"traning": {}}, "traning is not a key"),
        ({"training": {"dropout": -1}}, "training/dropout: -1 is not allowed"),
        (
            {"sweeps": {"sizes": {"variants": [{"shape": [[2, 64, 5]]}]}}},
            "sweeps/sizes/variants/0/shape: n_head: 5 does not divide d_model 64",
        ),
        (
            {"sweeps": {"sizes": {"variants": [{"shape": [[2, 64]]}], "shown_only": []}}},
            "sweeps/sizes: L_C needs fitted sizes of model (shape): at least 3; there is 1",
        ),
        ({"figures": ["fig99"]}, "figures: 'fig99' is not one of"),
        ({"data": {"train": ["nothing"]}}, "data/train: 'nothing' is not a corpus"),
    ],
)
def test_a_wrong_config_is_one_line_before_any_job(sections, word, override, tmp_path):
    done = snakemake("--dry-run", "--cores", "1", "figures", *override(**sections), cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert word in said
    assert "Traceback" not in said
