"""Where a run's time goes, by part, from the start of the process on."""

from __future__ import annotations

import os
import time
from pathlib import Path


def process_age() -> float:
    """Return the seconds since this process started; 0 where the system does not tell (it has no /proc)."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return 0.0
    started = int(stat.read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


class Clock:
    """Sums the seconds of the parts of a run. Parts follow each other without a gap, so their sum is the wall time.

    Examples
    --------
    >>> clock = Clock()
    >>> clock.lap("start-up")
    >>> list(clock.seconds)
    ['start-up']
    """

    def __init__(self) -> None:
        self.last = time.perf_counter() - process_age()
        self.seconds: dict[str, float] = {}

    def lap(self, part: str) -> None:
        """Give the time since the last lap to `part`."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.last
        self.last = now

    def line(self) -> str:
        """Return where the time went, in one line."""
        parts = ", ".join(f"{part} {value:.2f}" for part, value in self.seconds.items())
        return f"time: {sum(self.seconds.values()):.2f} s: {parts}"
