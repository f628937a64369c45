"""What an experiment costs before it starts: runs, tokens, FLOP and hours by sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.plan import cost
from pipeline.plan.counts import count
from pipeline.plan.experiment import Experiment
from pipeline.plan.placement import gpu_hours
from pipeline.plan.progress import duration
from pipeline.plan.trunk import Part, jobs, shared_trunks, trunk_of


def sweep_costs(config: Mapping[str, Any], speed: cost.Speed | None = None) -> list[dict[str, Any]]:
    """Return a row a sweep: runs, tokens, FLOP (6 N tokens, and all), hours on one core, hours on one GPU, disk.

    The core's are those of a `speed`, of the machine that `pipeline.plan.cost` was read off when None.

    A run that several sweeps want is counted in the first of them, and so is each segment of a trunk. Sweeps that none
    of the wanted figures and tables reads come last, with `wanted` False.
    """
    speed = speed or cost.Speed()
    rows: list[dict[str, Any]] = []
    seen: set[Part] = set()
    experiment = Experiment(config)
    for name in sorted(experiment.sweeps, key=lambda name: name not in experiment.wanted_sweeps):
        members = experiment.sweeps[name]
        needed = jobs((member.run for member in members), experiment.trunks)
        new = [part for part in needed if part not in seen]
        seen.update(new)
        rows.append(
            {
                "sweep": name,
                "wanted": name in experiment.wanted_sweeps,
                "runs": len(members),
                "new": sum(not part.segment for part in new),
                "tokens": sum(part.tokens for part in new),
                "flops": sum(count(part.run).flops * part.tokens for part in new),
                "flops_all": sum(cost.flops(part.run, part.start) for part in new),
                "core_hours": sum(speed.seconds(part.run, part.start) for part in new) / 3600,
                "gpu_hours": sum(gpu_hours(part.run, part.start) for part in new),
                "disk_mb": sum((cost.state_mb if part.segment else cost.disk_mb)(part.run) for part in new),
            }
        )
    return rows


def render(rows: Sequence[Mapping[str, Any]], cores: int, speed: cost.Speed | None = None) -> str:
    """Return the rows as a table, with the total of what is wanted and its minutes on `cores` cores.

    `speed` is what the rows were made with.
    """
    wanted, others = ([row for row in rows if row["wanted"] == which] for which in (True, False))
    total = {key: sum(row[key] for row in wanted) for key in rows[0] if key != "sweep"} | {"sweep": "total"}
    lines = ["sweep        runs   new     tokens  FLOP (6ND)  FLOP (all)  core-hours   GPU-hours     disk"]
    lines += [_line(row) for row in [*wanted, total]]
    machine = "like those that were measured for pipeline/plan/cost.py"
    if speed is not None:
        factors = " and ".join(f"{factor:.2f}" for factor in speed.factors.values())
        machine = f"of this machine, which makes {factors} times the steps of the one that pipeline/plan/cost.py knows"
    lines.append(f"{duration(3600 * total['core_hours'] / cores)} of training on {cores} cores {machine}.")
    lines.append(f"GPU-hours are of {cost.GPU_NAME}, at an assumed utilisation; small runs share the card.")
    if others:
        lines += ["Only when asked for by name:", *map(_line, others)]
    return "\n".join(lines)


def trunks_line(config: Mapping[str, Any]) -> str:
    """Return what the trunks of the wanted sweeps save and what their states take on disk; without any, nothing."""
    experiment = Experiment(config)
    runs = {member.run: None for members in experiment.wanted_sweeps.values() for member in members}
    shared = shared_trunks(runs)  # not those that only a sweep shares which nothing wanted reads
    sharing = [run for run in runs if trunk_of(run, shared)]
    if not sharing:
        return ""
    needed = jobs(sharing, experiment.trunks)
    hours, alone = sum(part.seconds for part in needed) / 3600, sum(map(cost.seconds, sharing)) / 3600
    states = _size(sum(cost.state_mb(part.run) for part in needed if part.segment))
    return (
        f"Trunks: {len({run.trunk_id for run in sharing})} for {len(sharing)} runs that differ in length, {hours:.3g} "
        f"core-hours in place of {alone:.3g}, with {states} of states in results/trunks.\n"
    )


def text_size(data: Mapping[str, Any]) -> str:
    """Return what the training text takes on disk, at least: 2 bytes a token, and as much again while it is made.

    Examples
    --------
    >>> text_size({"min_train_tokens": 2.2e10})
    'Text: at least 2.2e+10 tokens, 44 GB of token files, and as much again while they are made.'
    """
    tokens = data["min_train_tokens"]
    size = _size(2e-6 * tokens)
    return f"Text: at least {tokens:.3g} tokens, {size} of token files, and as much again while they are made."


def _line(row: Mapping[str, Any]) -> str:
    return (
        f"{row['sweep']:<11} {row['runs']:5d} {row['new']:5d} {row['tokens']:10.3g} {row['flops']:11.3g}"
        f" {row['flops_all']:11.3g} {row['core_hours']:11.3g} {row['gpu_hours']:11.3g} {_size(row['disk_mb']):>8}"
    )


def _size(megabytes: float) -> str:
    for unit in ("MB", "GB", "TB"):
        if megabytes < 1000 or unit == "TB":
            return f"{megabytes:.3g} {unit}"
        megabytes /= 1000
    raise AssertionError
