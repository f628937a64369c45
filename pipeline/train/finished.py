"""A second name for the files of a finished run, because Snakemake deletes the first.

Runs that share a job on a cluster fail together: when one of them is interrupted, Snakemake deletes the files of all,
also of those that had ended, and starts each again. A hard link takes no room on the disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.files import atomic_path


def link(source: Path, target: Path) -> None:
    """Give a file a second name; a copy where the two folders are not on one file system."""
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def keep(folder: Path, kept: Path, names: Sequence[str]) -> None:
    """Keep the files of a run in the folder `kept` as well, the last of `names` last."""
    for name in names:
        link(folder / name, kept / name)


def put_back(folder: Path, kept: Path, names: Sequence[str]) -> bool:
    """Return whether `kept` holds every file of the run; if so, they are in `folder` again, with the time of now.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> run = root / "run" / "curve.parquet"
    >>> put_back(run.parent, root / "kept", [run.name])
    False
    >>> run.parent.mkdir()
    >>> _ = run.write_text("losses")
    >>> keep(run.parent, root / "kept", [run.name])
    >>> run.unlink()
    >>> put_back(run.parent, root / "kept", [run.name]), run.read_text()
    (True, 'losses')
    """
    if not all((kept / name).exists() for name in names):
        return False
    for name in names:
        link(kept / name, folder / name)
        os.utime(folder / name)  # Snakemake wants a result to be newer than what it was made from
    return True


def forget(kept: Path, runs: Path) -> None:
    """Remove what is kept of each run whose curve is in its place, so that `--forcerun train` trains."""
    for folder in kept.iterdir() if kept.is_dir() else ():
        if (runs / folder.name / "curve.parquet").exists():
            shutil.rmtree(folder)
