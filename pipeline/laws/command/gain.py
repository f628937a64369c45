"""Effective gain of one set of runs over another: by how much less compute it reaches the same loss.

A law of one input is fitted to each set, and solved for the input that gives a loss. The gain at that loss is the input
that set A needs, divided by what set B needs: 2 means that B does with half. Where the exponents differ it depends on
the loss. The interval is that of the draws of both fits, paired where they share runs (`fit.paired_draws`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ..fitting.estimate import Array
from ..fitting.fit import NO_OPTIMUM, UNNAMED, Fit, paired_draws
from ..fitting.intervals import interval_ends
from ..fitting.point_table import UNITS
from . import remarks

FAR = 300.0  # ln of the farthest input that is looked at
HALVINGS = 70  # of an interval of that length, down to rounding
LOSSES = 3  # of the common range, where none are given


@dataclass(frozen=True)
class Gain:
    """What set B gains over set A at each loss.

    Attributes
    ----------
    law, input, response : str
    level : float
        Of the interval.
    losses : ndarray
        Or values of another response.
    needs_a, needs_b : ndarray
        The input that gives the loss; infinite where none does.
    gain, low, high : ndarray
        NaN where there is none, infinite where it is open.
    notes : list of str or None
        What must be said of each loss.
    ranges : tuple of two (float, float)
        The least and the greatest loss that was fitted, of A and of B.
    shared : int
        Runs that both sets name.
    """

    law: str
    input: str
    response: str
    level: float
    losses: Array
    needs_a: Array
    needs_b: Array
    gain: Array
    low: Array
    high: Array
    notes: list[str | None]
    ranges: tuple[tuple[float, float], tuple[float, float]]
    shared: int

    def to_dict(self) -> dict[str, object]:
        """Return what goes into JSON: a record a loss."""
        names = ("gain", "low", "high", "needs_a", "needs_b")
        records = [
            {self.response: float(loss)}
            | {name: _finite(getattr(self, name)[k]) for name in names}
            | {"note": self.notes[k]}
            for k, loss in enumerate(self.losses)
        ]
        head = {"law": self.law, "input": self.input, "response": self.response, "level": self.level}
        fitted = {"a": list(self.ranges[0]), "b": list(self.ranges[1])}
        return {**head, "unit": UNITS.get(self.input, ""), "fitted": fitted, "shared_runs": self.shared, "at": records}

    def table(self) -> str:
        """Return a readable table: one line a loss."""
        head = (self.response, "gain", "low", "high", f"{self.input} of A", "of B")
        rows = [head]
        for k, loss in enumerate(self.losses):
            numbers = (self.gain[k], self.low[k], self.high[k], self.needs_a[k], self.needs_b[k])
            rows.append((f"{loss:.5g}", *(f"{one:.4g}" if np.isfinite(one) else "-" for one in numbers)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.append(
            f"gain: {self.input} that A needs for this {self.response}, divided by what B needs, by {self.law};"
            f" low and high: {100 * self.level:g} % interval"
        )
        lines += [f"{self.response} {self.losses[k]:.5g}: {note}" for k, note in enumerate(self.notes) if note]
        if self.shared:
            lines.append(f"runs that both sets name: {self.shared}, taken as the same runs")
        return "\n".join(lines)


def gain(a: Fit, b: Fit, losses: Sequence[float] | None = None) -> Gain:
    """Return by how much less of the law's input B needs than A.

    Parameters
    ----------
    a, b : Fit
        Of one law, with one input.
    losses : sequence of float, optional
        Where; without it three in the range that both sets were fitted on, its ends and their middle.

    Raises
    ------
    UserError
        For fits of two laws or of one with several inputs, without an optimum (exit code 3) or with one that rises,
        or, without losses, where the sets have no range in common.

    Examples
    --------
    >>> import pandas as pd
    >>> from pipeline.laws import FORMULAS
    >>> c = np.geomspace(1e15, 1e18, 6)
    >>> one = pd.DataFrame({"flops": c, "loss": (1e25 / c) ** 0.05})
    >>> fits = [FORMULAS["L_C"].fit(each, n_boot=0) for each in (one, one.assign(flops=c / 2))]
    >>> gain(*fits, losses=[2.3]).gain.round(9).tolist()
    [2.0]
    """
    law = a.definition
    if a.law != b.law:
        raise UserError(f"{a.law} and {b.law}: fits of one law are needed to compare two sets of runs")
    if len(law.inputs) != 1:
        raise UserError(f"{law.name}: depends on {', '.join(law.inputs)}; a law of one input is needed, such as L_C")
    (name,) = law.inputs
    for which, fit in (("A", a), ("B", b)):
        if not fit.found:
            raise UserError(f"set {which}: {fit.law} is not identified: {fit.reason}", exit_code=NO_OPTIMUM)
        if not fit.ranges:
            raise UserError(f"set {which}: {remarks.UNKNOWN}; fit again")
        first, last = fit.predict(**{name: np.array(fit.ranges[name])})
        if not first > last:
            raise UserError(f"set {which}: {law.response} does not fall with {name} by the fitted {law.name}")
    one, other = (fit.columns.get(name, name) if name == "x" else name for fit in (a, b))
    ranges = _fitted(a), _fitted(b)
    low, high = max(ends[0] for ends in ranges), min(ends[1] for ends in ranges)
    if losses is None:
        if not low < high:
            said = " and ".join(f"{ends[0]:.4g} to {ends[1]:.4g}" for ends in ranges)
            raise UserError(f"the sets have no {law.response} in common ({said}); --loss says where to compare them")
        losses = np.geomspace(high, low, LOSSES)
    at = np.asarray(losses, dtype=float)
    if not (np.isfinite(at) & (at > 0)).all():
        raise UserError(f"--loss: {at[~(np.isfinite(at) & (at > 0))][0]:g} is not a positive number")
    with np.errstate(all="ignore"):  # no input gives a loss: minus or plus infinity
        ln_a, ln_b = (needed(fit, np.asarray(fit.vector)[None], at)[0] for fit in (a, b))
        draws = paired_draws(a, b)
        drawn = np.exp(needed(a, draws[0], at) - needed(b, draws[1], at))
        ends = interval_ends(drawn, a.level) if len(drawn) else np.full((2, len(at)), np.nan)
        found = np.exp(ln_a - ln_b)
    notes = [
        _note(value, ranges, far, law.response) for value, far in zip(at, zip(ln_a, ln_b, strict=True), strict=True)
    ]
    shared = len({run for run in a.runs if not UNNAMED.fullmatch(run)} & set(b.runs))
    with np.errstate(over="ignore"):
        needs = np.exp(ln_a), np.exp(ln_b)
    shown = one if one == other else f"{one} and {other}"
    return Gain(a.law, shown, law.response, a.level, at, *needs, found, *ends, notes, ranges, shared)


def needed(fit: Fit, vectors: Array, losses: Array) -> Array:
    """Return ln of the input at which the law gives each loss, (n, n_losses), by bisection.

    It is infinite where the law stays above the loss at any input, minus infinity where it stays below, and NaN for
    draws without a value and those that rise.
    """
    law = fit.definition
    (name,) = law.inputs

    def value(x: Array) -> Array:
        return law.evaluate(vectors, {name: np.exp(x)})

    low, high = (np.full((len(vectors), len(losses)), end) for end in (-FAR, FAR))
    first, last = value(low), value(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = value(middle) > losses
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    found = np.where(last > losses, np.inf, np.where(first < losses, -np.inf, (low + high) / 2))
    return np.where(first > last, found, np.nan)


def _fitted(fit: Fit) -> tuple[float, float]:
    """Return the least and the greatest response at the ends of what was fitted."""
    ends = np.sort(fit.predict(**{name: np.array(fit.ranges[name]) for name in fit.definition.inputs}))
    return float(ends[0]), float(ends[1])


def _note(loss: float, ranges: Sequence[tuple[float, float]], needs: Sequence[float], response: str) -> str | None:
    """Say in which sets a loss was not fitted, or is never reached."""
    parts = []
    for name, (low, high), far in zip("AB", ranges, needs, strict=True):
        if not np.isfinite(far):
            parts.append(f"the law of {name} has it at no input")
        elif not low * (1 - 1e-9) <= loss <= high * (1 + 1e-9):
            side = "below" if loss < low else "above"
            parts.append(f"{side} what was fitted of {name} ({low:.4g} to {high:.4g})")
    return f"extrapolated: {', '.join(parts)}" if parts else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
