"""The whole state of a run after some step, so that training goes on from there to the same bytes.

It is one safetensors file: the engine's arrays, the best weights so far when the run stops early, and `Progress` as
JSON in the metadata. A checkpoint, in the run's scratch folder, is what a killed run goes on from; a state of a trunk
is what runs branch off from (`pipeline.train.branch`), and holds the snapshots so far as well. It is renamed into
place, so there is always either the old state or the new one. Batches, learning rates and dropout are functions of the
step, and need no state.
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


@dataclass
class State:
    """A run after some step."""

    progress: Progress
    engine: Arrays
    """All that a later step of the engine depends on."""
    best: Arrays = field(default_factory=dict)
    """The best weights so far, of a run with early stopping."""
    snapshots: dict[int, Arrays] = field(default_factory=dict)
    """Step -> the weights that were put aside there; a checkpoint has them in files of their own."""

    def named(self) -> Arrays:
        """Return all arrays, each named after what it is part of."""
        parts = {"state": self.engine, "best": self.best}
        parts |= {f"snapshot-{step}": weights for step, weights in self.snapshots.items()}
        return {f"{part}/{name}": value for part, arrays in parts.items() for name, value in arrays.items()}

    @classmethod
    def of_named(cls, progress: Progress, arrays: Arrays) -> State:
        """Read what `named` returned."""
        parts: dict[str, Arrays] = {"state": {}, "best": {}}
        for name, value in arrays.items():
            part, _, own = name.partition("/")
            parts.setdefault(part, {})[own] = value
        engine, best = parts.pop("state"), parts.pop("best")
        return cls(progress, engine, best, {int(part.removeprefix("snapshot-")): own for part, own in parts.items()})


def save(path: Path, run: Run, engine: str, state: State) -> None:
    """Write a state, whole or not at all; `engine` is the name of the one that made it."""
    header = {"run": run.to_json(), "engine": engine, "progress": asdict(state.progress)}
    write_arrays(path, state.named(), "checkpoint", header)


def load(path: Path, run: Run, engine: str) -> State | None:
    """Read what `save` wrote; None when there is nothing, or it is of the other engine (which must start anew).

    Raises
    ------
    UserError
        When the state is of another run, or can't be read.
    """
    if not path.exists():
        return None
    with reading(path, "a state of this version of the program", "delete it to start anew"):
        arrays, header = read_arrays(path, "checkpoint")
        progress = Progress(**header["progress"])
        progress.noise = NoiseScale(**header["progress"]["noise"])
        owner = Run.from_json(header["run"])
        state = State.of_named(progress, arrays)
    if owner != run:
        raise UserError(f"{path}: holds the state of {owner.id}, not of {run.id}; delete it to start anew")
    if header["engine"] != engine:
        print(f"{path}: is of engine {header['engine']}, not {engine}: the run starts anew", file=sys.stderr)
        return None
    return state
