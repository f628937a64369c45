"""Cards are shared by real processes: never more than the slots, and given back by a process that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from select import select

import pytest

from pipeline.engines import lease
from pipeline.errors import UserError
from pipeline.plan.placement import CARD_SLOTS

HOLDER = """
import os, sys, time
from pathlib import Path
from pipeline.engines import lease
held = lease.take(sys.argv[2].split(","), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[1]))
if len(sys.argv) > 5:
    print(*held.numbers, flush=True)
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"])
print(*held.numbers, flush=True)
time.sleep(600)
"""


@pytest.fixture
def hold(tmp_path: Path):
    """Return a function that starts a process which takes slots and keeps them; all are killed at the end."""
    started = []

    def start(cards: str, slots: int, n_cards: int = 1, *more: str) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLDER, str(tmp_path), cards, str(slots), str(n_cards), *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def answer(process: subprocess.Popen) -> list[int]:
    return [int(number) for number in process.stdout.readline().split()]


def waits(process: subprocess.Popen) -> bool:
    """Whether the process has taken nothing after a second."""
    ready, _, _ = select([process.stdout], [], [], 1)
    return not ready


def test_processes_spread_over_all_cards_and_wait_when_all_are_full(hold) -> None:
    holders = [hold("0,1,2", CARD_SLOTS // 2) for _ in range(6)]
    places = [answer(holder)[0] for holder in holders]
    assert sorted(places) == [0, 0, 1, 1, 2, 2]
    late = hold("0,1,2", 1)
    assert waits(late)
    holders[3].send_signal(signal.SIGKILL)
    assert answer(late) == [places[3]]


def test_small_runs_fill_a_card_before_they_begin_another(hold) -> None:
    assert [answer(hold("a,b", 1))[0] for _ in range(3)] == [0, 0, 0]
    assert answer(hold("a,b", CARD_SLOTS)) == [1]
    assert answer(hold("a,b", CARD_SLOTS - 3)) == [0]


def test_several_cards_are_taken_whole_and_outlive_exec(hold) -> None:
    several = hold("0,1,2,3", CARD_SLOTS, 3, "exec")
    assert answer(several) == [0, 1, 2]
    assert answer(hold("0,1,2,3", CARD_SLOTS)) == [3]
    late = hold("0,1,2,3", 1)
    assert waits(late)
    several.terminate()
    assert len(answer(late)) == 1


def test_slots_are_released_before_the_end_too(tmp_path: Path) -> None:
    first = lease.take(["0"], CARD_SLOTS, folder=tmp_path)
    first.release()
    assert lease.take(["0"], CARD_SLOTS, folder=tmp_path).numbers == [0]


def test_more_cards_than_there_are_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cards: 3 are asked for, 2 are visible \(0, 1\)"):
        lease.take(["0", "1"], n_cards=3, folder=tmp_path)


def test_visible_cards_are_those_of_the_environment(monkeypatch) -> None:
    for text, cards in (("2, 3", ["2", "3"]), ("", []), ("-1", []), ("GPU-1f,GPU-2e", ["GPU-1f", "GPU-2e"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        assert lease.visible_cards() == cards


def test_a_slurm_jobs_cards_are_its_own(monkeypatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    own = lease.default_folder()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert lease.default_folder() != own
