"""The workflow through a real Slurm, started on this machine: to the end, past time limits, preempted."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import local_slurm
import pytest
from safetensors import safe_open

ROOT = Path(__file__).parents[1]
REASON = local_slurm.why_not()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(REASON is not None, reason=f"no local Slurm: {REASON}"),
]
QUICK = ("--slurm-init-seconds-before-status-checks=3", "--seconds-between-status-checks=3", "--max-threads=2")
FEW_JOBS = ("--group-components", "train=18", "gather=7", "fit=7", "figures=16")
ACCOUNTING = ("sacct", "sacctmgr", "sshare")


class Cluster:
    """A fresh clone of the checkout, for `snakemake --profile slurm` at its top."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("CLUSTER_")}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    @contextmanager
    def started(self, *arguments, **environment):
        """Start snakemake; after the block it has ended well, within some minutes."""
        start = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--quiet", "progress", *QUICK]
        with open(self.folder / "output.log", "w+") as log:
            process = subprocess.Popen(
                [*start, *arguments, "--config", "preset=test"],
                cwd=self.folder,
                env=self.environment | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process
                process.wait(timeout=900)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        assert process.returncode == 0, self.output()[-8000:]

    def snakemake(self, *arguments, **environment):
        """Run snakemake to its end and return what it printed."""
        with self.started(*arguments, **environment):
            pass
        return self.output()

    def output(self):
        return (self.folder / "output.log").read_text()

    def runs(self, name, *variants):
        """Return the options that make runs of two layers of width 64 the learning-rate scan; and id -> run as JSON."""
        override = self.folder / f"{name}.yaml"
        override.write_text(f"sweeps: {{lr_scan: {{shape: [[2, 64]], variants: [{', '.join(variants)}]}}}}\n")
        options = ["--configfile", str(override)]
        plan = self.snakemake("lr_scan", "--dry-run", "--printshellcmds", *options)
        return options, {run: text for text, run in re.findall(r"--run '(.*)' .*?--output results/runs/(\S+)/", plan)}

    def targets(self, runs):
        return [f"results/runs/{run}/curve.parquet" for run in runs]

    def curve(self, run):
        return self.folder / f"results/runs/{run}/curve.parquet"

    def log(self, run):
        """Return what the last process of the run printed."""
        path = self.folder / f"logs/train/{run}.log"
        return path.read_text() if path.exists() else ""

    def trains(self, run, seconds=5):
        """Return whether a trainer of the run has been at work for so long: its log is there, and empty to its end."""
        path = self.folder / f"logs/train/{run}.log"
        return path.exists() and path.stat().st_size == 0 and time.time() - path.stat().st_mtime > seconds

    def saved_step(self, run):
        """Return the step of the run's saved state."""
        with safe_open(self.folder / f"results/scratch/{run}/checkpoint.safetensors", framework="numpy") as file:
            return json.loads(file.metadata()["checkpoint"])["progress"]["step"]


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


@pytest.fixture(scope="module")
def tokens(cluster):
    """The folder of the test preset's token files, made through Slurm."""
    cluster.snakemake("data")
    (meta,) = cluster.folder.glob("results/tokens/*/meta.json")
    return meta.parent


@pytest.fixture(scope="module")
def plan_and_jobs(cluster, tokens, tmp_path_factory):
    """The test preset, run with every variable, on a machine without sacct; its plan, and Slurm's word on its jobs."""
    commands = tmp_path_factory.mktemp("commands")
    for folder in os.environ["PATH"].split(os.pathsep)[::-1]:
        for path in Path(folder).iterdir() if Path(folder).is_dir() else ():
            (commands / path.name).unlink(missing_ok=True)
            if path.name not in ACCOUNTING:
                (commands / path.name).symlink_to(path)
    settings = {"CLUSTER_GPU": "paper", "CLUSTER_ACCOUNT": "lab", "CLUSTER_PARTITION": "main"}
    settings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{commands}"
    assert shutil.which("sacct", path=settings["PATH"]) is None
    plan = cluster.snakemake("figures", "--dry-run", *FEW_JOBS, **settings)
    earlier = len(jobs())
    cluster.snakemake("figures", *FEW_JOBS, **settings)
    return plan, jobs()[earlier:]


def jobs():
    """Return what Slurm knows of each job: name -> value."""
    text = subprocess.run(["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True).stdout
    return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in text.splitlines()]


def minutes(limit):
    """Return the minutes of Slurm's [days-]hours:minutes:seconds."""
    days, _, clock = limit.rpartition("-")
    hours, rest, _ = clock.split(":")
    return 1440 * int(days or 0) + 60 * int(hours) + int(rest)


def wait_until(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.2)


@contextmanager
def same_as_uninterrupted(cluster, tokens, runs, folder):
    """Train the runs on this machine's other core meanwhile; after the block the cluster's files are the same bytes."""

    def train(run):
        options = ["--run", runs[run], "--tokens", tokens, "--output", folder / run / "curve.parquet"]
        command = [sys.executable, "-m", "pipeline.train", *options, "--scratch", folder / "scratch" / run]
        return subprocess.run(command, cwd=cluster.folder, capture_output=True, timeout=600, check=True)

    with ThreadPoolExecutor(max_workers=1) as pool:
        trainings = [pool.submit(train, run) for run in runs]
        yield
        for training in trainings:
            training.result()
    for run in runs:
        for name in ("curve.parquet", "model.safetensors"):
            assert (folder / run / name).read_bytes() == cluster.curve(run).with_name(name).read_bytes()


def test_the_preset_runs_to_the_end(cluster, plan_and_jobs):
    assert list(cluster.folder.glob("results/test/figures/fig01.svg"))
    assert list(cluster.folder.glob("results/test/tables/table2.csv"))
    assert {job["JobState"] for job in plan_and_jobs[1]} == {"COMPLETED"}
    assert not list(cluster.folder.glob("results/scratch/finished/*"))
    assert "Nothing to be done" in cluster.snakemake("figures", "--dry-run", *FEW_JOBS)


def test_a_group_asks_for_the_hardware_of_one_run_and_the_sum_of_the_minutes(plan_and_jobs):
    plan, submitted = plan_and_jobs
    runs = re.findall(r"rule (train|evaluate):.*?mem_mb=(\d+).*?runtime=(\d+)", plan, re.DOTALL)
    groups = [job for job in submitted if job["Comment"].endswith("_train")]
    trained = sum(rule == "train" for rule, _, _ in runs)
    assert len(groups) == -(-trained // 18) < trained < len(runs)
    assert sum(minutes(job["TimeLimit"]) for job in groups) == sum(int(runtime) for _, _, runtime in runs)
    assert max(int(job["MinMemoryNode"][:-1]) for job in groups) == max(int(memory) for _, memory, _ in runs)
    assert all(job["NumCPUs"] == "1" and job["NumNodes"] == "1" for job in groups)
    assert {job["TresPerJob"] for job in groups} == {"gres:gpu:paper:1"}


def test_account_partition_and_gpu_come_from_the_environment(plan_and_jobs):
    _, submitted = plan_and_jobs
    assert {(job["Account"], job["Partition"]) for job in submitted} == {("lab", "main")}
    with_gpu = {job["Comment"] for job in submitted if "TresPerJob" in job}
    trunks = {comment for comment in with_gpu if comment.startswith("rule_trunk_")}
    assert len(trunks) == 3 and {comment[-6:] for comment in with_gpu - trunks} == {
        "_train"
    }  # none for fits and figures


def test_a_run_longer_than_the_time_limit_goes_on_job_after_job(cluster, tokens, tmp_path):
    options, runs = cluster.runs("limit", "{lr: 0.01, tokens: 3.0e+7}")
    (run,) = runs
    earlier = len(jobs())
    with same_as_uninterrupted(cluster, tokens, runs, tmp_path):
        printed = cluster.snakemake(*cluster.targets(runs), "--retries=9", *options, CLUSTER_MINUTES="3")
    limited = jobs()[earlier:]
    assert len(limited) > 1 and {job["TimeLimit"] for job in limited} == {"00:02:00"}
    saved = sorted({int(step) for step in re.findall(r"interrupted at step (\d+) of", printed)})
    assert len(saved) == len(limited) - 1
    assert f" {json.loads(runs[run])['n_steps'] - saved[-1]} steps," in cluster.log(run)  # not a step was done twice


def test_a_job_that_is_cancelled_and_preempted_loses_nothing(cluster, tokens, tmp_path):
    """Two runs share a job. While the second one trains, the job is cancelled; then its successor is preempted."""
    options, runs = cluster.runs("pair", "{lr: 0.009, tokens: 8.0e+6}", "{lr: 0.008, tokens: 8.0e+6}")
    earlier = len(jobs())
    with (
        same_as_uninterrupted(cluster, tokens, runs, tmp_path),
        cluster.started(*cluster.targets(runs), *options) as process,
    ):
        wait_until(lambda: any(cluster.curve(run).exists() for run in runs), process)
        first, second = sorted(runs, key=lambda run: cluster.curve(run).exists(), reverse=True)
        wait_until(lambda: cluster.trains(second), process)
        (job,) = (job for job in jobs() if job["JobState"] == "RUNNING")
        subprocess.run(["scancel", job["JobId"]], check=True)
        wait_until(lambda: not cluster.curve(first).exists(), process)  # Snakemake deletes the files of both
        cancelled_at = cluster.saved_step(second)
        wait_until(lambda: "finished before" in cluster.log(first) and cluster.trains(second), process)
        subprocess.run(["srun", "--partition=urgent", "--exclusive", "true"], check=True, timeout=300)
        preempted_at = cluster.saved_step(second)
    n_steps = json.loads(runs[second])["n_steps"]
    assert 0 < cancelled_at < preempted_at < n_steps
    assert f" {n_steps - preempted_at} steps," in cluster.log(second)
    assert [job["Restarts"] for job in jobs()[earlier:] if job["Partition"] == "main"] == ["0", "1"]
