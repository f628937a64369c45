"""The shapes that laws share, with exact derivatives, in coordinates that a solver likes.

A power term c - a x is a straight line in x = ln X. Laws are sums of such terms,

    ln f = t * log sum_k exp((c_k - a_k x_k) / t),

with t = 1 (or, for Eq 1.5, t = alpha_D). The x are centred and scaled for the solver, since N_c = 1e13 and
alpha = 0.08 are a poor pair of coordinates; `Scaling` goes back and forth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .estimate import Array


class Axis:
    """x = ln X of one column, centred and scaled over its finite points; X = infinity gives weight zero.

    Parameters
    ----------
    values : ndarray of shape (n_points,)
        Positive, may be infinite.
    """

    def __init__(self, values: Array) -> None:
        with np.errstate(divide="ignore"):
            x = np.log(values)
        self.finite = np.isfinite(x)
        self.centre = float(x[self.finite].mean()) if self.finite.any() else 0.0
        spread = float(x[self.finite].std()) if self.finite.any() else 0.0
        self.scale = spread if spread > 1e-9 else 1.0
        self.x = np.where(self.finite, (np.where(self.finite, x, 0.0) - self.centre) / self.scale, 0.0)
        self.minus_x = -self.x
        self.offset = np.where(self.finite, 0.0, -np.inf)  # added to a term: it vanishes at X = infinity

    def raw(self, c: Array, a: Array) -> tuple[Array, Array]:
        """Return (c, a) of c - a ln X from those of the scaled axis."""
        return c + a * self.centre / self.scale, a / self.scale

    def scaled(self, c: Array, a: Array) -> tuple[Array, Array]:
        """Return (c, a) on the scaled axis from those of c - a ln X."""
        return c - a * self.centre, a * self.scale


class PowerSum:
    """ln of a sum of power terms; a term without an axis is a constant.

    theta is (c_1, a_1, c_2, a_2, ...), a constant having only its c. A constant alone has to be told `n_points`.
    """

    def __init__(self, axes: Sequence[Axis | None], n_points: int = 1) -> None:
        self.axes = list(axes)
        self.n_points = max([n_points, *(len(axis.x) for axis in self.axes if axis is not None)])
        self.columns = []  # of each term: where its c and a are in theta
        p = 0
        for axis in self.axes:
            self.columns.append((p,) if axis is None else (p, p + 1))
            p += len(self.columns[-1])
        self.p = p

    def stands_without(self, term: int) -> bool:
        """Whether the sum can be without a term."""
        return True

    def terms(self, theta: Array) -> list[Array]:
        """Return c_k - a_k x_k of each term, (n_problems, n_points)."""
        lines = []
        for axis, column in zip(self.axes, self.columns, strict=True):
            c = theta[:, column[0], None]
            if axis is None:
                lines.append(np.broadcast_to(c, (len(theta), self.n_points)))
                continue
            line = theta[:, column[1], None] * axis.minus_x
            line += c
            if not axis.finite.all():
                line += axis.offset
            lines.append(line)
        return lines

    def value(self, theta: Array) -> Array:
        """Return ln of the sum."""
        return self._sum(theta)[0]

    def shares(self, theta: Array) -> list[Array]:
        """Return each term's share of the sum, (n_problems, n_points)."""
        _, parts, total = self._sum(theta)
        return [part / total for part in parts]

    def _sum(self, theta: Array) -> tuple[Array, list[Array], Array]:
        """Return ln of the sum, and the terms and their sum divided by the largest term."""
        lines = self.terms(theta)
        top = lines[0]
        for line in lines[1:]:
            top = np.maximum(top, line)
        parts = [np.exp(line - top) for line in lines]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return top + np.log(total), parts, total

    def derivatives(self, theta: Array) -> tuple[Array, Array]:
        """Return m and its Jacobian (see `estimate.Model`)."""
        m, parts, total = self._sum(theta)
        shares = [part / total for part in parts]
        jacobian = np.empty((len(theta), self.p, m.shape[1]))
        for axis, column, share in zip(self.axes, self.columns, shares, strict=True):
            jacobian[:, column[0]] = share
            if axis is not None:
                np.multiply(share, axis.minus_x, out=jacobian[:, column[1]])
        return m, jacobian


class SoftMaximum:
    """ln L = t log(exp(s/t) + exp(u/t)) with s = c_N - a_N x, u = c_D - t y: Eq 1.5, with t = alpha_D.

    theta is (c_N, a_N, c_D, a_D) on the scaled axes.
    """

    p = 4
    columns = ((0, 1), (2, 3))

    def __init__(self, size: Axis, data: Axis) -> None:
        self.size, self.data = size, data
        self.axes = [size, data]

    def stands_without(self, term: int) -> bool:
        """Whether the data alone, or the size alone, give a loss at each point."""
        return bool(self.axes[1 - term].finite.all())

    def _lines(self, theta: Array) -> tuple[Array, Array, Array]:
        c_n, a_n, c_d, a_d = (theta[:, k, None] for k in range(4))
        t = a_d / self.data.scale
        return (c_n - a_n * self.size.x + self.size.offset) / t, (c_d - a_d * self.data.x) / t + self.data.offset, t

    def value(self, theta: Array) -> Array:
        """Return ln L; NaN where alpha_D is not positive."""
        s, u, t = self._lines(theta)
        return np.where(t > 0, t * np.logaddexp(s, u), np.nan)

    def shares(self, theta: Array) -> list[Array]:
        """Return the share of the size term and of the data term inside the bracket of Eq 1.5."""
        s, u, _ = self._lines(theta)
        m = np.logaddexp(s, u)
        return [np.exp(s - m), np.exp(u - m)]

    def derivatives(self, theta: Array) -> tuple[Array, Array]:
        """Return m and its Jacobian (see `estimate.Model`)."""
        s, u, t = self._lines(theta)
        log_sum = np.logaddexp(s, u)
        p, q = np.exp(s - log_sum), np.exp(u - log_sum)
        k = 1 / self.data.scale  # t = k a_D
        # dm/dt at fixed lines t s and t u is the entropy of (p, q).
        entropy = log_sum - p * np.where(p > 0, s, 0.0) - q * np.where(q > 0, u, 0.0)
        x, y = self.size.x, self.data.x
        jacobian = np.stack(np.broadcast_arrays(p, -p * x, q, -q * y + k * entropy), axis=1)
        return t * log_sum, jacobian


class Logarithm:
    """L = c - a x, a straight line in ln N that is not a power law; m = ln L."""

    p = 2
    columns = ((0, 1),)

    def __init__(self, axis: Axis) -> None:
        self.axis, self.axes = axis, [axis]

    def value(self, theta: Array) -> Array:
        """Return ln L; NaN where L is not positive."""
        return np.log(theta[:, :1] - theta[:, 1:] * self.axis.x)

    def derivatives(self, theta: Array) -> tuple[Array, Array]:
        """Return m and its Jacobian (see `estimate.Model`)."""
        loss = theta[:, :1] - theta[:, 1:] * self.axis.x
        jacobian = np.stack([1 / loss, -self.axis.x / loss], axis=1)
        return np.log(loss), jacobian
