"""L = E + A / N'^alpha + B / D'^beta: data that are repeated, Muennighoff et al. 2023.

D tokens of which U_D are unique are seen for R_D = D / U_D - 1 repeats, and a token is worth less each time. So are
parameters beyond U_N, the best number for U_D unique tokens by the law without repeats, R_N = N / U_N - 1:

    D' = U_D (1 + R_D* (1 - exp(-R_D / R_D*)))        N' = U_N (1 + R_N* (1 - exp(-R_N / R_N*)))
    U_N = min(N, (U_D G)^(beta / alpha) G)            G = (alpha A / (beta B))^(1 / (alpha + beta))

The law's parameters are decay_D = 1 / R_D* and decay_N = 1 / R_N*: 0 is Chinchilla's law, where a repeated token is
worth a new one. The source fits E, A, B and one exponent for both to runs without repeats and holds them; then it fits
R_D* and R_N* by Huber's function (delta = 1e-3) to 182 runs of 7e6 to 9e9 parameters and up to 500 epochs, without
those that got worse by more epochs or parameters, which the law can't say. Here all are fitted together; `fix` holds
some.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ...errors import UserError
from ..fitting.estimate import Array, Objective
from ..fitting.forms import Axis, PowerSum
from ..fitting.law import Law
from ..fitting.separable import starts_of_sum
from ..fitting.terms import Parameter, Term, plain

R_D, R_N = 15.387756, 5.309743  # the source's R_D* and R_N*
DECAYS = (0.01, 0.05, 0.2, 1.0)  # starts
BEST = 4  # starts of the other parameters at each decay of the data
MOST = 16  # starts in all
FARTHEST = 600.0  # ln(N / U_N) is no larger, so that no exponential overflows


class Repetition(Law):
    """Loss of N parameters trained on D tokens, U_D of them unique (`n_unique_tokens`)."""

    name = "muennighoff"
    equation = "Muennighoff et al. 2023, Eq 13"
    inputs = ("n_params", "n_tokens", "n_unique_tokens")
    may_be_constant = ("n_unique_tokens",)
    size = "n_params"
    objective = "huber"
    parameters = (
        Parameter("E", "nats per token", 1.87, log=True),
        Parameter("A", "nats per token", 521.0, log=True),
        Parameter("alpha", "", 0.353),
        Parameter("B", "nats per token", 1488.0, log=True),
        Parameter("beta", "", 0.353),
        Parameter("decay_D", "per repeat", round(1 / R_D, 4), log=True),
        Parameter("decay_N", "per repeat", round(1 / R_N, 4), log=True),
    )
    terms = (
        Term("constant", "E"),
        Term("coefficient", "A", "n_params", "alpha", "N'"),
        Term("coefficient", "B", "n_tokens", "beta", "D'"),
        Term("constant", "decay_D"),
        Term("constant", "decay_N"),
    )

    def model(self, points: pd.DataFrame) -> Repeated:
        """See `Law.model`."""
        if not np.isfinite(points["n_tokens"]).all():
            raise UserError(f"column 'n_tokens': {self.name} needs finite numbers, since repeats are counted")
        return Repeated(*(points[name].to_numpy() for name in self.inputs))

    def starts(
        self, model: Repeated, y: Array, weights: Array, objective: Objective, gone: frozenset[int] = frozenset()
    ) -> Array:
        """For given decays of the data, and no parameter in excess, it is a power sum: a grid of decays."""
        decays = [(-np.inf,) if k in gone else np.log(DECAYS) for k in (3, 4)]
        there = [k for k in range(3) if k not in gone]
        found = []
        for decay_d in decays[0]:
            data = Axis(np.exp(model.ln_unique + worth(decay_d, model.repeats)))
            axes = [None, model.axes[1], data]
            sums = starts_of_sum(PowerSum([axes[k] for k in there], len(y)), y, weights, objective)[:BEST]
            theta = np.zeros((len(sums), model.p))
            theta[:, [place for k in there for place in model.columns[k]]] = sums
            if 2 in there:  # the effective data have another scale
                theta[:, 3], theta[:, 4] = model.axes[2].scaled(*data.raw(theta[:, 3], theta[:, 4]))
            theta[:, 5] = decay_d
            for decay_n in decays[1]:
                found.append(theta.copy())
                found[-1][:, 6] = decay_n
        starts = np.vstack(found)
        for k in gone:
            starts[:, model.columns[k][0]] = -np.inf
        with np.errstate(all="ignore"):
            error = ((np.log(y) - model.value(starts)) ** 2 * weights).sum(-1)
        starts[~np.isfinite(starts)] = 0.0  # what is gone has no start
        return starts[np.argsort(error, kind="stable")][:MOST]

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """See `Law.evaluate`."""
        return np.exp(Repeated(*(np.atleast_1d(inputs[name]) for name in self.inputs)).at(vectors))

    def vanished(self, k: int) -> str:
        """See `Law.vanished`."""
        if k < 3:
            return super().vanished(k)
        what = ("repeated tokens", "parameters in excess")[k - 3]
        return f"boundary: {self.terms[k].coefficient} is 0 at the optimum; the points show no loss of worth of {what}"

    def formula(self, values: Mapping[str, float]) -> str:
        """See `Law.formula`."""
        parts = [f"{values['E']:.3g}"] if values["E"] else []
        for c, a, x, decay in (("A", "alpha", "N", "decay_N"), ("B", "beta", "D", "decay_D")):
            if values[c]:
                mark = "'" if values[decay] else ""
                parts.append(f"{plain(format(values[c], '.3g'))} / {x}{mark}^{values[a]:.3g}")
        scales = [f"R_{x}* = {1 / values[f'decay_{x}']:.3g}" for x in "ND" if values[f"decay_{x}"]]
        return ", ".join([f"L = {' + '.join(parts)}", *scales])


class Repeated:
    """ln L with N' and D', for theta = (c_E, c_A, a_A, c_B, a_B, ln decay_D, ln decay_N) on scaled axes of N and D."""

    p = 7
    columns = ((0,), (1, 2), (3, 4), (5,), (6,))

    def __init__(self, n_params: Array, n_tokens: Array, n_unique: Array) -> None:
        self.axes = [None, Axis(n_params), Axis(n_tokens), None, None]
        self.ln_n, self.ln_d = np.log(n_params), np.log(n_tokens)
        self.repeats = np.maximum(n_tokens / n_unique - 1, 0.0)
        self.ln_unique = np.log(np.minimum(n_unique, n_tokens))

    def stands_without(self, term: int) -> bool:
        """Whether the law can be without a term."""
        return True

    def value(self, theta: Array) -> Array:
        """Return ln L; NaN where an exponent is not positive, which leaves no best number of parameters."""
        return self._sum(*self._raw(theta))[0]

    def at(self, vectors: Array) -> Array:
        """Return ln L of the law's own parameters."""
        there = np.where(np.isnan(vectors), 1.0, vectors)  # the exponent of a term that is left out
        return self._sum(*(column[:, None] for column in there.T))[0]

    def shares(self, theta: Array) -> list[Array]:
        """Return the share of E, A and B in the loss, and by what share of it each decay raises the loss."""
        raw = self._raw(theta)
        _, parts, (lost_n, lost_d), _ = self._sum(*raw)
        return [*parts, -parts[2] * np.expm1(raw[4] * lost_d), -parts[1] * np.expm1(raw[2] * lost_n)]

    def derivatives(self, theta: Array) -> tuple[Array, Array]:
        """Return m and its Jacobian (see `estimate.Model`)."""
        raw = self._raw(theta)
        _, _, alpha, _, beta, decay_d, decay_n = raw
        size, data = self.axes[1], self.axes[2]
        m, (e, a, b), (lost_n, lost_d), (excess, ln_u) = self._sum(*raw)
        keeps = np.exp(-np.exp(decay_n) * excess)  # what one more repeat is worth
        moved = np.where(
            excess > 0, 1 - keeps * (1 + excess) / np.exp(worth(decay_n, excess)), 0.0
        )  # d ln N' / d ln U_N
        by_a, by_b = moved / alpha, -moved / alpha  # d ln N' by ln A and ln B, and by the exponents:
        by_alpha, by_beta = moved * (1 / alpha - ln_u) / alpha, moved * (self.ln_unique - 1 / beta) / alpha
        m_n, m_d = size.centre / size.scale, data.centre / data.scale
        pull = -a * alpha
        return m, np.stack(
            np.broadcast_arrays(
                e,
                a + pull * by_a,
                -a * (size.x + lost_n / size.scale) + pull * (by_a * m_n + by_alpha / size.scale),
                b + pull * by_b,
                -b * (data.x + lost_d / data.scale) + pull * (by_b * m_d + by_beta / data.scale),
                -b * beta * bend(decay_d, self.repeats),
                pull * bend(decay_n, excess),
            ),
            axis=1,
        )

    def _raw(self, theta: Array) -> list[Array]:
        """Return the law's parameters (n, 1), coefficients by their logarithm."""
        e, c_a, a_a, c_b, a_b, decay_d, decay_n = (theta[:, k, None] for k in range(self.p))
        return [e, *self.axes[1].raw(c_a, a_a), *self.axes[2].raw(c_b, a_b), decay_d, decay_n]

    def _sum(self, e, ln_a, alpha, ln_b, beta, decay_d, decay_n):
        """Return ln L, the shares of its terms, ln N'/N and ln D'/D, and R_N with ln U_N where it is not 0."""
        with np.errstate(all="ignore"):
            ln_u = (beta * self.ln_unique + np.log(alpha) + ln_a - np.log(beta) - ln_b) / alpha
            whole = np.isneginf(ln_a) | np.isneginf(ln_b)  # without both terms no number of parameters is the best
            below = np.clip(np.where(whole, 0.0, self.ln_n - ln_u), 0.0, FARTHEST)
            excess = np.expm1(below)
            lost_n = worth(decay_n, excess) - below
            ln_data = self.ln_unique + worth(decay_d, self.repeats)
            lines = np.broadcast_arrays(e, ln_a - alpha * (self.ln_n + lost_n), ln_b - beta * ln_data)
            m = np.logaddexp.reduce(lines)
        return (
            m,
            [np.exp(line - m) for line in lines],
            (lost_n, ln_data - self.ln_d),
            (excess, np.where(below > 0, ln_u, 0.0)),
        )


def worth(decay: Array, repeats: Array) -> Array:
    """Return ln of how many times the first epoch all epochs are worth, for ln decay and how often it is repeated.

    Examples
    --------
    Four epochs, at the source's decay, at none and where repeats are worth nothing:

    >>> np.exp(worth(np.log([1 / 15.387756, 1e-300, 1e9]), 3.0)).round(2)
    array([3.73, 4.  , 1.  ])
    """
    rate = np.exp(decay)
    with np.errstate(all="ignore"):
        return np.log1p(np.where(rate > 0, -np.expm1(-rate * repeats) / rate, repeats))


def bend(decay: Array, repeats: Array) -> Array:
    """Return the derivative of `worth` by ln decay."""
    gained = np.expm1(worth(decay, repeats))
    return (repeats * np.exp(-np.exp(decay) * repeats) - gained) / (1 + gained)
