"""Clear the lock that a killed Snakemake left in its working folder: `python -m pipeline.lock`; never a live one's.

Snakemake does not say whose a lock is. Every workflow of this project writes the name of its machine beside the lock
when it starts; on that machine a lock is alive as long as some Snakemake works in the folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from pipeline.errors import command

LOCKS = Path(".snakemake/locks")
HOST = Path(".snakemake/host")
UNLOCK = "when no Snakemake works in this folder any more, run: snakemake --unlock"


def record_host(folder: Path = Path()) -> None:
    """Write which machine the workflow that starts in a folder runs on."""
    path = folder / HOST
    path.parent.mkdir(exist_ok=True)
    path.write_text(socket.gethostname() + "\n", encoding="utf-8")


def is_locked(folder: Path) -> bool:
    """Return whether a folder has a lock."""
    return any((folder / LOCKS).glob("*.lock"))


def why_kept(folder: Path) -> str | None:
    """Return why the lock of a folder may be alive, None where its owner is dead."""
    path = folder / HOST
    host = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    if not host:
        return f"the folder is locked and does not say by which machine; {UNLOCK}"
    if host != socket.gethostname():
        return f"the folder is locked by the machine {host}; {UNLOCK}"
    for process in snakemakes():
        try:
            if Path(process.cwd()) == folder.resolve():
                return f"the folder is locked by a Snakemake that runs (process {process.pid})"
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            return f"the folder is locked, perhaps by another user's Snakemake (process {process.pid}); {UNLOCK}"
    return None


def snakemakes() -> Iterator[psutil.Process]:
    """Yield the Snakemakes that run on this machine, as far as they are not this process or above it."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        try:
            words = [Path(word).name for word in process.cmdline()[:4]]
        except psutil.Error:
            continue
        if "snakemake" in words and process.pid not in own and process.status() != psutil.STATUS_ZOMBIE:
            yield process


def clear_if_dead(folder: Path) -> str | None:
    """Clear the lock of a folder if its owner is dead.

    Returns
    -------
    str or None
        What was done, or why nothing was; None where there is no lock.
    """
    if not is_locked(folder):
        return None
    if reason := why_kept(folder):
        return reason
    shutil.rmtree(folder / LOCKS)
    return "the lock of a Snakemake that was killed is cleared"


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Clear the lock of the working folder if its owner is dead; say so, or why not."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.lock", description=main.__doc__)
    parser.add_argument("--directory", type=Path, default=Path(), help="the working folder")
    options = parser.parse_args(argv)
    if said := clear_if_dead(options.directory):
        print(said, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
