"""Trunks: what wsd runs of different length have in common, trained once.

Before its cooldown nothing that a wsd run does depends on its length: not its rates (`pipeline.train.optim`), not the
steps at which it is looked at (`pipeline.plan.steps`). So runs that differ in length and cooldown alone are one
training up to the first of their branch points, and a run goes on from the state there to the bytes of one trained from
nothing. The warmup belongs to the trunk: runs share one when it is a number of steps, `warmup_steps`, and not a part of
their length.

A trunk is trained in segments, one job each: from nothing to its first branch point, from there to the next, and so on.
What a segment trains is a run as well, the one that ends at its branch point and has no cooldown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from pipeline.plan import cost
from pipeline.plan.run import Run


class Part(NamedTuple):
    """What one job trains: the steps of a run after `start`."""

    run: Run
    start: int = 0
    segment: bool = False
    """Whether it is a segment of a trunk: it ends in a state, and not in a curve."""

    @property
    def name(self) -> str:
        """The name of the job's records: the id of the run, or of the trunk with the step of the state."""
        return f"{self.run.trunk_id}-{self.run.n_steps}" if self.segment else self.run.id

    @property
    def tokens(self) -> int:
        """Tokens that are trained on."""
        return (self.run.n_steps - self.start) * self.run.batch_tokens

    @property
    def seconds(self) -> float:
        """Seconds on one CPU core."""
        return cost.seconds(self.run, self.start)


def up_to(run: Run, step: int) -> Run:
    """Return a wsd run's trunk up to a step: the run that ends there without a cooldown.

    Examples
    --------
    >>> run = Run(tokens="t", n_layer=1, d_model=8, n_vocab=64, n_steps=100, lr=0.01, schedule="wsd")
    >>> up_to(run, 80).n_steps, up_to(run, 80).branch_point, up_to(run, 80).trunk_id == run.trunk_id
    (80, 80, True)
    """
    return replace(run, n_steps=step, cooldown=0.0)


def state_file(step: int) -> str:
    """Return the name of the state of a trunk after a step, in the trunk's folder."""
    return f"step-{step}.safetensors"


@dataclass(frozen=True)
class Trunk:
    """What two or more runs of an experiment share.

    Examples
    --------
    >>> shape = {"tokens": "t", "n_layer": 1, "d_model": 8, "n_vocab": 64, "lr": 0.01, "schedule": "wsd"}
    >>> trunk = Trunk(tuple(Run(n_steps=steps, **shape) for steps in (400, 100, 200)))
    >>> trunk.points, trunk.before(160), trunk.before(80)
    ((80, 160, 320), 80, 0)
    """

    runs: tuple[Run, ...]

    @property
    def points(self) -> tuple[int, ...]:
        """The steps after which a run branches off, the first one first."""
        return tuple(sorted({run.branch_point for run in self.runs}))

    def before(self, step: int) -> int:
        """Return the last branch point before a step, 0 where there is none."""
        return max((point for point in self.points if point < step), default=0)

    def segment(self, step: int) -> Part:
        """Return what the job trains that ends at a step."""
        return Part(up_to(self.runs[0], step), self.before(step), segment=True)

    def seconds(self, step: int) -> float:
        """Return the seconds from the start of a segment to the end of the last job that waits for it."""
        behind = [cost.seconds(run, step) for run in self.runs if run.branch_point == step]
        behind += [self.seconds(point) for point in self.points if self.before(point) == step]
        return self.segment(step).seconds + max(behind, default=0.0)


def shared_trunks(runs: Iterable[Run]) -> dict[str, Trunk]:
    """Return trunk id -> trunk of those that at least two of the runs share."""
    found: dict[str, dict[Run, None]] = {}
    for run in runs:
        if run.schedule == "wsd":
            found.setdefault(run.trunk_id, {})[run] = None
    return {name: Trunk(tuple(members)) for name, members in found.items() if len(members) > 1}


def trunk_of(run: Run, trunks: Mapping[str, Trunk]) -> Trunk | None:
    """Return the trunk that a run branches off; None where it is trained by itself."""
    return trunks.get(run.trunk_id) if run.schedule == "wsd" else None


def parts(run: Run, trunks: Mapping[str, Trunk]) -> list[Part]:
    """Return what is trained for a run, job by job: the segments of its trunk, then the run itself.

    Examples
    --------
    >>> shape = {"tokens": "t", "n_layer": 1, "d_model": 8, "n_vocab": 64, "lr": 0.01, "schedule": "wsd"}
    >>> short, long = Run(n_steps=100, **shape), Run(n_steps=200, **shape)
    >>> [(part.start, part.run.n_steps) for part in parts(long, shared_trunks([short, long]))]
    [(0, 80), (80, 160), (160, 200)]
    >>> [(part.start, part.run.n_steps) for part in parts(long, {})]
    [(0, 200)]
    """
    trunk = trunk_of(run, trunks)
    if trunk is None:
        return [Part(run)]
    points = [point for point in trunk.points if point <= run.branch_point]
    return [*map(trunk.segment, points), Part(run, run.branch_point)]


def jobs(runs: Iterable[Run], trunks: Mapping[str, Trunk]) -> list[Part]:
    """Return what is trained for several runs, job by job, each once."""
    return list(dict.fromkeys(part for run in runs for part in parts(run, trunks)))
