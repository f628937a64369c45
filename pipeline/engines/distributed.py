"""Several processes that train one run, each on its own card: what they agree on, and how they are started.

`torchrun -m pipeline.train ...` starts them; `pipeline.train` does so itself where a run wants several cards and has
them. All make the same steps at the same time; the first alone writes files. No torch here until there are several.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import timedelta

from pipeline.engines import lease
from pipeline.plan.placement import cards
from pipeline.plan.run import Run

TIMEOUT = timedelta(hours=1)
"""How long processes wait for each other, and torchrun for a checkpoint after SIGTERM."""


class Group:
    """The processes of a run; this base is a process by itself.

    Examples
    --------
    >>> Group().agree(True, False)
    (True, False)
    """

    rank = 0
    """Number of this process, from 0."""
    size = 1
    """Processes of the run."""

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def agree(self, *wishes: bool) -> tuple[bool, ...]:
        """Return for each wish whether any process has it: the same answer in all."""
        return wishes

    def close(self) -> None:
        """Wait for the others, and part."""


class Torchrun(Group):
    """The processes that torchrun started."""

    def __init__(self, device: str) -> None:
        import torch
        from torch import distributed

        # Gradients go from card to card; what processes agree on stays on the host, and waits for no card.
        backend = "cpu:gloo,cuda:nccl" if device != "cpu" and torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=TIMEOUT)
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def agree(self, *wishes: bool) -> tuple[bool, ...]:
        """Return for each wish whether any process has it."""
        import torch
        from torch import distributed

        votes = torch.tensor(wishes, dtype=torch.int32)
        distributed.all_reduce(votes)
        return tuple(bool(vote) for vote in votes.tolist())

    def close(self) -> None:
        """Wait for the others, and part: torchrun ends all when one has ended with an error."""
        from torch import distributed

        self.agree(False)
        distributed.destroy_process_group()


def started_by_torchrun() -> bool:
    """Return whether this is one of several processes of torchrun."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(device: str) -> Group:
    """Return the group of this process."""
    return Torchrun(device) if started_by_torchrun() else Group()


def local_card() -> str:
    """Return the device of this process of torchrun."""
    return f"cuda:{os.environ['LOCAL_RANK']}"


def become_several(run: Run, arguments: Sequence[str]) -> None:
    """Turn this process into torchrun with a process a card, where the run wants several cards and they are there.

    The cards are leased first, and stay so as long as torchrun lives. Else this returns.
    """
    visible = lease.visible_cards() if lease.has_driver() else []
    if len(visible) < 2 or started_by_torchrun():
        return
    wanted = cards(run, most=len(visible), memory=lease.card_bytes())
    if wanted == 1:
        return
    held = lease.take(visible, n_cards=wanted)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible[number] for number in held.numbers)
    os.execv(sys.executable, torchrun(wanted, arguments))


def torchrun(processes: int, arguments: Sequence[str]) -> list[str]:
    """Return the command that trains with several processes on this machine.

    Examples
    --------
    >>> torchrun(2, ["--device", "cpu"])[1:]
    ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', '--shutdown-timeout=3600', \
'-m', '--', 'pipeline.train', '--device', 'cpu']
    """
    options = ["--standalone", f"--nproc-per-node={processes}", f"--shutdown-timeout={TIMEOUT.seconds}"]
    # After `--`: torchrun would take our --run for a short form of one of its own options.
    return [sys.executable, "-m", "torch.distributed.run", *options, "-m", "--", "pipeline.train", *arguments]
