"""The lock of a killed workflow is cleared, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import lock


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A folder with a lock and the name of this machine."""
    (tmp_path / lock.LOCKS).mkdir(parents=True)
    (tmp_path / lock.LOCKS / "0.input.lock").write_text("a\n")
    lock.record_host(tmp_path)
    return tmp_path


def test_a_folder_without_a_lock_is_left_alone(tmp_path: Path) -> None:
    assert lock.clear_if_dead(tmp_path) is None


def test_the_lock_of_a_dead_workflow_is_cleared(locked: Path) -> None:
    assert "is cleared" in lock.clear_if_dead(locked)
    assert not lock.is_locked(locked)


def test_the_lock_of_a_live_workflow_stays(locked: Path) -> None:
    script = "import time; print('ready', flush=True); time.sleep(60)"
    (locked / "snakemake").write_text(script)  # what counts is what is run, and where
    process = subprocess.Popen([sys.executable, "snakemake"], cwd=locked, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    try:
        assert f"by a Snakemake that runs (process {process.pid})" in lock.clear_if_dead(locked)
        assert lock.is_locked(locked)
    finally:
        process.kill()
        process.wait()
    assert "is cleared" in lock.clear_if_dead(locked)


def test_a_snakemake_that_was_killed_and_not_waited_for_is_dead(locked: Path) -> None:
    (locked / "snakemake").write_text("")
    process = subprocess.Popen([sys.executable, "snakemake"], cwd=locked)
    while "Z" not in Path(f"/proc/{process.pid}/stat").read_text().split(")")[1][:3]:
        time.sleep(0.05)
    assert "is cleared" in lock.clear_if_dead(locked)
    process.wait()


def test_another_machines_lock_stays(locked: Path) -> None:
    (locked / lock.HOST).write_text("node17\n")
    assert "locked by the machine node17; when no Snakemake works" in lock.clear_if_dead(locked)
    (locked / lock.HOST).unlink()
    assert "does not say by which machine" in lock.clear_if_dead(locked)
    assert lock.is_locked(locked)


def test_a_workflow_in_another_folder_does_not_count(locked: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "snakemake").write_text("import time; time.sleep(60)")
    process = subprocess.Popen([sys.executable, "snakemake"], cwd=other)
    try:
        time.sleep(0.2)
        assert "is cleared" in lock.clear_if_dead(locked)
    finally:
        process.kill()
        process.wait()


def test_the_command_says_what_it_did(locked: Path, capsys: pytest.CaptureFixture) -> None:
    before = os.getcwd()
    assert lock.main(["--directory", str(locked)]) == 0
    assert capsys.readouterr().err == "the lock of a Snakemake that was killed is cleared\n"
    assert os.getcwd() == before
