"""The states of a trunk, from which runs branch off (`pipeline.plan.trunk`): step-<n>.safetensors in its folder.

A state is the one before the run is looked at after its step: whoever goes on looks, if the step is one of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.plan.run import Run
from pipeline.plan.trunk import state_file, up_to
from pipeline.train import checkpoint
from pipeline.train.checkpoint import State


def latest(trunk: Path, most: int) -> int:
    """Return the last step, at most `most`, whose state is in a trunk's folder; 0 where there is none.

    Examples
    --------
    >>> import tempfile
    >>> trunk = Path(tempfile.mkdtemp())
    >>> for step in (80, 160):
    ...     (trunk / state_file(step)).touch()
    >>> latest(trunk, 400), latest(trunk, 159), latest(trunk, 79), latest(trunk / "none", 400)
    (160, 80, 0, 0)
    """
    names = (re.fullmatch(r"step-(\d+)\.safetensors", path.name) for path in trunk.glob("step-*"))
    return max((step for name in names if name and (step := int(name[1])) <= most), default=0)


def further(saved: State | None, trunk: Path, run: Run, engine: str, most: int) -> State | None:
    """Return the state to go on from: what was saved of the run itself, or its trunk's where that is further on.

    Parameters
    ----------
    saved
        The run's own checkpoint.
    trunk
        Folder of the trunk's states, if there are any.
    run
        The run.
    engine
        Name of the engine that is to go on.
    most
        Last step that may come from the trunk.

    Raises
    ------
    UserError
        When a state is damaged, or not that of the run's trunk.
    """
    step = latest(trunk, most)
    if step == 0 or (saved and saved.progress.step >= step):
        return saved
    return checkpoint.load(trunk / state_file(step), up_to(run, step), engine) or saved
