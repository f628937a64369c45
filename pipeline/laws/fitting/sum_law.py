"""A law that is a sum of power terms, such as E + A / N^alpha + B / D^beta."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from .estimate import Array, Objective
from .forms import Axis, PowerSum
from .law import Law
from .separable import starts_of_sum
from .terms import plain


class SumLaw(Law):
    """A sum of power terms; its parameters come in the order of the terms' coefficients and exponents."""

    symbol: str = "L"

    def model(self, points: pd.DataFrame) -> PowerSum:
        """Return the sum on the points' columns."""
        return PowerSum([None if t.column is None else Axis(points[t.column].to_numpy()) for t in self.terms])

    def starts(
        self, model: PowerSum, y: Array, weights: Array, objective: Objective, gone: frozenset[int] = frozenset()
    ) -> Array:
        """Return starts from the separable structure: exponents on a grid, coefficients by least squares."""
        there = [k for k in range(len(self.terms)) if k not in gone]
        rest = PowerSum([model.axes[k] for k in there], model.n_points)
        found = starts_of_sum(rest, y, weights, objective)
        theta = np.zeros((len(found), model.p))
        theta[:, [place for k in there for place in model.columns[k]]] = found
        return theta

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """See `Law.evaluate`."""
        return np.exp(np.logaddexp.reduce(np.broadcast_arrays(*self.lines(vectors, inputs))))

    def lines(self, vectors: Array, inputs: Mapping[str, Array]) -> list[Array]:
        """Return ln of each term, (n, n_points)."""
        lines = []
        for term in self.terms:
            c = vectors[:, self.names.index(term.coefficient), None]
            if term.exponent is None:
                lines.append(c)
                continue
            a = term.sign * vectors[:, self.names.index(term.exponent), None]
            a = 1 / a if term.reciprocal else a
            x = np.log(inputs[term.column]) - np.log(term.reference)
            line = a * (c - x) if term.kind == "ratio" else c - a * x
            lines.append(np.where(np.isneginf(c), -np.inf, line))  # a term that is left out has no exponent
        return lines

    def formula(self, values: Mapping[str, float]) -> str:
        """See `Law.formula`."""
        written = []
        for term in self.terms:
            if values[term.coefficient] == 0:
                continue
            c = f"{values[term.coefficient]:.3g}"
            if term.exponent is None:
                written.append(c)
                continue
            value = values[term.exponent]
            a = term.sign * (1 / value if term.reciprocal else value)
            if term.kind == "ratio":
                one = f"({term.symbol} / {plain(c)})^{-a:.3f}"
                written.append(one if len(self.terms) == 1 else f"({plain(c)} / {term.symbol})^{a:.3f}")
            elif term.sign < 0:
                written.append(f"{plain(c)} {term.symbol}^{-a:.3g}")
            else:
                written.append(f"{plain(c)} / {term.symbol}^{a:.3g}")
        return f"{self.symbol} = {' + '.join(written)}"
