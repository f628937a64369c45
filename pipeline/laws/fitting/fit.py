"""What a fit found: estimates with intervals, how it was found, and what follows from it."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ...errors import UserError
from ...files import read_json, reading, write_json
from .estimate import MIDDLE
from .intervals import interval_ends
from .terms import Beyond

if TYPE_CHECKING:
    from .law import Law

NO_OPTIMUM = 3  # exit code
FIXED = "fixed"


@dataclass(frozen=True)
class Estimate:
    """A parameter: its estimate, the ends of its interval, the paper's value, its unit, and what the points tell of it.

    Each number is None where there is none: no optimum, an interval that is open at that end or that too few runs
    leave out, not in the paper. `finding` is one of identified, one-sided, free and fixed (see `findings`), and None
    where there is no optimum and in files that were written without.
    """

    estimate: float | None
    low: float | None
    high: float | None
    paper: float | None
    unit: str
    finding: str | None = None


KNOWN: dict[str, Law] = {}
"""Name -> law, filled by `pipeline.laws.formulas`: a fit that is read knows its formula by name."""


@dataclass
class Fit:
    """A law fitted to points; its JSON is described in docs/laws.md, "The JSON".

    `found` says whether there is an optimum, `identified` whether the points tell every parameter there; `reason` says
    why not. `vector` and the rows of `draws` hold the parameters in the order of `parameters`, `log_parameters` as
    their natural logarithm: N_c of a replicate can exceed what a float holds, and a coefficient of 0 has minus
    infinity. The exponent of a term that has vanished is NaN. Draws are bootstrap replicates over runs, widened about
    the estimate for the few runs that there are (`estimate.widening`).
    """

    law: str
    equation: str
    parameters: dict[str, Estimate]
    objective: float | None
    objective_kind: str
    objective_definition: str
    delta: float | None
    gradient_norm: float | None
    starts: int
    starts_at_optimum: int
    converged: bool
    identified: bool
    reason: str | None
    n_points: int
    n_runs: int
    r_squared: float | None
    residuals: dict[str, Any]
    held_out: dict[str, Any]
    runs: list[str]
    columns: dict[str, str]
    log_parameters: list[str]
    vector: list[float] | None
    draws: np.ndarray  # (n_boot, n_parameters)
    bootstrap: dict[str, Any] = field(default_factory=dict)
    likelihood: dict[str, list[float | None]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    ranges: dict[str, list[float]] = field(default_factory=dict)
    """Input -> the least and the greatest value fitted; empty in files that were written without."""
    fixed: dict[str, float] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    level: float = 0.95
    quantile: float = MIDDLE

    @property
    def found(self) -> bool:
        """Whether there is an optimum."""
        return self.vector is not None

    @property
    def n_free(self) -> int:
        """How many parameters were fitted: those that are neither fixed nor tied to another."""
        return len(self.parameters) - len(self.fixed) - len(self.tied)

    @property
    def definition(self) -> Law:
        """The law itself."""
        return KNOWN[self.law]

    def value(self, name: str) -> float:
        """Return the estimate of one parameter; an unidentified fit has none and raises a UserError."""
        if not self.identified:
            raise UserError(f"{self.law} is not identified: {self.reason}", exit_code=NO_OPTIMUM)
        estimate = self.parameters[name].estimate
        assert estimate is not None
        return estimate

    def require(self) -> None:
        """Raise a UserError where there is no optimum."""
        if not self.found:
            raise UserError(f"{self.law} is not identified: {self.reason}", exit_code=NO_OPTIMUM)

    def predict(self, **inputs: ArrayLike) -> np.ndarray:
        """Return the law's response at given inputs, which are named as the columns are and broadcast.

        A law of whole curves takes all rows of a run together, and `run` where there are several.

        Examples
        --------
        >>> import pandas as pd
        >>> from pipeline.laws import FORMULAS
        >>> n = np.array([1e6, 1e7, 1e8])
        >>> fit = FORMULAS["L_N"].fit(pd.DataFrame({"n_params": n, "loss": (8.8e13 / n) ** 0.076}), n_boot=0)
        >>> fit.predict(n_params=1e9).round(3)
        np.float64(2.376)
        """
        self.require()
        return self._values(np.asarray(self.vector)[None], inputs)[0]

    def interval(self, **inputs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of a percentile interval of `predict` from the bootstrap draws (NaN without draws)."""
        self.require()
        if not len(self.draws):
            nothing = np.full_like(self.predict(**inputs), np.nan)
            return nothing, nothing
        values = self._values(self.draws, inputs)
        low, high = interval_ends(values, self.level)
        return low, high

    @property
    def spread(self) -> tuple[float, int] | None:
        """Size of what a new run is off by, in ln y, and its degrees of freedom; None where the fit can't tell.

        It has two parts: the spread of the runs' mean residuals, divided by runs less parameters since the fit took
        some of it, and what the points of a run are off besides. Laws that are fitted to optima have no runs of their
        own, and about a quantile runs do not spread alike to both sides.
        """
        means = self.residuals.get("mean_ln_by_run")
        degrees = self.n_runs - self.n_free
        if not means or degrees < 1 or self.quantile != MIDDLE:
            return None
        between = float(np.mean(np.square(list(means.values()))))
        within = max(self.residuals["rms_ln"] ** 2 - between, 0.0)
        return math.sqrt(between * self.n_runs / degrees + within), degrees

    def new_run(self, **inputs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of an interval for the response of one new run: that of the law, widened by `spread`.

        Each draw of the law is multiplied by the exponential of a number from Student's distribution. The numbers are
        its quantiles at equal steps, in an order that has nothing to do with that of the draws. NaN without draws, and
        where the spread is unknown.

        Examples
        --------
        >>> import pandas as pd
        >>> from pipeline.laws import FORMULAS
        >>> n, off = np.geomspace(1e6, 1e9, 8), np.exp(0.01 * np.array([1, -1, -1, 1, 1, -1, -1, 1]))
        >>> fit = FORMULAS["L_N"].fit(pd.DataFrame({"n_params": n, "loss": (8.8e13 / n) ** 0.076 * off}), n_boot=199)
        >>> (low, high), (run_low, run_high) = fit.interval(n_params=1e8), fit.new_run(n_params=1e8)
        >>> bool(run_low < low < high < run_high)
        True
        """
        self.require()
        spread = self.spread
        if not len(self.draws) or spread is None:
            nothing = np.full_like(self.predict(**inputs), np.nan)
            return nothing, nothing
        size, degrees = spread
        n = len(self.draws)
        off = size * stats.t.ppf(np.random.default_rng(0).permutation(np.arange(1, n + 1)) / (n + 1), degrees)
        values = self._values(self.draws, inputs)
        low, high = interval_ends(values * np.exp(off).reshape(-1, *(1,) * (values.ndim - 1)), self.level)
        return low, high

    def outside(self, **inputs: ArrayLike) -> dict[str, np.ndarray]:
        """Return by how many decades each input lies above the range that was fitted, or below it (negative).

        Inputs are given as to `predict`. It is 0 inside, and NaN where the range is unknown.

        Examples
        --------
        >>> import pandas as pd
        >>> from pipeline.laws import FORMULAS
        >>> n = np.array([1e6, 1e7, 1e8])
        >>> fit = FORMULAS["L_N"].fit(pd.DataFrame({"n_params": n, "loss": (8.8e13 / n) ** 0.076}), n_boot=0)
        >>> fit.outside(n_params=[1e5, 1e7, 1e11])["n_params"].round(6)
        array([-1.,  0.,  3.])
        """
        found = {}
        arrays = self._arrays(inputs)
        for name in self.definition.inputs:
            value = arrays[name]
            low, high = self.ranges.get(name, (np.nan, np.nan))
            with np.errstate(all="ignore"):
                below = np.where(value < low * (1 - 1e-9), np.log10(value / low), 0.0)
                above = np.where(value > high * (1 + 1e-9), np.log10(value / high), 0.0)
            found[name] = below + above + 0 * low
        return found

    def _arrays(self, inputs: dict[str, ArrayLike]) -> dict[str, np.ndarray]:
        """Return the inputs that the law needs, by its own names and of one shape."""
        needed = self.definition.inputs
        inputs = {**{ours: inputs[theirs] for ours, theirs in self.columns.items() if theirs in inputs}, **inputs}
        for name in needed:
            if name not in inputs:
                raise UserError(f"{self.law}: {name} is needed (inputs: {', '.join(needed)})")
        arrays = np.broadcast_arrays(*(np.asarray(inputs[name], dtype=float) for name in needed))
        known = dict(zip(needed, arrays, strict=True))
        if self.definition.whole_curves:
            known |= {name: np.asarray(value) for name, value in inputs.items() if name not in needed}
        return known

    def _values(self, vectors: np.ndarray, inputs: dict[str, ArrayLike]) -> np.ndarray:
        arrays = self._arrays(inputs)
        shape = next(iter(arrays.values())).shape
        flat = {name: array.ravel() for name, array in arrays.items()}
        with np.errstate(all="ignore"):
            return self.definition.evaluate(vectors, flat).reshape(len(vectors), *shape)

    def formula(self) -> str:
        """Return the law with its fitted numbers, as printed on a figure."""
        if self.vector is None:
            return f"{self.law}: not identified ({self.reason})"
        values = {}
        for name, number in zip(self.parameters, self.vector, strict=True):
            value = _natural(number, name in self.log_parameters)
            lost = math.isfinite(number) and value in (0.0, math.inf) and name in self.log_parameters
            values[name] = Beyond(number) if lost else value
        return self.definition.formula(values)

    @property
    def warning(self) -> str | None:
        """What must be said beside the numbers of an optimum that is not identified."""
        return f"{self.law} is not identified: {self.reason}" if self.found and self.reason else None

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON file."""
        record = asdict(self)
        record["draws"] = [[_written(float(f"{number:.12g}")) for number in draw] for draw in self.draws]
        record["vector"] = None if self.vector is None else [_written(number) for number in self.vector]
        record["found"] = self.found
        record["unit_of_inputs"] = dict(self.definition.units)
        return _finite(record)

    def to_json(self, path: str | Path) -> None:
        """Write the fit, whole or not at all."""
        write_json(path, self.to_dict())

    def table(self) -> str:
        """Return a readable table: one line a parameter."""
        rows = [("parameter", "estimate", "low", "high", "finding", "paper", "unit")]
        for name, e in self.parameters.items():
            numbers = (short(v) for v in (e.estimate, e.low, e.high))
            rows.append((name, *numbers, e.finding or "-", short(e.paper), e.unit or "-"))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)


UNNAMED = re.compile(r"\w+ \d+")  # what `point_table.check_points` calls the rows of a table without runs


def paired_draws(*fits: Fit) -> list[np.ndarray]:
    """Return as many draws of each law, paired: what a run is off by in replicate k is the same in all of them.

    Laws that were fitted to the same runs, or one on another, are so by replicate. Rows without the name of a run are
    called by their number, which two tables share; such laws are taken as independent and shuffled.

    Examples
    --------
    >>> import pandas as pd
    >>> from pipeline.laws import FORMULAS
    >>> points = pd.DataFrame({"n_params": [1e6, 1e7, 1e8, 1e9], "loss": [4.0, 3.4, 2.8, 2.4]})
    >>> one = FORMULAS["L_N"].fit(points.assign(run=list("abcd")), n_boot=39)
    >>> a, b = paired_draws(one, one)
    >>> bool((a == b).all())
    True
    """
    n = min(len(fit.draws) for fit in fits)
    chosen = []
    for k, fit in enumerate(fits):
        order = np.arange(len(fit.draws))
        if all(UNNAMED.fullmatch(run) for run in fit.runs):
            order = np.random.default_rng(k).permutation(order)
        chosen.append(fit.draws[order[:n]])
    return chosen


def _finite(value: Any) -> Any:
    """Replace numbers that JSON can't hold by None."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def short(value: float | None) -> str:
    """Return a number as tables show it."""
    return "-" if value is None else f"{value:.5g}"


def _written(number: float) -> float | str | None:
    """Return a number of a vector as JSON can hold it: "-inf" is the logarithm of 0, null is no value."""
    return number if math.isfinite(number) else None if math.isnan(number) else str(number)


def _read(number: float | str | None) -> float:
    return math.nan if number is None else float(number)


def load_fit(path: str | Path) -> Fit:
    """Read a fit that `Fit.to_json` wrote.

    Raises
    ------
    UserError
        If the file is missing, is not a law's JSON, or was changed so that its parts contradict each other.
    """
    try:
        with reading(path, "the JSON of a fitted law"):
            record = read_json(path)
        record["parameters"] = {name: Estimate(**value) for name, value in record["parameters"].items()}
        p = len(record["parameters"])
        for draw in record["draws"]:
            if len(draw) != p:
                raise ValueError(f"a draw has {len(draw)} numbers for {p} parameters")
        draws = np.array([[_read(number) for number in draw] for draw in record["draws"]], dtype=float)
        record["draws"] = draws.reshape(-1, p)
        if record["vector"] is not None:
            record["vector"] = [_read(number) for number in record["vector"]]
        record["ranges"] = {
            name: [float("inf") if end is None else float(end) for end in ends]
            for name, ends in record.get("ranges", {}).items()
        }
        fit = Fit(**{name: value for name, value in record.items() if name in Fit.__dataclass_fields__})
        contradiction = _contradiction(fit)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not the JSON of a fitted law ({type(error).__name__}: {error})") from error
    if contradiction:
        raise UserError(f"{path}: {contradiction}; the file was changed after the fit, so fit again")
    return fit


def _contradiction(fit: Fit) -> str | None:
    """Say where the parts of a fit that was read contradict each other, or return None.

    Predictions rest on `vector`, while a reader sees the estimates.
    """
    if fit.law in KNOWN and (names := [q.name for q in fit.definition.parameters]) != list(fit.parameters):
        return f"parameters: {', '.join(fit.parameters)} are not {', '.join(names)}, which {fit.law} has"
    if fit.vector is None and not fit.identified:
        return None
    if fit.vector is None or len(fit.vector) != len(fit.parameters):
        return f"vector: not the {len(fit.parameters)} numbers of a law that was found"
    for (name, shown), value in zip(fit.parameters.items(), fit.vector, strict=True):
        log = name in fit.log_parameters
        if math.isnan(value):
            if log or shown.estimate is not None or fit.identified:
                return f"vector: the number of {name} is None"
            continue
        used = _natural(value, log)
        if not math.isfinite(value) and used != 0:
            return f"vector: the number of {name} is {value}"
        if shown.estimate is None:
            if math.isfinite(used) and used > 0:  # what no number can hold has a logarithm alone
                return f"parameter {name}: the estimate is null, the vector says {used:.9g}"
        elif not math.isclose(shown.estimate, used, rel_tol=1e-6, abs_tol=1e-300):
            return f"parameter {name}: the estimate is {shown.estimate:.9g}, the vector says {used:.9g}"
    return None


def _natural(value: float, logarithm: bool) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value)) if logarithm else value
