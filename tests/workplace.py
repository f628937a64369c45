"""A folder in which workflows of the test preset run as real processes, with a checkout of its own to edit."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
PASSING = ("downloads", "scratch")  # folders of results/ that no figure is made from


def make(folder: Path) -> Path:
    """Copy what a checkout needs to run, and downloads that are there already; return the folder."""
    left_out = shutil.ignore_patterns(".*", "results", "logs", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, folder / "checkout", ignore=left_out, symlinks=True)
    if (ROOT / "results/downloads").is_dir():
        shutil.copytree(ROOT / "results/downloads", folder / "results/downloads")
    return folder


def command(folder: Path, *arguments: str) -> list[str]:
    """Return a snakemake command of the checkout in `folder`, that works in `folder`."""
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(folder / "checkout/Snakefile")]
    profile = ["--directory", str(folder), "--workflow-profile", str(folder / "checkout/profiles/default")]
    return [*start, *profile, "--cores", "2", *arguments, "--config", "preset=test"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a workflow to its end."""
    return subprocess.run(command(folder, *arguments), env=ENVIRONMENT, capture_output=True, text=True)


def planned_jobs(dry_run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return rule -> number of jobs that a dry run, which must succeed, says would run."""
    said = dry_run.stdout + dry_run.stderr
    assert dry_run.returncode == 0, said
    stats = re.search(r"job +count\n-+ +-+\n(.*?)\ntotal", said, re.S)
    return {} if stats is None else {row.split()[0]: int(row.split()[1]) for row in stats[1].splitlines()}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a workflow in a process group of its own; what it says goes to console.txt."""
    with (folder / "console.txt").open("w") as console:
        return subprocess.Popen(
            command(folder, *arguments), env=ENVIRONMENT, start_new_session=True, stdout=console, stderr=console
        )


def clear_lock(folder: Path) -> str:
    """Return what the command that clears a dead workflow's lock says."""
    command = [sys.executable, "-m", "pipeline.lock", "--directory", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr


def digests(folder: Path) -> dict[str, str]:
    """Return file -> SHA-256 of all results that figures, tables and report are made from."""
    results = folder / "results"
    files = (
        path for path in results.rglob("*") if path.is_file() and path.relative_to(results).parts[0] not in PASSING
    )
    return {str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
