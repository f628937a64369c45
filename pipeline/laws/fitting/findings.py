"""What the points decide: whether there is an optimum at all, and of each parameter whether it is told there.

| finding | when |
| --- | --- |
| identified | the points tell it |
| one-sided | it can't be told from 0, or from infinity: the interval is open there |
| free | the points say nothing of it, such as the exponent of a term that has vanished |
| fixed | the caller chose it |

A term whose coefficient is best at 0 has vanished: what is reported is the optimum of the law without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from . import estimate
from .constraint import Held
from .estimate import Array, Objective
from .likelihood import deviance

if TYPE_CHECKING:
    from .law import Law

CLEAR = 1.96  # an exponent nearer to zero than this many standard errors is not told apart from zero
INVISIBLE = 1e-9  # a term whose share of the response is nowhere above this is at the edge: its coefficient is 0
FAINT = 1e-3  # one whose share is nowhere above this is at the edge if the fit is as good without it
BEST_STARTS = 8  # of a law without one of its terms: only its minimum is asked for, which nearly all starts reach
FLAT = 1e-9  # ln y that changes by no more over all points is the same to rounding
RANK = 1e-14  # smallest eigenvalue of the scaled normal matrix that still counts: single-precision columns pass
ROUNDING = 1e-25  # objectives that differ by less are equal

LOW, HIGH = "low", "high"


@dataclass
class Doubts:
    """Why not every parameter is identified, in sentences, and which ends of their intervals are open."""

    reasons: list[str] = field(default_factory=list)
    open: dict[str, set[str]] = field(default_factory=dict)

    def add(self, reason: str, ends: dict[str, Iterable[str]] | None = None) -> None:
        """Note one more."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        for name, which in (ends or {}).items():
            self.open.setdefault(name, set()).update(which)

    def finding(self, name: str) -> str:
        """Return the word for a parameter."""
        return ("identified", "one-sided", "free")[len(self.open.get(name, ()))]


@dataclass
class Settled:
    """A minimum, in the coordinates of the law without the terms that have vanished there."""

    held: Held
    z: Array
    objective: float
    gradient_norm: float
    converged: bool
    without: dict[int, tuple[Held, Array, float]]  # term that could be left out -> the best fit without it

    @property
    def theta(self) -> Array:
        """The model's coordinates."""
        return self.held.place(self.z)


def settle(law: Law, held: Held, z: Array, y: Array, weights: Array, objective: Objective) -> Settled:
    """Go from a minimum to the optimum: where terms have vanished, that of the law without them.

    A term that the points don't need, and whose own parameters can be traded for one another, has vanished too: it
    meets the noise of a few points, the better the steeper it is, and has no optimum.
    """
    here, places = estimate.minimise(held, y, z[None], weights[None], objective), held.model.columns
    while True:
        lowest, without = float(here.objective[0]), {}
        for term in held.optional:
            rest = held.without(term)
            first = rest.project(held.place(here.theta))
            grid = rest.project(law.starts(held.model, y, weights, objective, rest.gone)[:BEST_STARTS])
            found = estimate.minimise(rest, y, np.vstack([first, grid]), weights[None], objective)
            without[term] = (rest, found.theta[found.best()], float(found.objective.min()))
        shares = held.shares(here.theta)[0] if without else []
        vanished = [term for term in without if has_vanished(shares[term], lowest, without[term][2])]
        norm = float(here.gradient_norm[0])
        at = Settled(held, here.theta[0], lowest, norm, bool(here.converged[0]), without)
        if not vanished:
            flat = flat_direction(at, y, weights, objective)
            traded = set() if flat is None else set(np.flatnonzero(flat).tolist())
            lost = {term: rest.gone - held.gone for term, (rest, _, _) in without.items()}
            owned = {term: {place for one in lost[term] for place in places[one]} for term in without}
            alone = [term for term in without if traded and traded <= owned[term]]
            vanished = [term for term in alone if not needed(at, term, y, objective)]
        if not vanished:
            return at
        held, z, _ = without[min(vanished, key=lambda term: without[term][2])]
        here = estimate.minimise(held, y, z[None], weights[None], objective)


def has_vanished(share: Array, objective: Array, without: Array) -> Array:
    """Whether a term is at the edge: invisible, or faint and the fit as good without it."""
    return (share < INVISIBLE) | ((share < FAINT) & (without <= objective * (1 + 1e-9) + ROUNDING))


def needed(at: Settled, term: int, y: Array, objective: Objective) -> bool:
    """Whether the fit is worse without a term than by chance, at five percent; taken as so without spare points."""
    rest, _, without = at.without[term]
    n, p = len(y), len(at.z)
    if n <= p:
        return True
    chance = (p - rest.p) * stats.f.ppf(0.95, p - rest.p, n - p)
    return bool(deviance(np.array([without]), max(at.objective, 1e-300), n, p, objective)[0] >= chance)


def no_optimum(law: Law, at: Settled, y: Array, weights: Array, objective: Objective) -> str | None:
    """Say why the minimum is no optimum but a flat direction, or return None."""
    flat = flat_direction(at, y, weights, objective)
    if flat is not None:
        names = [name for name, by in zip(law.coordinates(), flat, strict=True) if by]
        traded = "can be traded for one another" if len(set(names)) > 1 else "moves no prediction"
        return f"flat direction: {', '.join(dict.fromkeys(names))} {traded}"
    if np.ptp(at.held.value(at.z[None])) <= FLAT:
        names = list(dict.fromkeys(law.positive().values())) or law.coordinates()[-1:]
        which = ", ".join(names)
        return f"flat direction: {which} is 0, to rounding; the fitted {law.response} is the same at all points"
    for k, name in law.positive().items():
        if abs(at.theta[k]) <= FLAT:
            return f"flat direction: {name} is 0, to rounding"
    return None


def flat_direction(at: Settled, y: Array, weights: Array, objective: Objective) -> NDArray[np.bool_] | None:
    """Return which coordinates of theta can be moved together without any prediction moving, or None."""
    m, jacobian = at.held.derivatives(at.z[None])
    design = jacobian[0] if objective.logarithmic else jacobian[0] * np.exp(m)
    gram = (design * weights) @ design.T
    size = np.sqrt(np.diag(gram))
    if not (size > 0).all():
        direction = (np.argmin(size) == np.arange(len(size))).astype(float)
    else:
        value, vector = np.linalg.eigh(gram / np.outer(size, size))
        if value[0] >= RANK:
            return None
        direction = vector[:, 0]
    moved = np.abs(at.held.basis @ direction)
    return moved > 0.3 * moved.max()


def standard_errors(at: Settled, y: Array, weights: Array, objective: Objective) -> Array:
    """Return the standard error of each coordinate of theta, 0 where it is held."""
    m, jacobian = at.held.derivatives(at.z[None])
    residual, design = (np.log(y) - m)[0], jacobian[0]
    if not objective.logarithmic:
        residual, design = y - np.exp(m[0]), design * np.exp(m)
    gram = (design * weights) @ design.T
    size = np.sqrt(np.diag(gram))
    spare = len(y) - len(at.z)
    if objective.kind in ("huber", "lad"):
        # As many residuals as there are parameters can be 0 whatever the points are.
        left = np.sort(np.abs(residual))[min(len(at.z), len(y) - 1) :]
        spread = 1.4826 * np.median(left) * np.sqrt(np.average(weights)) if spare else 0.0
    else:
        spread = np.sqrt((weights * residual**2).sum() / max(spare, 1))
    value, vector = np.linalg.eigh(gram / np.outer(size, size))
    root = at.held.basis @ (vector / np.sqrt(value) / size[:, None])
    return spread * np.sqrt((root**2).sum(-1))


def doubts(
    law: Law, at: Settled, y: Array, weights: Array, objective: Objective, chosen: frozenset[int] = frozenset()
) -> Doubts:
    """Return which parameters the points don't tell at an optimum, and why; the caller left out the `chosen` terms."""
    found = Doubts()
    there = {term.exponent for k, term in enumerate(law.terms) if k not in at.held.gone}

    def left_out(k: int, kept: set[str | None]) -> dict[str, Iterable[str]]:
        term = law.terms[k]
        ends: dict[str, Iterable[str]] = {term.coefficient: (LOW,)}
        return ends | ({term.exponent: (LOW, HIGH)} if term.exponent and term.exponent not in kept else {})

    for k in sorted(at.held.gone - chosen):
        found.add(law.vanished(k), left_out(k, there))
    theta, error = at.theta, standard_errors(at, y, weights, objective)
    exponents = {places[1]: k for k, places in enumerate(at.held.model.columns) if len(places) > 1}
    for place, name in law.positive().items():
        if exponents[place] in at.held.gone or not at.held.basis[place].any():
            continue
        if theta[place] < -CLEAR * error[place]:
            found.add(f"{name} is negative: the {law.response} rises where the law says that it falls")
        elif theta[place] <= (0.0 if at.without else CLEAR * error[place]):
            term = law.terms[exponents[place]]
            ends: dict[str, Iterable[str]] = {name: (HIGH if term.reciprocal else LOW,)}
            if term.kind == "ratio":
                ends[term.coefficient] = (HIGH if theta[at.held.model.columns[exponents[place]][0]] > 0 else LOW,)
            found.add(f"flat direction: {name} is within {CLEAR} standard errors of 0", ends)
    for k, (rest, _, _) in at.without.items():
        if not needed(at, k, y, objective):
            kept = {term.exponent for other, term in enumerate(law.terms) if other not in rest.gone}
            lost = sorted(rest.gone - at.held.gone)
            names = [name for one in lost for name in (law.terms[one].coefficient, law.terms[one].exponent) if name]
            said = f"boundary: the points don't need the term of {', '.join(names)}; without it they are fitted as well"
            for one in lost:
                found.add(said, left_out(one, kept))
    return found
