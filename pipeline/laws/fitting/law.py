"""A law: its formula and constants in the paper, and how it is fitted to points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.errors import UserError
from pipeline.laws.fitting import estimate
from pipeline.laws.fitting.estimate import OBJECTIVES, Array, Objective
from pipeline.laws.fitting.fit import Estimate, Fit
from pipeline.laws.fitting.forms import Axis, PowerSum
from pipeline.laws.fitting.intervals import LEAST_DRAWS, MISSING, interval
from pipeline.laws.fitting.likelihood import deviance
from pipeline.laws.fitting.point_table import (
    COUNTED,
    UNITS,
    check_names,
    check_points,
    complete,
    numbers,
    rename,
)
from pipeline.laws.fitting.run_noise import multipliers
from pipeline.laws.fitting.separable import starts_of_sum

CLEAR = 1.96  # an exponent nearer to zero than this many standard errors is not told apart from zero
INVISIBLE = 1e-9  # a term whose share of the response is nowhere above this is at the edge: its coefficient is 0
BEST_STARTS = 8  # of a law without one of its terms: only its minimum is asked for, which nearly all starts reach
FLAT = 1e-9  # ln y that changes by no more over all points is the same to rounding
RANK = 1e-14  # smallest eigenvalue of the scaled normal matrix that still counts: single-precision columns pass


@dataclass(frozen=True)
class Parameter:
    """A parameter of a law: name, unit, the paper's value, and whether its logarithm is the natural coordinate."""

    name: str
    unit: str = ""
    paper: float | None = None
    log: bool = False


class Law:
    """The base of all laws that are one formula for ln y.

    Attributes
    ----------
    name, equation : str
    inputs : tuple of str
        The columns that the formula needs.
    response : str
        The column that it predicts.
    parameters : tuple of Parameter
    objective : str
        What its source minimises, when the caller names nothing else.
    size : str
        The column whose largest values are held out by `hold_out`.
    """

    name: str
    equation: str
    inputs: tuple[str, ...]
    response: str = "loss"
    parameters: tuple[Parameter, ...]
    objective: str = "mse_log"
    size: str

    # What a law defines ------------------------------------------------------------------------------------------

    def model(self, points: pd.DataFrame) -> Any:
        """Return the `estimate.Model` of this law on points."""
        raise NotImplementedError

    def starts(self, model: Any, y: Array, weights: Array, objective: Objective) -> Array:
        """Return starting points (n_starts, p) in the model's coordinates, the best first."""
        raise NotImplementedError

    def report(self, model: Any, theta: Array) -> Array:
        """Return the parameters (n, p), natural logarithms for those with `log`, from the model's coordinates."""
        raise NotImplementedError

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """Return the response (n, n_points) of parameter vectors (n, p) as `report` gives them."""
        raise NotImplementedError

    def formula(self, values: Mapping[str, float]) -> str:
        """Return the formula with numbers in it."""
        raise NotImplementedError

    def choose_columns(self, points: pd.DataFrame, columns: Mapping[str, str] | None) -> dict[str, str]:
        """Return the mapping of the law's column names to the table's, for laws that take any column."""
        return dict(columns or {})

    def edge(self, model: Any, theta: Array, y: Array) -> str | None:
        """Return why the optimum lies at the edge of the law's range, or None."""
        return None

    def positive(self) -> dict[int, str]:
        """Return which coordinates of the model must be clearly positive, with the names of their exponents."""
        return {}

    @property
    def units(self) -> dict[str, str]:
        """The units of the columns."""
        return {name: UNITS.get(name, "") for name in (*self.inputs, self.response)}

    # What all laws share -----------------------------------------------------------------------------------------

    def fit(
        self,
        points: pd.DataFrame,
        objective: str | None = None,
        delta: float = 1e-3,
        weights: str | Sequence[float] | None = None,
        bootstrap: str = "wild",
        n_boot: int = 1000,
        seed: int = 0,
        hold_out: int = 0,
        columns: Mapping[str, str] | None = None,
    ) -> Fit:
        """Fit the law to points.

        Parameters
        ----------
        points : DataFrame
            A row a point, with the columns of `inputs`, the response, and `run` where points share one.
        objective : {"huber", "lad", "mse_log", "mse"}, optional
            The law's source decides when it is not given.
        delta : float
            Huber's width in ln y; positive.
        weights : column name or sequence of float, optional
            A positive weight a point.
        bootstrap : {"wild", "pairs"}
            wild: the design stays and the residuals of a run are multiplied by a random number, corrected for
            leverage and widened for few runs (`estimate.leverage_correction`); it covers with few runs too.
            pairs: runs are drawn with replacement, as in the published fits; too narrow for fewer than some 20.
        n_boot : int
            Bootstrap replicates over runs; 0 for no intervals.
        seed : int
            Of the bootstrap.
        hold_out : int
            Fit without the runs that have this many largest values of `size`, and report the error on them.
        columns : mapping, optional
            The law's column names to those of the table.

        Returns
        -------
        Fit

        Raises
        ------
        UserError
            For points that can't be used; a fit that the points can't decide is returned with `identified` false.
        """
        chosen = check_objective(objective or self.objective, delta)
        check_bootstrap(bootstrap, n_boot, seed)
        columns = self.choose_columns(points, columns)
        check_names(columns, (*self.inputs, self.response))
        for ours in (*self.inputs, self.response):  # x may be any column, but a known one has its unit
            if columns.get(ours) in COUNTED and columns[ours] in points:
                numbers(points, columns[ours], self.name, infinite=True)
        named, derived = complete(rename(points, columns), self.inputs)
        used = check_points(named, self.name, self.inputs, self.response, weights)
        kept, held = split_largest(used, self.size, hold_out)
        y, w = kept[self.response].to_numpy(), kept["weight"].to_numpy()
        runs = pd.Index(kept["run"].unique())
        run_index = runs.get_indexer(kept["run"])
        p = len(self.parameters)
        fit = self._empty(chosen, kept, runs, columns)
        fit.details = {"derived": derived} if derived else {}
        fit.ranges = {name: [float(kept[name].min()), float(kept[name].max())] for name in self.inputs}
        fit.reason = self._too_few(kept)
        if fit.reason:
            return fit

        model = self.model(kept)
        theta0 = self.starts(model, y, w, chosen)
        solution = estimate.minimise(model, y, theta0, w[None], chosen)
        best = solution.best()
        theta = solution.theta[best]
        near = solution.objective <= solution.objective[best] * (1 + 1e-7) + 1e-25
        fit.objective, fit.gradient_norm = float(solution.objective[best]), float(solution.gradient_norm[best])
        fit.starts, fit.starts_at_optimum = len(theta0), int(near.sum())
        fit.converged = bool(solution.converged[best])
        residual = estimate.residuals(model, y, theta[None], Objective("mse_log"))[0]
        fit.r_squared = r_squared(np.log(y), residual, w)
        fit.residuals = describe_residuals(residual, w, run_index, runs)
        fit.reason = self._unidentified(model, theta, y, w, chosen)
        if fit.reason:
            return fit

        vector = self.report(model, theta[None])[0]
        fit.reason = self._out_of_range(vector)
        if fit.reason:
            return fit

        fit.identified = True
        fit.vector = vector.tolist()
        if n_boot and len(runs) > p:
            self._bootstrap(fit, model, theta, y, w, run_index, chosen, bootstrap, n_boot, seed)
        elif n_boot:
            fit.bootstrap = {"replicates": 0, "note": f"{len(runs)} runs for {p} parameters: no interval"}
        fit.parameters = self._estimates(fit)
        if n_boot and len(y) > p:
            fit.likelihood = self.likelihood(model, y, theta, w, chosen)
        fit.held_out = self._held_out(fit, held, hold_out)
        return fit

    def likelihood(
        self, model: Any, y: Array, theta: Array, weights: Array, objective: Objective
    ) -> dict[str, list[float | None]]:
        """Return profile-likelihood intervals by parameter, for laws whose source gives them."""
        return {}

    def residuals(self, fit: Fit, points: pd.DataFrame) -> Array:
        """Return ln of measured over predicted at each point that the law was fitted to; NaN where it is not identified."""
        if not fit.identified:
            return np.full(len(points), np.nan)
        predicted = fit.predict(**{column: points[column].to_numpy() for column in self.inputs})
        return np.log(points[self.response].to_numpy() / predicted)

    def not_fitted(self, reason: str) -> Fit:
        """Return a fit without numbers, for points that can't be made; `reason` says why."""
        fit = self._empty(check_objective(self.objective, 1e-3), pd.DataFrame(), pd.Index([]), {})
        fit.reason = reason
        return fit

    def _empty(self, objective: Objective, kept: pd.DataFrame, runs: pd.Index, columns) -> Fit:
        """A fit before anything is known: not identified, no number in it."""
        return Fit(
            law=self.name,
            equation=self.equation,
            parameters={q.name: Estimate(None, None, None, q.paper, q.unit) for q in self.parameters},
            objective=None,
            objective_kind=objective.kind,
            objective_definition=OBJECTIVES[objective.kind],
            delta=objective.delta if objective.kind == "huber" else None,
            gradient_norm=None,
            starts=0,
            starts_at_optimum=0,
            converged=False,
            identified=False,
            reason=None,
            n_points=len(kept),
            n_runs=len(runs),
            r_squared=None,
            residuals={},
            held_out={},
            runs=list(runs),
            columns=dict(columns or {}),
            log_parameters=[q.name for q in self.parameters if q.log],
            vector=None,
            draws=np.empty((0, len(self.parameters))),
        )

    def _too_few(self, points: pd.DataFrame) -> str | None:
        """Say why these points can't decide the parameters whatever the responses are, or return None."""
        label = points.index.name or "row"
        for column in self.inputs:
            values = points[column][np.isfinite(points[column])]
            if not len(values):
                return f"column {column!r} is infinite in every row, from {label} {points.index[0]}"
            if values.max() <= values.min() * (1 + 1e-9):
                return (
                    f"column {column!r} has one value only, {values.iloc[0]:g}, from {label} {values.index[0]}"
                    f" to {label} {values.index[-1]}: the exponent can't be told"
                )
        response = points[self.response]
        if np.ptp(np.log(response)) <= FLAT:
            return (
                f"column {self.response!r} has one value only, {response.iloc[0]:g}, from {label} {response.index[0]}"
                f" to {label} {response.index[-1]}: no trend can be told"
            )
        distinct = len(points[list(self.inputs)].drop_duplicates())
        if distinct < len(self.parameters):
            return f"fewer points than parameters: {distinct} different points, {len(self.parameters)} parameters"
        return None

    def _unidentified(self, model: Any, theta: Array, y: Array, weights: Array, objective: Objective) -> str | None:
        """Say which parameters the points leave open at the optimum, or return None."""
        edge = self.edge(model, theta, y)
        if edge:
            return edge
        m, jacobian = model.derivatives(theta[None])
        residual = (np.log(y) - m)[0]
        design = jacobian[0]
        if not objective.logarithmic:
            residual, design = y - np.exp(m[0]), design * np.exp(m)
        gram = (design * weights) @ design.T
        size = np.sqrt(np.diag(gram))
        if not (size > 0).all():
            return f"flat direction: {self.coordinates()[int(np.argmin(size))]} moves no prediction"
        value, vector = np.linalg.eigh(gram / np.outer(size, size))
        if value[0] < RANK:
            heavy = np.abs(vector[:, 0]) > 0.3 * np.abs(vector[:, 0]).max()
            names = [name for name, use in zip(self.coordinates(), heavy, strict=True) if use]
            return f"flat direction: {', '.join(names)} can be traded for one another"
        if np.ptp(m[0]) <= FLAT:
            names = ", ".join(self.positive().values()) or self.coordinates()[-1]
            return f"flat direction: {names} is 0, to rounding; the fitted {self.response} is the same at all points"
        spare = len(y) - len(theta)
        if objective.kind in ("huber", "lad"):
            # As many residuals as there are parameters can be 0 whatever the points are.
            left = np.sort(np.abs(residual))[min(len(theta), len(y) - 1) :]
            spread = 1.4826 * np.median(left) * np.sqrt(np.average(weights)) if spare else 0.0
        else:
            spread = np.sqrt((weights * residual**2).sum() / max(spare, 1))
        inverse = (vector / value) @ vector.T / np.outer(size, size)
        error = spread * np.sqrt(np.diag(inverse))
        simpler = self.simpler(model)
        for k, name in self.positive().items():
            if abs(theta[k]) <= FLAT:
                return f"flat direction: {name} is 0, to rounding"
            if theta[k] < -CLEAR * error[k]:
                return f"{name} is negative: the {self.response} rises where the law says that it falls"
            if theta[k] <= (0.0 if simpler else CLEAR * error[k]):
                return f"flat direction: {name} is within {CLEAR} standard errors of 0"
        return self._unneeded(simpler, model, theta, y, weights, objective) if spare else None

    def _out_of_range(self, vector: Array) -> str | None:
        """Say which parameter is beyond the numbers that there are, or return None."""
        for q, value in zip(self.parameters, vector, strict=True):
            with np.errstate(over="ignore", under="ignore"):
                natural = np.exp(value) if q.log else value
            if not np.isfinite(natural) or (q.log and natural < np.finfo(float).tiny):
                if q.log and np.isfinite(value):
                    return f"out of range: {q.name} is e^{value:.4g}, which no number can hold"
                return f"out of range: {q.name} is not a finite number"
        return None

    def _unneeded(self, simpler, model, theta, y, weights, objective) -> str | None:
        """Say which term could be left out: without it the fit is not worse than by chance, at five percent."""
        n, p = len(y), len(theta)
        lowest = float(objective.total(estimate.residuals(model, y, theta[None], objective), weights[None])[0])
        for names, reduced, starts in simpler:
            theta0 = starts(y, weights, objective)[:BEST_STARTS]
            found = estimate.minimise(reduced, y, theta0, weights[None], objective).objective.min()
            gone = p - reduced.p
            chance = gone * stats.f.ppf(0.95, gone, n - p)
            if deviance(np.array([found]), max(lowest, 1e-300), n, p, objective)[0] < chance:
                return f"boundary: the points don't need the term of {names}; without it they are fitted as well"
        return None

    def simpler(self, model: Any) -> list[tuple[str, Any, Callable[[Array, Array, Objective], Array]]]:
        """Return the law without each of its terms: its parameters' names, a model, and that model's starts."""
        return []

    def coordinates(self) -> list[str]:
        """Return the names of the model's coordinates, for messages."""
        return [q.name for q in self.parameters]

    def _bootstrap(self, fit, model, theta, y, w, run_index, objective, method, n_boot, seed) -> None:
        """Refit replicates over runs from the optimum, and put their parameters in `fit`."""
        m, jacobian = model.derivatives(theta[None])
        m, jacobian = m[0], jacobian[0]
        record: dict[str, Any] = {"unit": "run", "method": method, "seed": seed}
        starts = np.tile(theta, (n_boot, 1))
        if method == "wild":
            f = m if objective.logarithmic else np.exp(m)
            residual = (np.log(y) if objective.logarithmic else y) - f
            design = (jacobian if objective.logarithmic else jacobian * f).T * np.sqrt(w)[:, None]
            pull = None
            if objective.kind in ("huber", "lad"):
                pull = estimate.influence(residual, w, len(theta), objective)[0] * np.sqrt(w)
            residual, degrees = estimate.leverage_correction(design, run_index, residual * np.sqrt(w), pull)
            draws = f + residual / np.sqrt(w) * multipliers(fit.runs, n_boot, seed)[:, run_index]
            draws = np.exp(draws) if objective.logarithmic else draws
            solution = estimate.minimise(model, draws, starts, w[None], objective)
            factor = estimate.widening(degrees)
            record |= {"degrees_of_freedom": degrees, "widening": factor}
        else:
            limit = 1e-6 * estimate.condition(jacobian, w[None])[0]
            weights, redrawn = estimate.pairs_replicates(
                run_index, w, n_boot, seed, lambda candidates: estimate.condition(jacobian, candidates) > limit
            )
            solution = estimate.minimise(model, y, starts[: len(weights)], weights, objective)
            factor = 1.0
            record |= {"redrawn": redrawn}
        vectors = self.report(model, theta + factor * (solution.theta - theta))
        record |= {
            "not_converged": int((~solution.converged).sum()),
            "largest_gradient": float(solution.gradient_norm.max(initial=0.0)),
        }
        take_draws(fit, vectors, n_boot, record)

    def take_replicates(self, fit: Fit, found: tuple[Array, dict[str, Any]] | str, n_boot: int, seed: int) -> None:
        """Give a fit the draws that were made elsewhere, or the word why there are none."""
        if isinstance(found, str):
            fit.bootstrap = {"replicates": 0, "note": found}
            return
        vectors, record = found
        take_draws(fit, vectors, n_boot, {"unit": "run", "method": "wild", "seed": seed, **record})
        fit.parameters = self._estimates(fit)

    def _estimates(self, fit: Fit) -> dict[str, Estimate]:
        result = {}
        for k, q in enumerate(self.parameters):
            natural = np.exp if q.log else np.asarray
            with np.errstate(over="ignore"):
                ends = (None if v is None else float(natural(v)) for v in interval(fit.draws[:, k]))
                low, high = (v if v is not None and np.isfinite(v) else None for v in ends)  # None: the end is open
                result[q.name] = Estimate(float(natural(fit.vector[k])), low, high, q.paper, q.unit)
        return result

    def _held_out(self, fit: Fit, held: pd.DataFrame, largest: int) -> dict[str, Any]:
        """Return the errors of the prediction at points that the fit has not seen."""
        if not largest:
            return {}
        inputs = {column: held[column].to_numpy() for column in self.inputs}
        predicted = fit.predict(**inputs)
        low, high = fit.interval(**inputs)
        actual = held[self.response].to_numpy()
        relative = predicted / actual - 1
        return {
            "largest": largest,
            "by": self.size,
            "runs": held["run"].tolist(),
            self.size: held[self.size].tolist(),
            "actual": actual.tolist(),
            "predicted": predicted.tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "relative_error": relative.tolist(),
            "largest_relative_error": float(np.abs(relative).max()),
            "rms_ln": float(np.sqrt(np.mean(np.log(predicted / actual) ** 2))),
        }


def take_draws(fit: Fit, vectors: Array, n_boot: int, record: dict[str, Any], lacks: str = "can't be fitted") -> None:
    """Put the replicates' parameters in a fit: those that are numbers, or none where too many are not.

    The policy is that of `intervals.interval_ends`: one replicate in twenty may have no value.
    """
    valid = np.isfinite(vectors).all(-1)
    missing = n_boot - int(valid.sum())
    fit.bootstrap = record | {"replicates": n_boot - missing, "without_value": missing}
    if missing > MISSING * n_boot:
        fit.bootstrap |= {"replicates": 0, "note": f"{missing} of {n_boot} replicates {lacks}"}
        return
    fit.draws = np.where(valid[:, None], vectors, np.nan)  # they stay in their places: draws of laws are paired


def check_objective(kind: str, delta: float) -> Objective:
    """Return the objective, or name what is allowed."""
    if kind not in OBJECTIVES:
        raise UserError(f"objective: {kind!r} is not one of {', '.join(OBJECTIVES)}")
    if not (np.isfinite(delta) and delta > 0):
        raise UserError(f"delta: {delta} must be a positive number (in units of ln y)")
    return Objective(kind, float(delta))


def check_bootstrap(method: str, n_boot: int, seed: int) -> None:
    """Name what is allowed where a setting of the bootstrap is not."""
    if method not in ("wild", "pairs"):
        raise UserError(f"bootstrap: {method!r} is not wild or pairs")
    if n_boot < 0 or 0 < n_boot < LEAST_DRAWS:
        raise UserError(
            f"n_boot (--n-boot): {n_boot} must be 0, for no intervals, or at least {LEAST_DRAWS}; fewer replicates have"
            " no 95 % interval"
        )
    if seed < 0:
        raise UserError(f"seed (--seed): {seed} must be a whole number of 0 or more")


def split_largest(points: pd.DataFrame, size: str, largest: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the points without the runs that hold the `largest` largest values of `size`, and those runs' points."""
    if largest < 0:
        raise UserError(f"hold_out: {largest} must be 0 or more")
    if not largest:
        return points, points.iloc[:0]
    by_run = points.groupby("run", sort=False)[size].max()
    limit = np.sort(by_run.unique())[::-1]
    if largest >= len(limit):
        raise UserError(f"hold_out: largest={largest} leaves nothing to fit; {size} has {len(limit)} values")
    held = points["run"].isin(by_run.index[by_run >= limit[largest - 1]])
    return points[~held], points[held]


def r_squared(log_y: Array, residual: Array, weights: Array) -> float | None:
    """Return the share of the variance of ln y that the law explains; None where ln y doesn't vary."""
    total = (weights * (log_y - np.average(log_y, weights=weights)) ** 2).sum()
    return float(1 - (weights * residual**2).sum() / total) if total > 0 else None


def describe_residuals(residual: Array, weights: Array, run_index: Array, runs: pd.Index) -> dict[str, Any]:
    """Return the size of ln y - ln f, over all points and for each run (its mean)."""
    by_run = np.bincount(run_index, weights * residual) / np.bincount(run_index, weights)
    return {
        "rms_ln": float(np.sqrt(np.average(residual**2, weights=weights))),
        "largest_ln": float(np.abs(residual).max()),
        "mean_ln_by_run": dict(zip(runs, by_run.tolist(), strict=True)),
    }


@dataclass(frozen=True)
class Term:
    """A power term of a law and how its two numbers are called and written.

    kind : "ratio" for (X_c / X)^alpha, "coefficient" for A / X^alpha, "constant" for E.
    sign : -1 where the exponent is written with the other sign (k X^p).
    reciprocal : whether the exponent is written as 1 / alpha.
    reference : the coefficient is that of X / reference.
    """

    kind: str
    coefficient: str
    column: str | None = None
    exponent: str | None = None
    symbol: str = ""
    sign: int = 1
    reciprocal: bool = False
    reference: float = 1.0


class SumLaw(Law):
    """A sum of power terms; its parameters come in the order of the terms' coefficients and exponents."""

    terms: tuple[Term, ...]
    signed: bool = False  # whether exponents may be zero or negative

    def model(self, points: pd.DataFrame) -> PowerSum:
        """Return the sum on the points' columns."""
        return PowerSum([None if t.column is None else Axis(points[t.column].to_numpy()) for t in self.terms])

    def starts(self, model: PowerSum, y: Array, weights: Array, objective: Objective) -> Array:
        """Return starts from the separable structure: exponents on a grid, coefficients by least squares."""
        return starts_of_sum(model, y, weights, objective)

    def _index(self, name: str) -> int:
        return [q.name for q in self.parameters].index(name)

    def raw(self, model: PowerSum, theta: Array) -> list[tuple[Array, Array | None]]:
        """Return (c, a) of each term c - a ln X."""
        pairs = []
        for axis, column in zip(model.axes, model.columns, strict=True):
            c = theta[:, column[0]]
            pairs.append((c, None) if axis is None else axis.raw(c, theta[:, column[1]]))
        return pairs

    def report(self, model: PowerSum, theta: Array) -> Array:
        """See `Law.report`."""
        vectors = np.empty((len(theta), len(self.parameters)))
        with np.errstate(all="ignore"):
            for term, (c, a) in zip(self.terms, self.raw(model, theta), strict=True):
                shifted = c if a is None else c - a * np.log(term.reference)
                vectors[:, self._index(term.coefficient)] = c / a if term.kind == "ratio" else shifted
                if term.exponent:
                    written = term.sign * (1 / a if term.reciprocal else a)
                    vectors[:, self._index(term.exponent)] = written
        return vectors

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """See `Law.evaluate`."""
        return np.exp(np.logaddexp.reduce(np.broadcast_arrays(*self.lines(vectors, inputs))))

    def lines(self, vectors: Array, inputs: Mapping[str, Array]) -> list[Array]:
        """Return ln of each term, (n, n_points)."""
        lines = []
        for term in self.terms:
            c = vectors[:, self._index(term.coefficient), None]
            if term.exponent is None:
                lines.append(c)
                continue
            a = term.sign * vectors[:, self._index(term.exponent), None]
            a = 1 / a if term.reciprocal else a
            x = np.log(inputs[term.column]) - np.log(term.reference)
            lines.append(a * (c - x) if term.kind == "ratio" else c - a * x)
        return lines

    def edge(self, model: PowerSum, theta: Array, y: Array) -> str | None:
        """See `Law.edge`: a term that has vanished."""
        if len(self.terms) == 1:
            return None
        for term, share in zip(self.terms, model.shares(theta[None]), strict=True):
            if share.max() < INVISIBLE:
                return f"boundary: the term of {term.coefficient} is 0 at the optimum; the points don't need it"
        return None

    def positive(self) -> dict[int, str]:
        """See `Law.positive`."""
        if self.signed:
            return {}
        result, k = {}, 0
        for term in self.terms:
            if term.exponent:
                result[k + 1] = term.exponent
            k += 2 if term.exponent else 1
        return result

    def simpler(self, model: PowerSum) -> list[tuple[str, Any, Callable[[Array, Array, Objective], Array]]]:
        """See `Law.simpler`."""
        if len(self.terms) == 1:
            return []
        result = []
        for k, term in enumerate(self.terms):
            rest = PowerSum([axis for other, axis in enumerate(model.axes) if other != k], model.n_points)
            names = ", ".join(name for name in (term.coefficient, term.exponent) if name)
            result.append((names, rest, partial(starts_of_sum, rest)))
        return result

    def coordinates(self) -> list[str]:
        """See `Law.coordinates`."""
        return [name for term in self.terms for name in (term.coefficient, term.exponent) if name]

    def formula(self, values: Mapping[str, float]) -> str:
        """See `Law.formula`."""
        written = []
        for term in self.terms:
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

    symbol: str = "L"


def plain(number: str) -> str:
    """Shorten an exponent: 8.8e+13 becomes 8.8e13.

    Examples
    --------
    >>> plain("8.80e+13"), plain("2.1e-05"), plain("482")
    ('8.80e13', '2.1e-5', '482')
    """
    mantissa, _, exponent = number.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else number
