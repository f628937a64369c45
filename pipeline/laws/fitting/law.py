"""A law: its formula and constants in the paper, and how it is fitted to points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...errors import UserError
from . import estimate
from .constraint import Held, check_constraints, hold
from .estimate import MIDDLE, Array, Objective, Solution
from .findings import FLAT, HIGH, LOW, Doubts, Settled, doubts, no_optimum, settle
from .fit import FIXED, Estimate, Fit
from .intervals import MISSING, interval_ends
from .point_table import (
    COUNTED,
    UNITS,
    check_names,
    check_points,
    complete,
    numbers,
    rename,
)
from .resample import replicates
from .settings import Settings, check_bootstrap, check_objective
from .terms import Parameter, Term


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
    may_be_constant : tuple of str
        The inputs that may have one value in all rows.
    terms : tuple of Term
        Which parameters stand together, in the order of the model's coordinates; empty for laws that are no formula.
    signed : bool
        Whether exponents may be zero or negative.
    whole_curves : bool
        Whether a row depends on the rows of its run before it, so that only all of them together can be predicted.
    """

    name: str
    equation: str
    inputs: tuple[str, ...]
    response: str = "loss"
    parameters: tuple[Parameter, ...]
    objective: str = "mse_log"
    size: str
    may_be_constant: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()
    signed: bool = False
    whole_curves: bool = False

    # What a law defines ------------------------------------------------------------------------------------------

    def model(self, points: pd.DataFrame) -> Any:
        """Return the `estimate.Model` of this law on points."""
        raise NotImplementedError

    def starts(
        self, model: Any, y: Array, weights: Array, objective: Objective, gone: frozenset[int] = frozenset()
    ) -> Array:
        """Return starting points (n_starts, p) in the model's coordinates, the best first, without the terms `gone`."""
        raise NotImplementedError

    def evaluate(self, vectors: Array, inputs: Mapping[str, Array]) -> Array:
        """Return the response (n, n_points) of parameter vectors (n, p) as `report` gives them.

        Inputs are (n_points,), the same for all vectors, or (n, n_points).
        """
        raise NotImplementedError

    def formula(self, values: Mapping[str, float]) -> str:
        """Return the formula with numbers in it."""
        raise NotImplementedError

    def choose_columns(self, points: pd.DataFrame, columns: Mapping[str, str] | None) -> dict[str, str]:
        """Return the mapping of the law's column names to the table's, for laws that take any column."""
        return dict(columns or {})

    def inputs_of(self, points: pd.DataFrame) -> dict[str, Array]:
        """Return what `Fit.predict` takes, of points that `prepare` made."""
        return {column: points[column].to_numpy(dtype=float) for column in self.inputs}

    def spans(self, points: pd.DataFrame) -> dict[str, list[float]]:
        """Return the least and the greatest value of each input that was fitted; what lies outside is extrapolated."""
        return {name: [float(points[name].min()), float(points[name].max())] for name in self.inputs}

    def unsaid(self, inputs: Mapping[str, Array]) -> list[str | None]:
        """Return why the law says nothing of a row of inputs, of each; None where it does."""
        return [None] * len(next(iter(inputs.values())))

    def vanished(self, k: int) -> str:
        """Say that term k has vanished at the optimum."""
        return f"boundary: the term of {self.terms[k].coefficient} is 0 at the optimum; the points don't need it"

    # What follows from the terms ---------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The names of the parameters."""
        return [q.name for q in self.parameters]

    def coordinates(self) -> list[str]:
        """Return the names of the model's coordinates."""
        return [name for term in self.terms for name in (term.coefficient, term.exponent) if name]

    def positive(self) -> dict[int, str]:
        """Return which coordinates of the model must be clearly positive, with the names of their exponents."""
        exponents = {term.exponent for term in self.terms}
        named = enumerate(self.coordinates())
        return {} if self.signed else {place: name for place, name in named if name in exponents}

    def report(self, model: Any, theta: Array) -> Array:
        """Return the parameters (n, p), natural logarithms for those with `log`, from the model's coordinates."""
        vectors = np.empty((len(theta), len(self.parameters)))
        for term, axis, places in zip(self.terms, model.axes, model.columns, strict=True):
            at = self.names.index(term.coefficient)
            vectors[:, at] = theta[:, places[0]]
            if axis is None:
                continue
            with np.errstate(all="ignore"):
                c, a = axis.raw(theta[:, places[0]], theta[:, places[1]])
                vectors[:, at] = c / a if term.kind == "ratio" else c - a * np.log(term.reference)
                vectors[:, self.names.index(term.exponent)] = term.sign * (1 / a if term.reciprocal else a)
        return vectors

    def undefined(self, gone: Array) -> Array:
        """Return which parameters (n, p) have no value where terms (n, n_terms) have vanished: their exponents."""
        nothing = np.zeros((len(gone), len(self.parameters)), dtype=bool)
        for term in self.terms:
            if term.exponent:
                others = [o for o, other in enumerate(self.terms) if other.exponent == term.exponent]
                nothing[:, self.names.index(term.exponent)] = gone[:, others].all(-1)
        return nothing

    def in_order(self, draws: Array, vector: Array) -> Array:
        """Return draws as their intervals need them: what lies beyond infinity is infinite.

        Where an exponent changes its sign, the scale of its ratio (and a reciprocal exponent) goes through infinity or
        0 and comes back from the other side.
        """
        draws = draws.copy()
        for term in () if self.signed else self.terms:
            if not term.exponent:
                continue
            scale, at = (self.names.index(name) for name in (term.coefficient, term.exponent))
            beyond = draws[:, at] * vector[at] <= 0
            if term.kind == "ratio":
                rising = np.sign(draws[beyond, scale] * draws[beyond, at]) * np.sign(vector[at])
                draws[beyond, scale] = np.where(rising == 0, 1.0, rising) * np.inf
            if term.reciprocal:
                draws[beyond, at] = np.sign(vector[at]) * np.inf
        return draws

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
        bootstrap: str | None = None,
        n_boot: int = 1000,
        seed: int = 0,
        hold_out: int = 0,
        columns: Mapping[str, str] | None = None,
        fix: Mapping[str, float] | None = None,
        tie: Mapping[str, str] | None = None,
        level: float = 0.95,
        quantile: float = MIDDLE,
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
        bootstrap : {"wild", "pairs"}, optional
            wild, the default: the design stays and the residuals of a run are multiplied by a random number, corrected
            for leverage and widened for few runs (`estimate.leverage_correction`); it covers with few runs too.
            pairs, the default with a quantile: runs are drawn with replacement, as in the published fits; too narrow
            for fewer than some 20.
        n_boot : int
            Bootstrap replicates over runs; 0 for no intervals.
        seed : int
            Of the bootstrap.
        hold_out : int
            Fit without the runs that have this many largest values of `size`, and report the error on them.
        columns : mapping, optional
            The law's column names to those of the table.
        fix : mapping, optional
            Parameter -> the value that it keeps, such as {"E": 1.7}; a coefficient of 0 leaves its term out.
        tie : mapping, optional
            Parameter -> another one that it equals, or a number times that: {"alpha": "beta"}, {"alpha": "1.2*beta"}.
        level : float
            Of the intervals.
        quantile : float
            Above 0 and below 1. A point above the law counts 2 q times, one below it 2 (1 - q) times: with 0.1 the law
            lies low, below some nine tenths of the points, where runs can be worse than the law and not better.

        Returns
        -------
        Fit
            `found` is false where there is no optimum, `identified` where the points leave a parameter open; `reason`
            says why.

        Raises
        ------
        UserError
            For points, or conditions on the parameters, that can't be used.

        Examples
        --------
        >>> from pipeline.laws import FORMULAS
        >>> x = np.geomspace(1e6, 1e9, 8)
        >>> points = pd.DataFrame({"n_params": x, "loss": 1.7 + 400 / x**0.3})
        >>> fit = FORMULAS["power_plus_constant"].fit(points, n_boot=0, fix={"alpha": 0.3})
        >>> fit.formula(), fit.parameters["alpha"].finding
        ('L = 1.7 + 400 / x^0.3', 'fixed')
        """
        chosen = check_objective(objective or self.objective, delta, quantile)
        bootstrap = check_bootstrap(bootstrap, n_boot, seed, level, quantile)
        fix, tie = check_constraints(self, fix, tie)
        how = Settings(chosen, weights, bootstrap, n_boot, seed, hold_out, dict(columns or {}), fix, tie, level)
        return self.fit_points(points, how)

    def fit_points(self, points: pd.DataFrame, how: Settings) -> Fit:
        """Fit the law as the settings say; laws that are fitted in another way have their own."""
        chosen, n_boot, level = how.objective, how.n_boot, how.level
        columns = self.choose_columns(points, how.columns)
        used, derived = self.prepare(points, columns, how.weights)
        kept, held_points = split_largest(used, self.size, how.hold_out)
        y, w = kept[self.response].to_numpy(), kept["weight"].to_numpy()
        runs = pd.Index(kept["run"].unique())
        run_index = runs.get_indexer(kept["run"])
        fit = self._empty(chosen, kept, runs, columns)
        fit.level, fit.fixed, fit.tied = level, how.fix, how.tie
        fit.details = {"derived": derived} if derived else {}
        fit.ranges = self.spans(kept)
        model = self.model(kept)
        held = hold(self, model, how.fix, how.tie)
        fit.reason = self.too_few(kept, held)
        if fit.reason:
            return fit

        solution, at = self.optimum(held, y, w, chosen)
        near = solution.objective <= at.objective * (1 + 1e-7) + 1e-25
        fit.objective, fit.gradient_norm, fit.converged = at.objective, at.gradient_norm, at.converged
        fit.starts, fit.starts_at_optimum = len(near), int(near.sum())
        residual = estimate.residuals(at.held, y, at.z[None], Objective("mse_log"))[0]
        fit.r_squared = r_squared(np.log(y), residual, w)
        fit.residuals = describe_residuals(residual, w, run_index, runs)
        fit.reason = no_optimum(self, at, y, w, chosen)
        if fit.reason:
            return fit

        gone = np.isin(np.arange(len(self.terms)), list(at.held.gone))[None]
        vector = np.where(self.undefined(gone), np.nan, self.report(model, at.theta[None]))[0]
        for name, value in how.fix.items():
            k = self.names.index(name)
            with np.errstate(divide="ignore"):
                vector[k] = np.log(value) if self.parameters[k].log else value
        known = np.isfinite(vector) | np.isneginf(vector) | self.undefined(gone)[0]
        if not known.all():
            fit.reason = f"out of range: {self.names[int(np.argmin(known))]} is not a finite number"
            return fit
        doubt = doubts(self, at, y, w, chosen, held.gone)
        fit.vector = vector.tolist()
        if n_boot and len(runs) > held.p:
            resample = (how.bootstrap, n_boot, how.seed, level)
            theta, gone, record = replicates(held, at, y, w, runs, run_index, chosen, *resample)
            vectors = self.report(model, theta)
            nothing = self.undefined(gone)
            vectors[nothing] = np.nan
            for k, term in enumerate(self.terms):
                vectors[gone[:, k], self.names.index(term.coefficient)] = -np.inf
            for name in how.fix:
                vectors[:, self.names.index(name)] = vector[self.names.index(name)]
            take_draws(fit, vectors, n_boot, record, allowed=nothing)
        elif n_boot:
            fit.bootstrap = {"replicates": 0, "note": f"{len(runs)} runs for {held.p} parameters: no interval"}
        self.conclude(fit, doubt)
        symmetric = chosen.quantile == MIDDLE
        if n_boot and symmetric and len(runs) == len(y) > held.p and not at.held.gone - held.gone:
            fit.likelihood = self.likelihood(at, y, w, chosen, level)
        fit.held_out = self._held_out(fit, held_points, how.hold_out)
        return fit

    def prepare(
        self, points: pd.DataFrame, columns: Mapping[str, str], weights: str | Sequence[float] | None = None
    ) -> tuple[pd.DataFrame, list[str]]:
        """Return the points as `point_table.check_points` does, by the law's names, and how columns were derived."""
        check_names(columns, (*self.inputs, self.response))
        for ours in (*self.inputs, self.response):  # x may be any column, but a known one has its unit
            if columns.get(ours) in COUNTED and columns[ours] in points:
                numbers(points, columns[ours], self.name, infinite=True)
        named, derived = complete(rename(points, columns), self.inputs)
        return check_points(named, self.name, self.inputs, self.response, weights), derived

    def optimum(self, held: Held, y: Array, weights: Array, objective: Objective) -> tuple[Solution, Settled]:
        """Return the minimum from each start, and the optimum: the best of them without the terms that vanish."""
        starts = held.project(self.starts(held.model, y, weights, objective, held.gone))
        solution = estimate.minimise(held, y, starts, weights[None], objective)
        return solution, settle(self, held, solution.theta[solution.best()], y, weights, objective)

    def likelihood(
        self, at: Settled, y: Array, weights: Array, objective: Objective, level: float
    ) -> dict[str, list[float | None]]:
        """Return profile-likelihood intervals by parameter, for laws whose source gives them."""
        return {}

    def residuals(self, fit: Fit, points: pd.DataFrame) -> Array:
        """Return ln of measured over predicted at each point that the law was fitted to; NaN without an optimum."""
        if not fit.found:
            return np.full(len(points), np.nan)
        return np.log(points[self.response].to_numpy() / fit.predict(**self.inputs_of(points)))

    def take_replicates(self, fit: Fit, found: tuple[Array, dict[str, Any]] | str, n_boot: int, seed: int) -> None:
        """Give a fit the draws that were made elsewhere, or the word why there are none."""
        if isinstance(found, str):
            fit.bootstrap = {"replicates": 0, "note": found}
            return
        vectors, record = found
        take_draws(fit, vectors, n_boot, {"unit": "run", "method": "wild", "seed": seed, **record})
        self.conclude(fit, Doubts())

    def conclude(self, fit: Fit, doubt: Doubts) -> None:
        """Give a fit its parameters with their intervals, and say whether all are identified."""
        fit.parameters = self._estimates(fit, doubt)
        fit.reason = "; ".join(doubt.reasons) or None
        fit.identified = fit.reason is None

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
            objective_definition=objective.definition,
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
            quantile=objective.quantile,
        )

    def too_few(self, points: pd.DataFrame, held: Held) -> str | None:
        """Say why these points can't decide the parameters whatever the responses are, or return None."""
        label = points.index.name or "row"
        places = zip(self.terms, held.model.columns, strict=True)
        free = {term.column for term, (_, *a) in places if term.exponent and held.basis[a].any()}
        for column in self.inputs:
            values = points[column][np.isfinite(points[column])]
            if column not in free and column in {term.column for term in self.terms}:
                continue
            if not len(values):
                return f"column {column!r} is infinite in every row, from {label} {points.index[0]}"
            if values.max() <= values.min() * (1 + 1e-9) and column not in self.may_be_constant:
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
        if distinct < held.p:
            return f"fewer points than parameters: {distinct} different points, {held.p} parameters"
        return None

    def _estimates(self, fit: Fit, doubt: Doubts) -> dict[str, Estimate]:
        """Return the parameters with their intervals; an end that the draws leave open is a doubt more."""
        result = {}
        vector = np.asarray(fit.vector)
        ordered = self.in_order(fit.draws, vector)
        for k, q in enumerate(self.parameters):
            natural = np.exp if q.log else np.asarray
            drawn = interval_ends(ordered[:, k], fit.level)
            with np.errstate(over="ignore", under="ignore"):
                value, ends = float(natural(vector[k])), natural(drawn)
            if q.name in fit.fixed:
                result[q.name] = Estimate(value, None, None, q.paper, q.unit, FIXED)
                continue
            if q.log and np.isfinite(vector[k]) and not np.finfo(float).tiny <= value < np.inf:
                said = f"out of range: {q.name} is e^{vector[k]:.4g}, which no number can hold"
                doubt.add(said, {q.name: (LOW if value < 1 else HIGH,)})
            already = doubt.open.get(q.name, set())
            reaches = {LOW: q.log and ends[0] == 0, HIGH: ends[1] == np.inf}  # 0, or more than a number can hold
            opened = {
                side for side, end in zip((LOW, HIGH), drawn, strict=True) if reaches[side] or not np.isfinite(end)
            }
            if opened - already and len(fit.draws):
                where = " and ".join({LOW: "below", HIGH: "above"}[side] for side in (LOW, HIGH) if side in opened)
                doubt.add(f"{q.name}: its interval is open {where}", {q.name: opened})
            low, high = (
                float(end) if np.isfinite(end) and side not in opened | already else None
                for side, end in zip((LOW, HIGH), ends, strict=True)
            )
            shown = value if np.isfinite(value) and (value > 0 or not q.log or vector[k] == -np.inf) else None
            result[q.name] = Estimate(shown, low, high, q.paper, q.unit, doubt.finding(q.name))
        return result

    def _held_out(self, fit: Fit, held: pd.DataFrame, largest: int) -> dict[str, Any]:
        """Return the errors of the prediction at points that the fit has not seen."""
        if not largest:
            return {}
        inputs = self.inputs_of(held)
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


def take_draws(
    fit: Fit,
    vectors: Array,
    n_boot: int,
    record: dict[str, Any],
    lacks: str = "can't be fitted",
    allowed: Array | None = None,
) -> None:
    """Put the replicates' parameters in a fit: those that are numbers, or none where too many are not.

    The policy is that of `intervals.interval_ends`: one replicate in twenty may have no value. The logarithm of a
    coefficient of 0 is minus infinity, which is a value; where `allowed`, a parameter may have none.
    """
    known = np.isfinite(vectors) | np.isneginf(vectors)
    valid = (known if allowed is None else known | allowed).all(-1)
    missing = n_boot - int(valid.sum())
    fit.bootstrap = record | {"replicates": n_boot - missing, "without_value": missing}
    if missing > MISSING * n_boot:
        fit.bootstrap |= {"replicates": 0, "note": f"{missing} of {n_boot} replicates {lacks}"}
        return
    fit.draws = np.where(valid[:, None], vectors, np.nan)  # they stay in their places: draws of laws are paired


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
        "share_below": float(np.average(residual < 0, weights=weights)),
        "mean_ln_by_run": dict(zip(runs, by_run.tolist(), strict=True)),
    }
