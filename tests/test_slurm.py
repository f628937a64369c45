"""The workflow through a real Slurm, started on this machine: to the end, past time limits, preempted."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import local_slurm
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]
REASON = local_slurm.why_not()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(REASON is not None, reason=f"no local Slurm: {REASON}"),
]
LONG = "sweeps: {{lr_scan: {{shape: [[2, 64]], lr: [{lr}], tokens: 1.0e+7}}}}\n"
"""One run of a minute or more on one core, in a sweep that no figure needs."""


class Cluster:
    """A fresh clone of the checkout, for `snakemake --profile slurm` at its top."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("CLUSTER_")}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def command(self, *arguments):
        quick = ["--slurm-init-seconds-before-status-checks=3", "--seconds-between-status-checks=3", "--max-threads=2"]
        start = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--quiet", "progress"]
        return [*start, *quick, *arguments, "--config", "preset=test"]

    def snakemake(self, *arguments, seconds=900, **environment):
        """Run snakemake and return what it printed; never longer than `seconds`."""
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert process.returncode == 0, output[-8000:]
        return output

    def slurm_logs(self):
        """Return what the jobs that failed printed (Snakemake removes the logs of the others)."""
        return "\n".join(path.read_text() for path in (self.folder / ".snakemake/slurm_logs").rglob("*.log"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster") / "clone"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    downloads = ROOT / "results/downloads"
    if downloads.is_dir():
        shutil.copytree(downloads, folder / "results/downloads")
    with local_slurm.local_slurm():
        yield Cluster(folder)


def long_run(cluster, name, lr):
    """Return the options that add the long run to the test preset, and its id."""
    override = cluster.folder / f"{name}.yaml"
    override.write_text(LONG.format(lr=lr))
    options = ["--configfile", str(override)]
    plan = cluster.snakemake("lr_scan", "--dry-run", *options)
    return options, re.search(r"results/runs/(\S+-2x64-\S+)/curve.parquet", plan)[1]


def interruptions(cluster):
    """Return the steps at which the run was interrupted and saved."""
    text = cluster.slurm_logs()
    return sorted({int(step) for step in re.findall(r"interrupted at step (\d+) of \d+: state saved", text)})


def steps_of_last_process(cluster, run):
    return int(re.search(r"(\d+) steps,", (cluster.folder / f"logs/train/{run}.log").read_text())[1])


def assert_same_as_uninterrupted(cluster, run, folder):
    curve = cluster.folder / f"results/runs/{run}/curve.parquet"
    tokens = next(cluster.folder.glob("results/tokens/*/meta.json")).parent
    again = folder / "curve.parquet"
    options = ["--run", pq.read_schema(curve).metadata[b"run"].decode(), "--tokens", tokens, "--output", again]
    command = [sys.executable, "-m", "pipeline.train", *options, "--scratch", folder / "scratch"]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=600)
    assert again.read_bytes() == curve.read_bytes()
    assert (folder / "model.safetensors").read_bytes() == (curve.parent / "model.safetensors").read_bytes()


def test_the_preset_runs_to_the_end(cluster):
    output = cluster.snakemake("figures")
    assert list(cluster.folder.glob("results/test/figures/fig01.svg"))
    assert list(cluster.folder.glob("results/test/tables/table2.csv"))
    runs = len(list(cluster.folder.glob("results/runs/*/curve.parquet")))
    jobs = len(re.findall(r"group_train_train", output))
    assert jobs == -(-runs // 4)  # four runs to a job
    assert "Nothing to be done" in cluster.snakemake("figures", "--dry-run")


def test_a_run_longer_than_the_time_limit_goes_on_job_after_job(cluster, tmp_path):
    options, run = long_run(cluster, "limit", lr=0.01)
    curve = f"results/runs/{run}/curve.parquet"
    cluster.snakemake(curve, "--retries=9", *options, CLUSTER_MINUTES="2", CLUSTER_PARTITION="main")
    saved = interruptions(cluster)
    schema = pq.read_schema(cluster.folder / curve)
    n_steps = int(re.search(r'"n_steps": ?(\d+)', schema.metadata[b"run"].decode())[1])
    assert saved
    assert steps_of_last_process(cluster, run) == n_steps - saved[-1]  # not a step was done twice
    assert_same_as_uninterrupted(cluster, run, tmp_path)


def test_a_preempted_run_goes_on_when_slurm_starts_it_again(cluster, tmp_path):
    options, run = long_run(cluster, "preempted", lr=0.009)
    curve = cluster.folder / f"results/runs/{run}/curve.parquet"
    process = subprocess.Popen(
        cluster.command(str(curve.relative_to(cluster.folder)), *options),
        cwd=cluster.folder,
        env=cluster.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        log = cluster.folder / f"logs/train/{run}.log"
        end = time.monotonic() + 300
        while not log.exists():  # the shell makes it when the trainer starts
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.5)
        time.sleep(15)
        subprocess.run(["srun", "--partition=urgent", "--exclusive", "true"], check=True, timeout=300)
        assert process.wait(timeout=600) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    n_steps = int(re.search(r'"n_steps": ?(\d+)', pq.read_schema(curve).metadata[b"run"].decode())[1])
    assert steps_of_last_process(cluster, run) < n_steps
    assert_same_as_uninterrupted(cluster, run, tmp_path)


def test_a_gpu_is_asked_for_by_type(cluster):
    options, run = long_run(cluster, "gpu", lr=0.008)
    plan = cluster.snakemake(
        f"results/runs/{run}/curve.parquet", "--dry-run", *options, CLUSTER_GPU="paper", CLUSTER_ACCOUNT="lab"
    )
    assert re.search(r"slurm_account=lab.* gpu=1, gpu_model=paper", plan)
