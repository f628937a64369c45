"""`make faults`: the test preset killed a hundred times, on a full disk, with damaged files, and twice at once.

KILLS says how many kills are to be survived. All of it takes about an hour on two cores.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from workplace import ENVIRONMENT, ROOT, clear_lock, command, digests, make, run, start

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("faults")]
KILLS = int(os.environ.get("KILLS", "100"))
PATIENCE = 300  # seconds that a workflow may take to end after a signal


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return a folder where the preset ran to its end in one go."""
    folder = make(tmp_path_factory.mktemp("undisturbed"))
    done = run(folder, "figures")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


# Kills


def whole_group(number):
    """Return how a signal is sent to Snakemake and its jobs, as a terminal or a power cut does."""
    return lambda process: os.killpg(process.pid, number)


def alone(number):
    """Return how a signal is sent to Snakemake alone; after -9 its jobs go on."""
    return lambda process: os.kill(process.pid, number)


BLOWS = {
    "SIGTERM": alone(signal.SIGTERM),
    "SIGTERM to all": whole_group(signal.SIGTERM),
    "SIGHUP to all": whole_group(signal.SIGHUP),
    "SIGKILL": alone(signal.SIGKILL),
    "SIGKILL to all": whole_group(signal.SIGKILL),
}


def wait_for_jobs(folder, process):
    """Wait until Snakemake starts its first jobs, or ends."""
    while process.poll() is None and "\nExecute " not in (folder / "console.txt").read_text():
        time.sleep(0.1)


def strike(folder, blow, chance):
    """Start the workflow, send a signal at a random moment, and return whether it was still running then."""
    clear_lock(folder)
    process = start(folder, "figures")
    if chance.random() < 0.15:  # while Snakemake starts
        time.sleep(chance.uniform(0.0, 4.0))
    else:
        wait_for_jobs(folder, process)
        time.sleep(chance.uniform(0.0, 12.0))
    if process.poll() is not None:
        assert process.returncode == 0, (folder / "console.txt").read_text()
        return False
    blow(process)
    process.wait(timeout=PATIENCE)
    return True


def test_kills_at_random_moments_end_with_the_same_bytes(undisturbed, tmp_path):
    wanted, chance = digests(undisturbed), random.Random(20200123)
    folder, survived, passes = make(tmp_path / "killed"), dict.fromkeys(BLOWS, 0), 0
    while sum(survived.values()) < KILLS:
        name = chance.choice(list(BLOWS))
        if strike(folder, BLOWS[name], chance):
            survived[name] += 1
            continue
        assert digests(folder) == wanted  # it came to its end between two kills: begin again
        passes += 1
        for path in (folder / "results").iterdir():
            if path.name != "downloads":
                shutil.rmtree(path)
    clear_lock(folder)
    done = run(folder, "figures")
    assert done.returncode == 0, done.stdout + done.stderr
    assert digests(folder) == wanted
    print(f"survived {sum(survived.values())} kills in {passes + 1} passes: {survived}")


# A full disk


def test_a_full_disk_stops_every_stage_and_with_room_it_goes_on(undisturbed, tmp_path):
    own_mount = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*own_mount, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets no process mount a disk of its own")
    folder = make(tmp_path / "full")
    script = [sys.executable, str(ROOT / "tests/full_disk.py"), str(folder)]
    done = subprocess.run([*own_mount, *script], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    *stages, last = map(json.loads, done.stdout.splitlines())
    assert {stage["target"] for stage in stages} == {"data", "runs", "evaluations", "laws", "figures"}
    for stage in stages:
        assert stage["full"][0]["code"] != 0, stage
        assert stage["room"]["code"] == 0, stage
        for attempt in stage["full"]:
            assert "Traceback" not in attempt["said"], attempt["said"]
            assert attempt["code"] == 0 or "No space left on device" in attempt["said"], attempt["said"]
    assert last == digests(undisturbed)


# Damaged files


def one(folder, pattern, which=0):
    """Return one file of a finished experiment."""
    return sorted(folder.glob(f"results/{pattern}"))[which]


# kind: the file, what reads it (a file that is made from it), and a file of the same kind that is not it
KINDS = {
    "documents": (
        "corpora/news-*/documents-00000.parquet",
        "tokens/*/meta.json",
        "corpora/wiki*/documents-00000.parquet",
    ),
    "corpus": ("corpora/news-*/meta.json", "tokens/*/meta.json", "corpora/wikipedia-*/meta.json"),
    "tokenizer": ("tokens/*/tokenizer.json", "tokens/*/meta.json", "tokens/*/meta.json"),
    "training tokens": ("tokens/*/train.bin", "runs/transformer-2x16-b64-*/curve.parquet", "tokens/*/test.bin"),
    "test tokens": (
        "tokens/*/test.bin",
        "runs/transformer-2x16-b64-*/curve.parquet",
        "tokens/*/transfer-wikipedia.bin",
    ),
    "tokens": ("tokens/*/meta.json", "runs/transformer-2x16-b64-*/curve.parquet", "corpora/news-*/meta.json"),
    "weights": (
        "runs/lstm-1x16-*/model.safetensors",
        "runs/lstm-1x16-*/evaluation.parquet",
        "runs/lstm-1x32-*/model.safetensors",
    ),
    "snapshots": (
        "runs/*-2x80-*/snapshots.safetensors",
        "runs/*-2x80-*/evaluation.parquet",
        "runs/lstm-1x16-*/model.safetensors",
    ),
    "curve": ("runs/lstm-1x16-*/curve.parquet", "test/sweeps/lstms.parquet", "runs/lstm-1x32-*/curve.parquet"),
    "evaluation": (
        "runs/lstm-1x16-*/evaluation.parquet",
        "test/evaluations/lstms.parquet",
        "runs/lstm-1x32-*/evaluation.parquet",
    ),
    "sweep": ("test/sweeps/sizes.parquet", "test/laws/L_N.json", "test/sweeps/data.parquet"),
    "sweep of a figure": ("test/sweeps/sizes.parquet", "test/figures/fig02.csv", "test/sweeps/data.parquet"),
    "evaluations": ("test/evaluations/lstms.parquet", "test/figures/fig07.csv", "test/evaluations/short.parquet"),
    "law": ("test/laws/L_N_S.json", "test/tables/table3.csv", "test/laws/L_N_D.json"),
    "law of a law": ("test/laws/B_crit.json", "test/laws/L_N_S.json", "test/laws/L_N.json"),
    "points": ("test/points/L_N.parquet", "test/figures/fig23.csv", "test/points/L_N_D.parquet"),
}


def halved(content, other):
    return content[: len(content) // 2]


def emptied(content, other):
    return b""


def anothers(content, other):
    return other


@pytest.mark.parametrize("damage", [halved, emptied, anothers])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_or_made_again(kind, damage, undisturbed):
    pattern, made, another = KINDS[kind]
    file, target = one(undisturbed, pattern), one(undisturbed, made)
    kept, wanted = file.read_bytes(), target.read_bytes()
    try:
        file.write_bytes(damage(kept, one(undisturbed, another).read_bytes()))
        done = run(undisturbed, str(target.relative_to(undisturbed)), "--force", "--rerun-triggers", "code")
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        if done.returncode == 0:
            assert target.read_bytes() == wanted  # it was not needed, or made again
        else:
            assert file.name in said or file.parent.name in said, said
    finally:
        file.write_bytes(kept)
        done = run(undisturbed, str(target.relative_to(undisturbed)), "--force")
        assert done.returncode == 0, done.stdout + done.stderr
    assert target.read_bytes() == wanted


# Two at once


def test_a_second_workflow_in_one_folder_leaves_the_first_unharmed(undisturbed, tmp_path):
    folder = make(tmp_path / "one")
    first = start(folder, "figures")
    wait_for_jobs(folder, first)
    second = run(folder, "figures")
    assert second.returncode != 0
    assert "LockException" in second.stderr
    assert "is locked by a Snakemake that runs" in clear_lock(folder)
    assert first.wait() == 0, (folder / "console.txt").read_text()
    assert digests(folder) == digests(undisturbed)


def test_two_workflows_that_share_an_empty_cache_of_kernels(undisturbed, tmp_path):
    target = "results/test/sweeps/recurrent.parquet"
    environment = ENVIRONMENT | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    folders = [make(tmp_path / name) for name in ("left", "right")]
    both = [subprocess.Popen(command(folder, target), env=environment, stderr=subprocess.DEVNULL) for folder in folders]
    assert [process.wait() for process in both] == [0, 0]
    for folder in folders:
        assert (folder / target).read_bytes() == (undisturbed / target).read_bytes()
    assert len(list(Path(tmp_path / "cache").rglob("*.so"))) >= 1
