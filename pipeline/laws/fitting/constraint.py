"""A law with some of its parameters fixed or tied, or with a term left out: fewer coordinates, mapped into its own.

The model's coordinates are theta = origin + basis z, and the solver moves z. A parameter that is fixed, and a tie of
two, are linear equations of theta; a term is left out by holding the logarithm of its coefficient at minus infinity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg

from ...errors import UserError
from .estimate import Array

if TYPE_CHECKING:
    from .law import Law

ROUNDING = 1e-12  # of a direction's numbers


@dataclass(frozen=True)
class Held:
    """An `estimate.Model` in the coordinates that are left free.

    Parameters
    ----------
    model : Model
        A sum of terms; `columns` says where the coefficient and the exponent of each are in theta.
    origin : ndarray of shape (p,)
    basis : ndarray of shape (p, q)
        Orthonormal columns.
    gone : frozenset of int
        The terms that are left out.

    Examples
    --------
    >>> from pipeline.laws.fitting.forms import Axis, PowerSum
    >>> free = Held.of(PowerSum([None, Axis(np.array([1e6, 1e7, 1e8]))]))
    >>> free.p, free.without(0).p, free.meeting(np.array([[0.0, 0, 1]]), np.array([0.3])).p
    (3, 2, 2)
    """

    model: Any
    origin: Array
    basis: Array
    gone: frozenset[int] = frozenset()

    @classmethod
    def of(cls, model: Any) -> Held:
        """Return the model with all of its coordinates free."""
        return cls(model, np.zeros(model.p), np.eye(model.p))

    @property
    def p(self) -> int:
        """How many coordinates are free."""
        return self.basis.shape[1]

    def meeting(self, equations: Array, values: Array) -> Held | None:
        """Return it with theta held to equations @ theta = values; None where they contradict or repeat each other."""
        if not len(equations):
            return self
        reduced = equations @ self.basis
        if np.linalg.matrix_rank(reduced) < len(equations):
            return None
        step = np.linalg.lstsq(reduced, values - equations @ self.origin, rcond=None)[0]
        basis = self.basis @ linalg.null_space(reduced)
        basis[np.abs(basis) < ROUNDING] = 0.0  # what is held does not move at all
        return Held(self.model, self.origin + self.basis @ step, basis, self.gone)

    def without(self, *terms: int) -> Held:
        """Return it without some terms: their coefficients are 0 and their exponents are nothing.

        A model may say in `together` which terms go with them, being nothing alone.
        """
        origin, basis = self.origin.copy(), self.basis.copy()
        terms = with_those_lost(self.model, terms)
        for term in terms:
            coefficient, *exponent = self.model.columns[term]
            origin[coefficient], origin[exponent] = -np.inf, 1.0
            basis[[coefficient, *exponent]] = 0.0
        return Held(self.model, origin, linalg.orth(basis), self.gone | set(terms))

    @cached_property
    def optional(self) -> list[int]:
        """The terms that can be left out: others are there and free, and nothing is said of their coefficients."""
        there = [term for term in range(len(self.model.columns)) if term not in self.gone]
        loose = [t for t in there if abs(linalg.norm(self.basis[self.model.columns[t][0]]) - 1) < 1e-9]
        return [t for t in loose if len(there) > 1 and self.model.stands_without(t) and self.without(t).p]

    def place(self, z: Array) -> Array:
        """Return theta (n, p) of z (n, q)."""
        return self.origin + z @ self.basis.T

    def project(self, theta: Array) -> Array:
        """Return z (n, q) of the nearest theta that can be."""
        kept = np.isfinite(self.origin)
        return (theta[:, kept] - self.origin[kept]) @ self.basis[kept]

    def value(self, z: Array) -> Array:
        """See `estimate.Model`."""
        return self.model.value(self.place(z))

    def derivatives(self, z: Array) -> tuple[Array, Array]:
        """See `estimate.Model`."""
        m, jacobian = self.model.derivatives(self.place(z))
        return m, self.basis.T @ jacobian

    def shares(self, z: Array) -> Array:
        """Return the largest share that each term has of the response at any point, (n, n_terms)."""
        return np.stack([share.max(-1) for share in self.model.shares(self.place(z))], axis=-1)


def with_those_lost(model: Any, terms: Iterable[int]) -> frozenset[int]:
    """Return terms and all that mean nothing without them."""
    together = getattr(model, "together", {})
    return frozenset(terms).union(*(together.get(term, ()) for term in terms))


def check_constraints(
    law: Law, fix: Mapping[str, float] | None, tie: Mapping[str, str] | None
) -> tuple[dict[str, float], dict[str, str]]:
    """Return which parameters are fixed and tied, or name what can't be.

    Parameters
    ----------
    fix : mapping, optional
        Parameter -> value; a coefficient of 0 leaves its term out.
    tie : mapping, optional
        Parameter -> another one, or a number times another one, such as "1.2*beta".

    Raises
    ------
    UserError
        For a law without terms, an unknown parameter, a value that it can't have, or two that can't be tied.
    """
    fix, tie = dict(fix or {}), dict(tie or {})
    if (fix or tie) and not law.terms:
        raise UserError(f"{law.name}: its parameters can't be fixed or tied (--fix, --tie)")
    for name, value in fix.items():
        kind = _kind(law, name, f"--fix {name}={value}")
        if not np.isfinite(value) or (value <= 0 and not (law.signed and kind == "exponent")):
            droppable = kind == "coefficient" and len(law.terms) > 1
            if value != 0 or not droppable:
                raise UserError(f"--fix {name}={value:g}: a positive number is needed" + (" or 0" if droppable else ""))
    for name, other in tie.items():
        said = f"--tie {name}={other}"
        factor, partner = split_tie(said, other)
        kinds = {_kind(law, one, said) for one in (name, partner)}
        if len(kinds) > 1 or kinds == {"scale"}:
            raise UserError(f"{said}: two exponents, or two coefficients, can be tied")
        if name == partner or not (np.isfinite(factor) and factor > 0):
            raise UserError(f"{said}: NAME=NAME or NAME=NUMBER*NAME is needed, of two parameters")
        if 0 in (fix.get(name), fix.get(partner)):
            raise UserError(f"{said}: the term of a coefficient that is fixed at 0 is left out")
    return {name: float(value) for name, value in fix.items()}, tie


def split_tie(said: str, text: str) -> tuple[float, str]:
    """Return factor and name of "NAME" or "NUMBER*NAME".

    Examples
    --------
    >>> split_tie("--tie alpha=1.2*beta", "1.2*beta")
    (1.2, 'beta')
    """
    number, times, name = str(text).rpartition("*")
    try:
        return (float(number) if times else 1.0), name.strip()
    except ValueError as error:
        raise UserError(f"{said}: {number.strip()!r} is not a number") from error


def _kind(law: Law, name: str, said: str) -> str:
    """Return what a parameter is: a coefficient, the scale of a ratio such as N_c, or an exponent."""
    for term in law.terms:
        if name == term.coefficient:
            return "scale" if term.kind == "ratio" else "coefficient"
        if name == term.exponent:
            return "exponent, reciprocal" if term.reciprocal else "exponent"
    raise UserError(f"{said}: {name!r} is not a parameter of {law.name}; it has {', '.join(law.names)}")


def hold(law: Law, model: Any, fix: Mapping[str, float], tie: Mapping[str, str]) -> Held:
    """Return the model with parameters fixed and tied, as `check_constraints` found them.

    Raises
    ------
    UserError
        When the conditions contradict or repeat each other, or nothing is left to fit.
    """
    rows: dict[str, Array] = {}  # of an exponent, or of the logarithm of a coefficient: it is row @ theta
    gone = with_those_lost(model, [k for k, term in enumerate(law.terms) if fix.get(term.coefficient) == 0])
    equations: list[Array] = []
    values: list[float] = []
    for k, (term, axis, places) in enumerate(zip(law.terms, model.axes, model.columns, strict=True)):
        unit = np.eye(model.p)
        if k in gone:
            continue
        if axis is None:
            rows[term.coefficient] = unit[places[0]]
            continue
        c = unit[places[0]] + unit[places[1]] * axis.centre / axis.scale
        a = unit[places[1]] / axis.scale
        if term.exponent in rows:  # one exponent of two terms
            equations.append(rows[term.exponent] - term.sign * a)
            values.append(0.0)
        rows[term.exponent] = term.sign * a
        zero = np.log(fix.get(term.coefficient, term.reference)) if term.kind == "ratio" else np.log(term.reference)
        rows[term.coefficient] = c - a * zero
    terms = {name: term for term in law.terms for name in (term.coefficient, term.exponent)}
    for name, value in fix.items():
        if name not in rows:  # of a term that is left out
            continue
        term = terms[name]
        if name == term.exponent:
            wanted = 1 / value if term.reciprocal else value
        else:
            wanted = 0.0 if term.kind == "ratio" else np.log(value)
        equations.append(rows[name])
        values.append(wanted)
    for name, other in tie.items():
        factor, partner = split_tie(name, other)
        if not {name, partner} <= set(rows):
            continue
        if name == terms[name].exponent:
            one, two = (partner, name) if terms[name].reciprocal else (name, partner)
            equations.append(rows[one] - factor * rows[two])
            values.append(0.0)
        else:
            equations.append(rows[name] - rows[partner])
            values.append(np.log(factor))
    held = Held.of(model).without(*gone) if gone else Held.of(model)
    found = held.meeting(np.array(equations), np.array(values)) if equations else held
    said = ", ".join([*(f"{k}={v:g}" for k, v in fix.items()), *(f"{k}={v}" for k, v in tie.items())])
    if found is None:
        raise UserError(f"{law.name}: {said} contradict or repeat each other")
    if len(gone) == len(law.terms) or not found.p:
        raise UserError(f"{law.name}: {said} leave nothing to fit")
    return found
