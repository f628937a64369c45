"""A claim of the paper, the checks that test it, and the verdict that they give.

A check measures one number with its 95 % interval and holds it against a range. It is met when the whole interval lies
inside the range, failed when all of it lies outside, and open when it lies across an end, when the number has no
interval, or when what it is measured on is missing. A claim holds when all of its checks are met; one failed check is
enough against it; otherwise it can't be decided here.

Some claims are about ranges of size, compute or context that a small preset does not have. Such a claim is out of its
reach, whatever its checks found. That follows from the design of the runs alone, never from their losses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import none_learned
from pipeline.claims.price import factor, price
from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

HOLDS = "holds"
FAILS = "does not hold at this scale"
OPEN = "cannot be decided here"
OUT_OF_REACH = "out of reach of this preset"
VERDICTS = (HOLDS, FAILS, OPEN, OUT_OF_REACH)

REPLICATION = 1.3
"""A measured exponent within this factor of the paper's agrees with it.

Of the exponents of a faithful small replication that a factor tests, the farthest is 0.074, the paper's 0.057
(docs/paper.md, section 7.1).
"""


class Undecided(UserError):
    """Why a number can't be had: a missing sweep or law, a law that is not identified, too few runs."""


class Number(NamedTuple):
    """A measured number and the ends of its 95 % interval; None where there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None


def exact(value: float) -> Number:
    """Return a number that is counted, not estimated."""
    return Number(value, value, value)


def near(paper: float, factor: float = REPLICATION) -> dict[str, float]:
    """Return the range of a check that a number agrees with the paper's within a factor.

    Examples
    --------
    >>> near(0.1, 2.0)
    {'least': 0.05, 'most': 0.2}
    """
    return {"least": paper / factor, "most": paper * factor}


@dataclass(frozen=True)
class Outcome:
    """What a check found."""

    what: str
    """The number in words."""
    least: float
    most: float
    number: Number | None = None
    reason: str = ""
    """Why there is no number."""

    @property
    def met(self) -> bool | None:
        """Whether the check is met; None when it is open.

        Examples
        --------
        >>> Outcome("x", 0, 1, Number(0.5, 0.4, 0.6)).met, Outcome("x", 0, 1, Number(1.5, 1.4, 1.6)).met
        (True, False)
        >>> Outcome("x", 0, 1, Number(0.9, 0.7, 1.1)).met is None
        True
        """
        if self.number is None or self.number.low is None or self.number.high is None:
            return None
        if self.least <= self.number.low and self.number.high <= self.most:
            return True
        if self.number.high < self.least or self.number.low > self.most:
            return False
        return None

    @property
    def words(self) -> str:
        """The check in words.

        Examples
        --------
        >>> Outcome("exponent", 0.058, 0.099, Number(0.081, 0.079, 0.083)).words
        'exponent: 0.0810 (0.0790 to 0.0830), within 0.058 to 0.099 as claimed'
        >>> Outcome("gap", 0, math.inf, reason="the sweep sizes is not given").words
        'gap: open, the sweep sizes is not given'
        """
        if self.number is None:
            return f"{self.what}: open, {self.reason}"
        value, low, high = self.number
        found = f"{self.what}: {_short(value)}"
        if low is None or high is None:
            return f"{found}, open, too few runs for an interval"
        if low != high:
            found += f" ({_short(low)} to {_short(high)})"
        asked = self._asked()
        said = {True: f"{asked} as claimed", False: f"not {asked}", None: f"open, {asked} or not"}
        return f"{found}, {said[self.met]}"

    def _asked(self) -> str:
        if self.most == math.inf:
            return f"at least {self.least:.3g}"
        if self.least == -math.inf:
            return f"at most {self.most:.3g}"
        return f"within {self.least:.3g} to {self.most:.3g}"


def _short(value: float) -> str:
    """Write a number with three significant digits, also where they are zeros."""
    return f"{value:#.3g}".rstrip(".")


@dataclass(frozen=True)
class Check:
    """A measurement and the range in which the claim holds."""

    what: str
    least: float
    most: float
    measure: Callable[[Inputs], Number]
    runs: tuple[str, ...] = ()
    """The sweeps whose runs the number rests on: more of them narrow its interval."""

    def __call__(self, given: Inputs) -> Outcome:
        """Measure; what is missing is the reason of an open check."""
        outcome = Outcome(self.what, self.least, self.most)
        try:
            number = self.measure(given)
        except UserError as error:
            return replace(outcome, reason=str(error).replace("; ", ", "))
        if not math.isfinite(number.value):
            return replace(outcome, reason="the number is not finite")
        return replace(outcome, number=number)


def check(
    what: str, *runs: str, least: float = -math.inf, most: float = math.inf
) -> Callable[[Callable[[Inputs], Number]], Check]:
    """Make a check of a function that measures its number on the runs of some sweeps.

    `least` and `most` bound the range, ends included.

    Examples
    --------
    >>> @check("one", "sizes", most=2)
    ... def one(given):
    ...     return exact(1.0)
    >>> one(Inputs.of()).words
    'one: 1.00, at most 2 as claimed'
    """
    return lambda measure: Check(what, least, most, measure, runs)


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: a row of the table of claims."""

    claim: int
    """Its number in docs/paper.md, part 4."""
    statement: str
    test: str
    """What decides it."""
    paper: str
    """The paper's number."""
    quantity: str
    """What `ours` is; empty when there is no number."""
    ours: float | None
    low: float | None
    high: float | None
    verdict: str
    """One of VERDICTS."""
    reason: str
    """Every check in words."""
    price: str = ""
    """What would decide an open claim: the dearest of its open checks; empty for others."""
    outcomes: tuple[Outcome, ...] = ()
    """What each check found; none where none was made."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and the checks that test it; the first check's number stands for it."""

    number: int
    statement: str
    paper: str
    test: str
    checks: tuple[Check, ...]
    reach: Callable[[Inputs], str | None] = lambda given: None
    """What range the claim asks for and the design of the runs does not have; None where it has it."""

    def decide(self, given: Inputs) -> Verdict:
        """Test the claim on sweeps, evaluations and laws; what is missing leaves it open.

        Examples
        --------
        >>> claim = Claim(1, "One is below two.", "1", "count", (check("one", most=2)(lambda given: exact(1.0)),))
        >>> claim.decide(Inputs.of()).verdict
        'holds'
        """
        if given.sweeps and all(none_learned(table) for table in given.sweeps.values()):
            return self._open("no run learned: no loss fell below its first value")
        outcomes = [check(given) for check in self.checks]
        beyond = self._beyond(given)
        met = [outcome.met for outcome in outcomes]
        verdict = OUT_OF_REACH if beyond else FAILS if False in met else OPEN if None in met else HOLDS
        shown = headline(outcomes)
        number = shown.number if shown and shown.number else Number(math.nan)
        return Verdict(
            claim=self.number,
            statement=self.statement,
            test=self.test,
            paper=self.paper,
            quantity=shown.what if shown else "",
            ours=None if math.isnan(number.value) else float(number.value),
            low=None if number.low is None else float(number.low),
            high=None if number.high is None else float(number.high),
            verdict=verdict,
            reason="; ".join([*[beyond] * bool(beyond), *(outcome.words for outcome in outcomes)]) + ".",
            price=self._price(outcomes, given) if verdict == OPEN else "",
            outcomes=tuple(outcomes),
        )

    def _price(self, outcomes: list[Outcome], given: Inputs) -> str:
        """Say what would decide the open checks: the most expensive of them, and what lacks a number to begin with."""
        priced, lacking = [], []
        for check, outcome in zip(self.checks, outcomes, strict=True):
            number = outcome.number
            if outcome.met is not None:
                continue
            if number is None:
                lacking.append(_cause(outcome.reason))
            elif number.low is None or number.high is None:
                lacking.append(f"more runs for an interval of {check.what}")
            else:
                tables = {name: table for name in check.runs if (table := _table(given, name)) is not None}
                times = factor(number.value, number.low, number.high, check.least, check.most)
                priced.append(price(check.what, times, tables))
        words = [max(priced)[1]] if priced else []
        return "; ".join([*words, *(f"first: {reason}" for reason in dict.fromkeys(lacking))])

    def _beyond(self, given: Inputs) -> str | None:
        try:
            return self.reach(given)
        except UserError:  # the sweep that would tell is not given: the checks say so
            return None

    def _open(self, reason: str) -> Verdict:
        """Leave the claim open without a look at its checks."""
        about = (self.number, self.statement, self.test, self.paper, "", None, None, None)
        return Verdict(*about, OPEN, f"{reason}.", price=f"first: {reason}")


def _cause(reason: str) -> str:
    """Return the first law of a chain that is not identified, where a check has no number for want of a later one.

    Examples
    --------
    >>> _cause("the law L_N_S is not identified (B_crit is not identified: too few)")
    'B_crit is not identified: too few'
    >>> _cause("the law B_crit is not identified (too few)")
    'B_crit is not identified: too few'
    """
    found = re.fullmatch(r"the law (\w+) is not identified \((.*)\)", reason)
    if found is None:
        return reason
    law, why = found.groups()
    return why if " is not identified: " in why else f"{law} is not identified: {why}"


def _table(given: Inputs, name: str) -> pd.DataFrame | None:
    """Return the table of a sweep, or of its evaluations, which has the same columns of its runs."""
    tables = given.sweeps if name in given.sweeps else given.evaluations
    return tables.get(name)


def headline(outcomes: list[Outcome]) -> Outcome | None:
    """Return the check whose number stands for the claim: the first that failed, else the first with a number."""
    failed = [outcome for outcome in outcomes if outcome.met is False]
    measured = [outcome for outcome in outcomes if outcome.number is not None]
    return next(iter([*failed, *measured]), None)
