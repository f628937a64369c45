"""Cards for the processes of one machine: each takes free parts of a card, and has them until it ends.

A card has `placement.CARD_SLOTS` slots. A slot is a file, and whoever holds its lock (flock) holds the slot: the system
gives it back when the process ends, however it ends. Small runs so share a card, and many processes spread over all
cards. Whoever comes first is served first: a large run that waits for a whole card is not passed by small ones.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from pipeline.errors import UserError
from pipeline.plan.placement import CARD_SLOTS

WAIT_SECONDS = 0.2
"""Between two looks for a free slot."""


def visible_cards() -> list[str]:
    """Return the names of this process's cards: those of CUDA_VISIBLE_DEVICES, else all that torch counts."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is not None:
        return [name.strip() for name in names.split(",") if name.strip() and name.strip() != "-1"]
    if not has_driver():
        return []
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def has_driver() -> bool:
    """Return whether a driver of NVIDIA's is loaded: without one, torch need not be asked (and imported)."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def card_bytes() -> float:
    """Return the memory of the first visible card; the others are taken to be like it."""
    import torch

    return float(torch.cuda.get_device_properties(0).total_memory)


class Lease:
    """Slots that this process holds.

    Attributes
    ----------
    numbers
        Places of the cards in the list of visible cards, from 0: the numbers that torch knows them by.
    """

    def __init__(self, numbers: Sequence[int], files: Sequence[IO[str]]) -> None:
        self.numbers = list(numbers)
        self._files = list(files)

    def release(self) -> None:
        """Give the slots back before the process ends."""
        for file in self._files:
            file.close()
        self._files = []


def take(cards: Sequence[str], slots: int = CARD_SLOTS, n_cards: int = 1, folder: Path | None = None) -> Lease:
    """Wait for free slots on a card, or for several whole cards, and take them.

    The fullest card that has room is taken, so that whole cards stay free for runs that need them. The lease outlives
    an `exec` of this process.

    Parameters
    ----------
    cards
        Names of the cards, see `visible_cards`.
    slots
        Slots of a card to take, of `CARD_SLOTS`.
    n_cards
        Cards to take so many slots of.
    folder
        Of the locks; by default one of this machine, user and Slurm job: a job's cards are its own.

    Raises
    ------
    UserError
        When there are fewer cards than are asked for.
    """
    import fcntl

    if n_cards > len(cards):
        raise UserError(f"cards: {n_cards} are asked for, {len(cards)} are visible ({', '.join(cards) or 'none'})")
    folder = folder or default_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "queue.lock", "a") as queue:
        fcntl.flock(queue, fcntl.LOCK_EX)
        while True:
            free = [_free_slots(folder, card) for card in cards]
            able = sorted((number for number in range(len(cards)) if len(free[number]) >= slots), key=_fullest(free))
            if len(able) >= n_cards:
                break
            for files in free:
                for file in files:
                    file.close()
            time.sleep(WAIT_SECONDS)
        chosen = sorted(able[:n_cards])
        kept = [file for number in chosen for file in free[number][:slots]]
        for files in free:
            for file in files:
                if file not in kept:
                    file.close()
    for file in kept:
        os.set_inheritable(file.fileno(), True)
    return Lease(chosen, kept)


def default_folder() -> Path:
    """Return the folder of the locks."""
    return Path(tempfile.gettempdir()) / f"scaling-laws-cards-{os.getuid()}-{os.environ.get('SLURM_JOB_ID', 'local')}"


def _fullest(free: Sequence[Sequence[IO[str]]]):
    return lambda number: (len(free[number]), number)


def _free_slots(folder: Path, card: str) -> list[IO[str]]:
    """Lock every free slot of a card and return the files."""
    import fcntl

    files = []
    for slot in range(CARD_SLOTS):
        file = open(folder / f"{card.replace('/', '-')}-{slot}.lock", "a")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            files.append(file)
    return files
