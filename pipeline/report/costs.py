"""What the runs cost: planned and measured, from the records that Snakemake and the trainer leave in logs/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import read_json, reading
from pipeline.plan import cost
from pipeline.plan.counts import count
from pipeline.plan.experiment import Experiment
from pipeline.plan.run import Run
from pipeline.units import PF_DAY


@dataclass(frozen=True)
class Record:
    """What one run cost; None where it left no record here (it was trained elsewhere)."""

    run: Run
    flops: float
    """FLOP of the paper's count, 6 N tokens, of all planned steps."""
    planned: float
    """Seconds on one core, as `snakemake plan` says."""
    seconds: float | None = None
    memory: float | None = None
    """Most resident memory in MB."""
    speed: float | None = None
    """Tokens a second while training."""
    engine: str = ""

    @property
    def pf_days(self) -> float:
        """The compute in PF-days."""
        return self.flops / PF_DAY


def record(run: Run, logs: Path) -> Record:
    """Return the cost of a run.

    Parameters
    ----------
    run
        The run.
    logs
        Folder with train/<run>.jsonl (Snakemake's benchmark) and timing/<run>.json (the trainer's own), if there are.
    """
    measured: dict[str, Any] = {}
    benchmark, timing = logs / "train" / f"{run.id}.jsonl", logs / "timing" / f"{run.id}.json"
    if benchmark.is_file() and (lines := benchmark.read_text(encoding="utf-8").strip().splitlines()):
        with reading(benchmark, "a record of Snakemake's", "remove it"):
            last = json.loads(lines[-1])
            measured |= {"seconds": number(last.get("s")), "memory": number(last.get("max_rss"))}
    if timing.is_file():
        with reading(timing, "a record of the trainer's", "remove it"):
            times = read_json(timing)
            measured |= {"speed": times["tokens_per_second"], "engine": times["engine"]}
    return Record(run, count(run).flops * run.n_steps * run.batch_tokens, cost.seconds(run), **measured)


def number(value: Any) -> float | None:
    """Return a number of a benchmark record; None for what the system could not measure (Snakemake writes NA)."""
    return float(value) if isinstance(value, (int, float)) else None


def needed_runs(experiment: Experiment) -> list[Run]:
    """Return the runs behind the wanted figures and tables, each once."""
    return list(dict.fromkeys(member.run for sweep in experiment.wanted_sweeps.values() for member in sweep))


def by_sweep(experiment: Experiment, logs: Path) -> list[dict[str, Any]]:
    """Return a row a sweep that is needed, and a total; a run of several sweeps is counted in the first of them."""
    rows: list[dict[str, Any]] = []
    seen: set[Run] = set()
    for name, members in experiment.wanted_sweeps.items():
        runs = [member.run for member in members]
        new = [record(run, logs) for run in runs if run not in seen]
        seen.update(runs)
        rows.append({"sweep": name, "runs": len(runs), "records": new})
    total = {"sweep": "total", "runs": len(seen), "records": [one for row in rows for one in row["records"]]}
    return [row | summary(row["records"]) for row in [*rows, total]]


def summary(records: list[Record]) -> Mapping[str, Any]:
    """Return the sums of some records: planned and measured minutes, memory, and how many left a record."""
    known = [one for one in records if one.seconds is not None]
    return {
        "new": len(records),
        "pf_days": sum(one.pf_days for one in records),
        "planned": sum(one.planned for one in records) / 60,
        "recorded": len(known),
        "minutes": sum(one.seconds for one in known) / 60 if known else None,
        "memory": max((one.memory for one in known if one.memory is not None), default=None),
    }
