"""L(t) = L_0 + A / S(t)^alpha - LD(t): a loss curve under any learning-rate schedule, Luo et al. 2025 (Eq 1).

S(t) is the sum of the learning rate over all steps so far, warmup included, and LD what its falls have gained since:

    LD(t) = B sum_k (lr_(k-1) - lr_k) G(lr_k^-gamma S_k(t)),    G(x) = 1 - (1 + C x)^-beta

with S_k(t) the sum over steps k to t, and k from the end of the warmup. The source fits all seven by Huber's function
(delta = 1e-3) of ln L to two or three curves, such as a constant rate, a cosine and one step down, and predicts those
of other schedules. Losses during the warmup are not of this law.

References
----------
.. [1] Luo, Wen, Hu, Sun, Liu, Sun, Lyu, Chen 2025, A Multi-Power Law for Loss Curve Prediction Across Learning Rate
   Schedules, arXiv 2503.12811.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from ...errors import UserError
from ..fitting.constraint import Held
from ..fitting.estimate import Array, Objective
from ..fitting.forms import Axis, PowerSum
from ..fitting.law import Law
from ..fitting.point_table import blank, check_names, check_points, numbers, rename
from ..fitting.separable import positive_least_squares, starts_of_sum
from ..fitting.terms import Parameter, Term, plain
from .schedule import Schedule

SCHEDULE = "_schedule"  # the column with the schedule of each row's run
CURVE = "curve"  # what the run of a table without runs is called
STARTS = {"alpha": (0.2, 0.45, 0.9), "reach": (0.3, 3.0, 30.0, 300.0), "gamma": (0.3, 0.8), "beta": (0.3, 0.6, 1.2)}
BEST = 8  # of these
DECAY = (2, 3, 4)  # the terms that are nothing without one another


class MultiPower(Law):
    """Loss after `step` steps of a run, by its learning rate `lr` at all steps until then."""

    name = "multi_power"
    equation = "Luo et al. 2025, Eq 1"
    inputs = ("step", "lr")
    size = "step"
    objective = "huber"
    whole_curves = True
    parameters = (
        Parameter("L_0", "nats per token", log=True),
        Parameter("A", "nats per token", log=True),
        Parameter("alpha"),
        Parameter("B", "nats per token", log=True),
        Parameter("C", log=True),
        Parameter("gamma"),
        Parameter("beta", log=True),
    )
    terms = (
        Term("constant", "L_0"),
        Term("coefficient", "A", "step", "alpha", "S"),
        Term("constant", "B"),
        Term("coefficient", "C", "lr", "gamma", "lr"),
        Term("constant", "beta"),
    )

    def prepare(
        self, points: pd.DataFrame, columns: Mapping[str, str], weights: str | Sequence[float] | None = None
    ) -> tuple[pd.DataFrame, list[str]]:
        """Return the rows after the warmup that have a loss, each with the schedule of its run.

        All rows of a run say what its learning rate is. A table without runs is one curve.
        """
        if SCHEDULE in points:  # these are such rows
            return points, []
        check_names(columns, (*self.inputs, self.response))
        named = rename(points, columns)
        named = named if "run" in named else named.assign(run=CURVE)
        lr = numbers(named, "lr", self.name, zero=True)
        step = np.round(numbers(named, "step", self.name, zero=True), 6)
        for k in np.flatnonzero(step % 1):
            label = named.index.name or "row"
            raise UserError(f"column 'step', {label} {named.index[k]}: {step[k]:g} is not a whole number of steps")
        unmeasured = blank(named, self.response)
        if unmeasured.all():
            raise UserError(f"column {self.response!r}: is empty in every row")
        if weights is not None and not isinstance(weights, str):
            weights = np.asarray(weights)[~unmeasured]
        used = check_points(named[~unmeasured], self.name, self.inputs, self.response, weights)
        used["step"] = step[~unmeasured]
        run = named["run"].astype(str).to_numpy()
        known = {one: Schedule(step[run == one], lr[run == one], one) for one in used["run"].unique()}
        used[SCHEDULE] = used["run"].map(known)
        after = used["step"].to_numpy() >= np.maximum([one.warm for one in used[SCHEDULE]], 1.0)
        if not after.any():
            raise UserError(
                f"column {self.response!r}: every row lies in the warmup, of which {self.name} says nothing"
            )
        return used[after], _said(known, int(unmeasured.sum()), int((~after).sum()))

    def inputs_of(self, points: pd.DataFrame) -> dict[str, Array]:
        """See `Law.inputs_of`."""
        return {name: points[name].to_numpy() for name in (*self.inputs, SCHEDULE)}

    def spans(self, points: pd.DataFrame) -> dict[str, list[float]]:
        """See `Law.spans`: more steps, and a higher rate, are what is beyond."""
        return {name: [0.0, float(points[name].max())] for name in self.inputs}

    def positive(self) -> dict[int, str]:
        """See `Law.positive`: gamma may be 0, where a fall is worth the same at any rate."""
        return {2: "alpha"}

    def model(self, points: pd.DataFrame) -> Annealed:
        """See `Law.model`."""
        return Annealed(points[SCHEDULE].to_numpy(), points["step"].to_numpy(dtype=float))

    def too_few(self, points: pd.DataFrame, held: Held) -> str | None:
        """See `Law.too_few`: the rate has to fall."""
        reason = super().too_few(points, held)
        if reason is None and not held.gone & set(DECAY) and not len(held.model.point):
            reason = "the learning rate never falls after the warmup: B, C, beta and gamma can't be told (--fix B=0)"
        return reason

    def starts(
        self, model: Annealed, y: Array, weights: Array, objective: Objective, gone: frozenset[int] = frozenset()
    ) -> Array:
        """For given alpha, C, gamma and beta the loss is linear in L_0, A and B: a grid of those."""
        there = [k for k in range(2) if k not in gone]
        if gone & set(DECAY):
            found = starts_of_sum(PowerSum([model.axes[k] for k in there]), y, weights, objective)
            theta = np.zeros((len(found), model.p))
            theta[:, [place for k in there for place in model.columns[k]]] = found
            return theta
        scale = y if objective.logarithmic else np.ones_like(y)
        reach = np.log(np.median(model.since[model.since > 0]))
        tried = []
        for alpha, size, gamma, beta in product(*STARTS.values()):
            a, g = alpha * model.axes[1].scale, gamma * model.axes[3].scale
            theta = np.array([0.0, 0.0, a, 0.0, np.log(size) - reach, g, np.log(beta)])
            fallen = model.fallen(*model.raw(theta)[4:])
            lines = [np.ones_like(y), np.exp(-a * model.axes[1].x), -fallen]
            basis = np.stack([lines[k] for k in (*there, 2)]) / scale
            found, value = positive_least_squares(basis[None], y / scale, weights)
            least = 0.01 * np.mean(y / scale) / np.abs(basis).mean(-1).clip(1e-300)
            theta[[model.columns[k][0] for k in (*there, 2)]] = np.log(np.maximum(found[0], least))
            tried.append((float(value[0]), theta))
        starts = np.array([theta for _, theta in sorted(tried, key=lambda one: one[0])])
        return starts[np.isfinite(model.value(starts)).all(-1)][:BEST]

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """See `Law.evaluate`; NaN during the warmup. All rows of a run say what its learning rate is."""
        schedules = inputs[SCHEDULE] if SCHEDULE in inputs else schedules_of(inputs)
        return np.exp(Annealed(schedules, inputs["step"]).at(vectors))

    def unsaid(self, inputs: Mapping[str, Array]) -> list[str | None]:
        """See `Law.unsaid`."""
        warm = [max(one.warm, 1.0) for one in schedules_of(inputs)]
        said = f"in the warmup, of which {self.name} says nothing"
        return [said if step < end else None for step, end in zip(inputs["step"], warm, strict=True)]

    def vanished(self, k: int) -> str:
        """See `Law.vanished`."""
        if k not in DECAY:
            return super().vanished(k)
        return "boundary: B is 0 at the optimum; the points show no gain by a fall of the learning rate"

    def formula(self, values: Mapping[str, float]) -> str:
        """See `Law.formula`."""
        number = {name: plain(format(value, ".3g")) for name, value in values.items()}
        parts = [number["L_0"]] if values["L_0"] else []
        parts.append(f"{number['A']} / S^{values['alpha']:.3f}")
        formula = f"L = {' + '.join(parts)}"
        if values["B"]:
            inside = f"1 + {number['C']} lr_k^{-values['gamma']:.3f} S_k"
            formula += f" - {number['B']} sum_k (lr_(k-1) - lr_k) [1 - ({inside})^{-values['beta']:.3f}]"
        return formula


def schedules_of(inputs: Mapping[str, Array]) -> Array:
    """Return the schedule of each row, for arrays of run, step and lr; all rows are of one run without `run`."""
    step, lr = inputs["step"], inputs["lr"]
    run = np.asarray(inputs.get("run", np.full(len(step), CURVE)))
    found = np.empty(len(step), dtype=object)
    for one in np.unique(run):
        rows = run == one
        found[rows] = Schedule(step[rows], lr[rows], str(one))
    return found


def _said(known: Mapping[str, Schedule], unmeasured: int, warming: int) -> list[str]:
    """Say what was made of the rows."""
    said = []
    if unmeasured or warming:
        parts = [f"{unmeasured} without a loss"] * bool(unmeasured) + [f"{warming} of the warmup"] * bool(warming)
        said.append(f"rows that give the learning rate alone: {' and '.join(parts)}")
    gap = max(one.gap for one in known.values())
    if gap > 1:
        said.append(f"the learning rate is interpolated between rows, where it changes over {gap:g} steps at most")
    late = [one for one in known.values() if one.known_from > 1]
    if late:
        first = max(one.known_from for one in late)
        said.append(
            f"the learning rate before the first row, at step {first:g}, is taken as what it is there"
            + (f" (of {len(late)} runs, the latest)" if len(late) > 1 else "")
        )
    return said


class Annealed:
    """ln L, for theta = (c_0, c_A, a_A, ln B, c_C, a_C, ln beta): A on the axis of S, C on that of the rate.

    Parameters
    ----------
    schedules : ndarray of Schedule
        Of each point's run.
    step : ndarray of shape (n_points,)
    """

    p = 7
    columns = ((0,), (1, 2), (3,), (4, 5), (6,))
    together = {one: frozenset(DECAY) for one in DECAY}  # noqa: RUF012

    def __init__(self, schedules: Array, step: Array) -> None:
        summed = np.full(len(step), np.nan)
        node = [np.empty(0, dtype=int)]  # of each pair of a step, at which falls are summed, and a fall before it
        falls = [np.empty((0, 3))]
        since = [np.empty(0)]
        self.low, self.high, self.part = np.zeros(len(step), int), np.zeros(len(step), int), np.zeros(len(step))
        n_nodes = 0
        for schedule in dict.fromkeys(schedules):
            rows = np.flatnonzero([one is schedule for one in schedules])
            after = rows[step[rows] >= max(schedule.warm, 1.0)]
            summed[after] = schedule.summed(step[after])
            if not len(after):
                continue
            at = schedule.nodes(step[after])
            fall = schedule.falls(at)
            i, j = np.nonzero(fall.end <= at[:, None])
            node.append(n_nodes + i)
            falls.append(np.stack([fall.drop, fall.rate, fall.summed], axis=1)[j])
            since.append(schedule.summed(at)[i] - fall.summed[j])
            low = np.clip(np.searchsorted(at, step[after], side="right") - 1, 0, max(len(at) - 2, 0))
            high = np.minimum(low + 1, len(at) - 1)
            self.part[after] = (step[after] - at[low]) / np.maximum(at[high] - at[low], 1)
            self.low[after], self.high[after] = n_nodes + low, n_nodes + high
            n_nodes += len(at)
        self.n_nodes, self.point = n_nodes, np.concatenate(node)
        drop, rate, _ = np.concatenate(falls).T
        self.drop, self.since = drop, np.maximum(np.concatenate(since), 0.0)
        self.sum = Axis(summed)
        with np.errstate(divide="ignore"):
            self.ln_rate, self.ln_since = np.log(rate), np.log(self.since)
        positive = rate[rate > 0]
        self.axes = [None, self.sum, None, Axis(positive if len(positive) else np.ones(1)), None]
        self.said = np.isfinite(summed)

    def stands_without(self, term: int) -> bool:
        """Whether the law can be without a term: L_0, or all that falls gain."""
        return term in (0, DECAY[0])

    def raw(self, theta: Array) -> list[float]:
        """Return the law's parameters, coefficients and beta by their logarithm, from one theta (p,)."""
        c0, c_a, a_a, b, c_c, a_c, beta = theta
        return [c0, *self.axes[1].raw(c_a, a_a), b, *self.axes[3].raw(c_c, a_c), beta]

    def at(self, vectors: Array) -> Array:
        """Return ln L of the law's own parameters, (n, n_points); NaN in the warmup."""
        with np.errstate(all="ignore"):
            loss = np.stack([self._parts(vector)[0] for vector in vectors])
            return np.where(self.said, np.log(loss), np.nan)

    def value(self, theta: Array) -> Array:
        """Return ln L; NaN where it is not positive."""
        return self.at(np.array([self.raw(one) for one in theta]))

    def shares(self, theta: Array) -> list[Array]:
        """Return the share of L_0, of A's term and of what falls gain, three times, in the loss."""
        with np.errstate(all="ignore"):
            rows = [self._parts(np.array(self.raw(one))) for one in theta]
        constant, power, gained = (np.stack([np.abs(row[k]) / row[0] for row in rows]) for k in (1, 2, 3))
        return [constant, power, gained, gained, gained]

    def derivatives(self, theta: Array) -> tuple[Array, Array]:
        """Return m and its Jacobian (see `estimate.Model`)."""
        values, jacobians = [], []
        for one in theta:
            raw = self.raw(one)
            with np.errstate(all="ignore"):
                loss, constant, power, gained = self._parts(np.array(raw))
                by_c, by_gamma, by_beta = self._slopes(*raw[3:])
                axis = self.axes[3]
                by_a = (by_gamma + axis.centre * by_c) / axis.scale  # c = c_C + a_C centre / scale, gamma = a_C / scale
                rows = [constant, power, -self.sum.x * power, -gained, -by_c, -by_a, -by_beta]
                jacobians.append(np.stack([np.broadcast_to(row, loss.shape) for row in rows]) / loss)
                values.append(np.log(loss))
        return np.stack(values), np.stack(jacobians)

    def fallen(self, ln_c: float, gamma: float, ln_beta: float) -> Array:
        """Return the sum over falls of each times G, at each point."""
        if np.isneginf(ln_c) or np.isneginf(ln_beta):
            return np.zeros(len(self.said))
        return self._over_points(self.drop * -np.expm1(-np.exp(ln_beta) * np.log1p(self._x(ln_c, gamma))))

    def _x(self, ln_c: float, gamma: float) -> Array:
        """Return C lr_k^-gamma S_k of each pair of a point and a fall before it; 0 where S_k is."""
        with np.errstate(all="ignore"):
            return np.where(self.since > 0, np.exp(ln_c - gamma * self.ln_rate + self.ln_since), 0.0)

    def _parts(self, raw: Array) -> tuple[Array, float, Array, Array]:
        """Return L, L_0, A / S^alpha and what falls gained."""
        c0, c_a, alpha, b, c_c, gamma, beta = raw
        s = self.sum.x * self.sum.scale + self.sum.centre
        power = np.exp(c_a - alpha * s)
        gained = np.zeros_like(power) if np.isneginf(b) else np.exp(b) * self.fallen(c_c, gamma, beta)
        return np.exp(c0) + power - gained, np.exp(c0), power, gained

    def _slopes(self, ln_b: float, ln_c: float, gamma: float, ln_beta: float) -> list[Array]:
        """Return the derivatives of what falls gained by ln C, gamma and ln beta."""
        if np.isneginf(ln_b):
            return [np.zeros(len(self.said))] * 3
        x, beta = self._x(ln_c, gamma), np.exp(ln_beta)
        grown = np.log1p(x)
        kept = self.drop * np.exp(ln_b - beta * grown)
        by_x = beta * kept * np.where(np.isinf(x), 1.0, x / (1 + x))
        by_rate = np.where(by_x != 0, -self.ln_rate * by_x, 0.0)
        return [self._over_points(one) for one in (by_x, by_rate, beta * np.where(kept != 0, grown * kept, 0.0))]

    def _over_points(self, pairs: Array) -> Array:
        """Return the sum over the falls before each point."""
        nodes = np.bincount(self.point, pairs, self.n_nodes) if self.n_nodes else np.zeros(1)
        return nodes[self.low] + self.part * (nodes[self.high] - nodes[self.low])
