"""A line on a terminal for fits that last: how many are done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

SILENT = 5.0  # seconds before anything is said
EVERY = 0.5  # seconds between two lines


def counted(n: int, what: str) -> Iterator[int]:
    """Yield 0 to n - 1; after some seconds tell a terminal on standard error how far it is, and at the end nothing.

    Examples
    --------
    >>> sum(counted(4, "fits"))
    6
    """
    shown, due = False, time.monotonic() + SILENT
    terminal = sys.stderr is not None and sys.stderr.isatty()
    try:
        for k in range(n):
            if terminal and time.monotonic() > due:
                shown, due = True, time.monotonic() + EVERY
                print(f"\r{k} of {n} {what}", end="", file=sys.stderr, flush=True)
            yield k
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
