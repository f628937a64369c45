"""The state of a run in progress, so that a killed run continues to the same bytes.

A checkpoint is one safetensors file in the run's scratch folder: the engine's arrays, the best weights so far when the
run stops early, and `Progress` as JSON in the metadata. It is renamed into place, so there is always either the old
state or the new one. Batches, learning rates and dropout are functions of the step, and need no state.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import reading
from pipeline.plan.run import Run
from pipeline.train.arrays import Arrays, read_arrays, write_arrays
from pipeline.train.noise import NoiseScale

FILE = "checkpoint.safetensors"


@dataclass
class Progress:
    """Where a run stands: everything but the arrays."""

    step: int = 0
    """Steps done."""
    status: str = "running"
    """running, then finished, stopped (early stopping) or diverged."""
    reason: str = ""
    """Why the run ended before its last step."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The curve so far."""
    lr_sum: float = 0.0
    """Sum of the learning rates of all steps."""
    loss_sum: float = 0.0
    """Sum of the training losses since the last row."""
    gradient_norm_sum: float = 0.0
    """Sum of the gradient norms since the last row."""
    count: int = 0
    """Steps since the last row."""
    noise: NoiseScale = field(default_factory=NoiseScale)
    """Gradient noise since the last row."""
    steps_above: int = 0
    """Steps in a row whose training loss was above the initial loss by the margin of divergence."""
    best_loss: float = float("inf")
    """Lowest test loss so far."""
    best_step: int = 0
    """Its step."""
    evaluations_since_best: int = 0
    """Regular evaluations since then."""


def save(scratch: Path, run: Run, engine: str, progress: Progress, state: Arrays, best: Arrays) -> None:
    """Write a checkpoint, whole or not at all; `best` is empty for a run without early stopping."""
    header = {"run": run.to_json(), "engine": engine, "progress": asdict(progress)}
    arrays = {f"state/{name}": value for name, value in state.items()}
    arrays |= {f"best/{name}": value for name, value in best.items()}
    write_arrays(scratch / FILE, arrays, "checkpoint", header)


def load(scratch: Path, run: Run, engine: str) -> tuple[Progress, Arrays, Arrays] | None:
    """Read what `save` wrote; None when there is nothing, or it is of the other engine (which must start anew).

    Raises
    ------
    UserError
        When the checkpoint is of another run, or can't be read.
    """
    path = scratch / FILE
    if not path.exists():
        return None
    with reading(path, "a state of this version of the program", "delete it to start anew"):
        arrays, header = read_arrays(path, "checkpoint")
        progress = Progress(**header["progress"])
        progress.noise = NoiseScale(**header["progress"]["noise"])
        owner = Run.from_json(header["run"])
    if owner != run:
        raise UserError(f"{path}: holds the state of {owner.id}, not of {run.id}; delete it to start anew")
    if header["engine"] != engine:
        print(f"{path}: is of engine {header['engine']}, not {engine}: the run starts anew", file=sys.stderr)
        return None
    parts = {
        part: {name[len(part) + 1 :]: value for name, value in arrays.items() if name.startswith(part + "/")}
        for part in ("state", "best")
    }
    return progress, parts["state"], parts["best"]
