"""What runs and trunks cost: planned and measured, from the records of Snakemake and the trainer in logs/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import read_json, reading
from pipeline.plan.counts import count
from pipeline.plan.experiment import Experiment
from pipeline.plan.trunk import Part, jobs
from pipeline.units import PF_DAY


@dataclass(frozen=True)
class Record:
    """What one job cost; None where it left no record here (it was trained elsewhere)."""

    part: Part
    """A run, or what it does not share, or a segment of a trunk."""
    seconds: float | None = None
    memory: float | None = None
    """Most resident memory in MB."""
    speed: float | None = None
    """Tokens a second while training."""
    engine: str = ""

    @property
    def pf_days(self) -> float:
        """The compute of all planned steps in PF-days: the paper's count, 6 N tokens."""
        return count(self.part.run).flops * self.part.tokens / PF_DAY

    @property
    def planned(self) -> float:
        """Seconds on one core, as `snakemake plan` says."""
        return self.part.seconds


def benchmark_file(part: Part, logs: Path) -> Path:
    """Return Snakemake's record of a job that trains."""
    return logs / ("trunk" if part.segment else "train") / f"{part.name}.jsonl"


def timing_file(part: Part, logs: Path) -> Path:
    """Return the trainer's own record of a job."""
    return logs / "timing" / f"{part.name}.json"


def record(part: Part, logs: Path) -> Record:
    """Return the cost of a job, from the records of it in the folder `logs`, if there are."""
    measured: dict[str, Any] = {}
    benchmark, timing = benchmark_file(part, logs), timing_file(part, logs)
    if benchmark.is_file() and (lines := benchmark.read_text(encoding="utf-8").strip().splitlines()):
        with reading(benchmark, "a record of Snakemake's", "remove it"):
            last = json.loads(lines[-1])
            measured |= {"seconds": number(last.get("s")), "memory": number(last.get("max_rss"))}
    if timing.is_file():
        with reading(timing, "a record of the trainer's", "remove it"):
            times = read_json(timing)
            measured |= {"speed": times["tokens_per_second"], "engine": times["engine"]}
    return Record(part, **measured)


def number(value: Any) -> float | None:
    """Return a number of a benchmark record; None for what the system could not measure (Snakemake writes NA)."""
    return float(value) if isinstance(value, (int, float)) else None


def needed_parts(experiment: Experiment) -> list[Part]:
    """Return what is trained for the wanted figures and tables, job by job, each once."""
    runs = [member.run for sweep in experiment.wanted_sweeps.values() for member in sweep]
    return jobs(runs, experiment.trunks)


def by_sweep(experiment: Experiment, logs: Path) -> list[dict[str, Any]]:
    """Return a row a sweep that is needed, and a total; what several sweeps need is counted in the first of them."""
    rows: list[dict[str, Any]] = []
    seen: set[Part] = set()
    for name, members in experiment.wanted_sweeps.items():
        needed = jobs((member.run for member in members), experiment.trunks)
        new = [record(part, logs) for part in needed if part not in seen]
        seen.update(needed)
        rows.append({"sweep": name, "runs": len(members), "records": new})
    n_runs = sum(not part.segment for part in seen)
    total = {"sweep": "total", "runs": n_runs, "records": [one for row in rows for one in row["records"]]}
    return [row | summary(row["records"]) for row in [*rows, total]]


def summary(records: list[Record]) -> Mapping[str, Any]:
    """Return the sums of some records: planned and measured minutes, memory, and how many left a record."""
    known = [one for one in records if one.seconds is not None]
    return {
        "new": sum(not one.part.segment for one in records),
        "pf_days": sum(one.pf_days for one in records),
        "planned": sum(one.planned for one in records) / 60,
        "recorded": len(known),
        "minutes": sum(one.seconds for one in known) / 60 if known else None,
        "memory": max((one.memory for one in known if one.memory is not None), default=None),
    }
