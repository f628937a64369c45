"""The workflow as Snakemake sees it: what is planned, what reruns when one value changes, how errors read.

Dry runs in real processes. They need no data and train nothing.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]


def snakemake(*arguments, cwd=ROOT):
    """Run snakemake with this interpreter's environment first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *arguments]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=300
    )


def planned(*arguments, cwd):
    """Return rule -> number of jobs of a dry run."""
    done = snakemake("--dry-run", "--cores", "2", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    stats = re.search(r"job +count\n-+ +-+\n(.*?)\ntotal", done.stdout + done.stderr, re.S)
    return {} if stats is None else {row.split()[0]: int(row.split()[1]) for row in stats[1].splitlines()}


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


@pytest.mark.parametrize(
    ("sections", "word"),
    [
        ({"traning": {}}, "traning is not a key"),
        ({"training": {"dropout": -1}}, "training/dropout: -1 is not allowed"),
        (
            {"sweeps": {"sizes": {"variants": [{"shape": [[2, 64, 5]]}]}}},
            "sweeps: sizes: n_head: 5 does not divide d_model 64",
        ),
        ({"sweeps": {"sizes": {"variants": [{"shape": [[2, 64]]}]}}}, "the sweep sizes has 1 fitted sizes of model"),
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
