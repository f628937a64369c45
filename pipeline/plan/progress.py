"""How far a workflow is, by the planned cost of its jobs: what it says at its start and after each job."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

BAR = 30
"""Characters of the bar."""
SURE = 0.05
"""From this part of the work on, the time left follows the pace so far; before, the plan."""


def duration(seconds: float) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> duration(20), duration(100), duration(5000), duration(200_000)
    ('under a minute', '2 minutes', '1 h 23 min', '56 hours')
    """
    minutes = round(seconds / 60)
    if seconds < 50:
        return "under a minute"
    if minutes < 60:
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes < 1440 else f"{seconds / 3600:.0f} hours"


class Progress(logging.Handler):
    """Follow the jobs of a workflow on Snakemake's logger, and say after each how much of the planned work is done.

    A job that runs counts with the time that it has run, up to its planned time.

    Parameters
    ----------
    jobs : Mapping
        Number of each job that is to run -> its planned seconds.
    cores : int
        Jobs that run at once.
    stream : TextIO
        What it is written to.
    clock : Callable
        Returns the time in seconds.

    Examples
    --------
    >>> ticks = iter([0.0, 0.0, 60.0])  # made, job 1 begins, job 1 ends
    >>> progress = Progress({1: 60.0, 2: 180.0}, 1, sys.stdout, lambda: next(ticks))
    >>> progress.begin([1])
    >>> progress.end(1)
    [=======                       ] 25 % of the planned work, 3 minutes left
    """

    def __init__(
        self,
        jobs: Mapping[int, float],
        cores: int,
        stream: TextIO = sys.stderr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(logging.INFO)
        self.jobs, self.cores, self.out, self.clock = dict(jobs), cores, stream, clock
        self.total = sum(self.jobs.values())
        self.running: dict[int, float] = {}
        self.ended: set[int] = set()
        self.started = clock()

    def emit(self, record: logging.LogRecord) -> None:
        """Take an event of Snakemake's logger; the rest of what is logged says nothing about jobs."""
        event = getattr(getattr(record, "event", None), "value", None)
        if event == "job_started":
            self.begin(record.__dict__.get("jobs") or [])
        elif event == "job_finished":
            self.end(record.__dict__["job_id"])

    def begin(self, jobs: list[int]) -> None:
        """Note that jobs have started."""
        self.running |= dict.fromkeys(jobs, self.clock())

    def end(self, job: int) -> None:
        """Note that a job has ended, and say where the workflow stands."""
        self.running.pop(job, None)
        if job not in self.jobs or job in self.ended:
            return
        self.ended.add(job)
        part, left = self.state()
        bar = ("=" * int(BAR * part)).ljust(BAR)
        rest = "" if len(self.ended) == len(self.jobs) else f", {duration(left)} left"
        print(f"[{bar}] {int(100 * part)} % of the planned work{rest}", file=self.out, flush=True)

    def state(self) -> tuple[float, float]:
        """Return which part of the planned work is done, and the seconds that are left."""
        if len(self.ended) == len(self.jobs):
            return 1.0, 0.0
        now = self.clock()
        done = sum(self.jobs[job] for job in self.ended)
        for job, since in self.running.items():
            done += min(now - since, self.jobs.get(job, 0.0))
        part = min(1.0, done / self.total)
        if part < SURE:
            return part, self.planned() - done / self.cores
        return part, (now - self.started) * (1 - part) / part

    def planned(self) -> float:
        """Return the seconds that the workflow takes by its plan: at least its longest job."""
        return max(self.total / self.cores, *self.jobs.values(), 0.0)
