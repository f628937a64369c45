"""What a fitted law says at given inputs: its interval, that of a new run, and what must be said beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import UserError
from ..fitting.estimate import Array
from ..fitting.fit import Fit
from ..fitting.point_table import COUNTED, INFINITE, ZERO, check_names, complete, in_units, numbers, rename
from . import remarks

ENDS = ("low", "high", "run_low", "run_high")
COLUMNS = ("predicted", *ENDS, "beyond", "note")
AT_ONCE = 2000  # rows, each with all draws; a law of whole curves takes all


@dataclass(frozen=True)
class Prediction:
    """The response at each row of inputs.

    Attributes
    ----------
    values : DataFrame
        predicted, low and high (the law), run_low and run_high (a new run); NaN where there is none.
    problems : list of str or None
        Why a row has no prediction.
    outside : list of dict
        Input -> decades above what was fitted, or below (negative).
    range_unknown : bool
        The fit does not say what was fitted.
    """

    values: pd.DataFrame
    problems: list[str | None]
    outside: list[dict[str, float]]
    range_unknown: bool

    @property
    def beyond(self) -> Array:
        """By how many decades the farthest input of each row lies outside; NaN where all are inside, or unknown."""
        far = np.array([max(map(abs, one.values())) for one in self.outside])
        return np.where(far > 0, far, np.nan)

    def note(self, k: int) -> str | None:
        """Say what must be said beside row k, or return None."""
        unknown = remarks.UNKNOWN if self.range_unknown else None
        return self.problems[k] or remarks.sentence(self.outside[k]) or unknown

    def columns(self) -> pd.DataFrame:
        """Return what is written beside the inputs, with the names in `COLUMNS`."""
        notes = [self.note(k) for k in range(len(self.problems))]
        return self.values.assign(beyond=self.beyond, note=pd.Series(notes, index=self.values.index, dtype=object))


def predict(fit: Fit, inputs: Mapping[str, Array]) -> Prediction:
    """Return what the law says at each row of inputs, which are arrays of one length named as the law has them.

    Examples
    --------
    >>> from pipeline.laws import FORMULAS
    >>> n = np.array([1e6, 1e7, 1e8])
    >>> fit = FORMULAS["L_N"].fit(pd.DataFrame({"n_params": n, "loss": (8.8e13 / n) ** 0.076}), n_boot=0)
    >>> found = predict(fit, {"n_params": np.array([1e7, 1e10])})
    >>> found.beyond.round(6).tolist(), found.note(1)
    ([nan, 2.0], 'extrapolated: n_params 2 decades above what was fitted')
    """
    law, rows = fit.definition, len(next(iter(inputs.values())))
    at_once, parts = rows if law.whole_curves else AT_ONCE, []
    for begin in range(0, rows, at_once):
        part = {name: values[begin : begin + at_once] for name, values in inputs.items()}
        parts.append(np.stack([fit.predict(**part), *fit.interval(**part), *fit.new_run(**part)]))
    values = pd.DataFrame(np.concatenate(parts, axis=1).T, columns=["predicted", *ENDS])
    problems = [
        why or remarks.impossible(law.response, value)
        for why, value in zip(law.unsaid(inputs), values["predicted"], strict=True)
    ]
    values[np.array([one is not None for one in problems])] = np.nan
    away = {fit.columns.get(name, name) if name == "x" else name: one for name, one in fit.outside(**inputs).items()}
    outside = [{name: float(one[k]) for name, one in away.items()} for k in range(rows)]
    return Prediction(values, problems, outside, range_unknown=not fit.ranges)


def predict_table(fit: Fit, table: pd.DataFrame, columns: Mapping[str, str], units: Mapping[str, float]) -> Prediction:
    """Return what the law says at each row of a table.

    Parameters
    ----------
    fit : Fit
        Its own names of columns hold where the table has them.
    table : DataFrame
        As `read_points` returns it.
    columns : mapping
        The law's column names to the table's.
    units : mapping
        Column -> what its numbers are to be multiplied by.

    Raises
    ------
    UserError
        For an input that is missing or a cell that is not a positive number, and for a column of the table that has
        the name of a result.
    """
    for name in COLUMNS:
        if name in table:
            raise UserError(f"column {name!r}: is the name of a column that predict adds; give it another name")
    law = fit.definition
    known = {ours: theirs for ours, theirs in fit.columns.items() if theirs in table and ours != law.response}
    if law.inputs == ("x",) and "x" not in table:  # which only the fit has a name for
        known = {"x": fit.columns.get("x", "x")}
    columns = {**known, **columns}
    check_names(columns, law.inputs)
    table = in_units(table, units, columns)
    for ours in law.inputs:  # x may be any column, but a known one has its unit
        if columns.get(ours) in COUNTED and columns[ours] in table:
            numbers(table, columns[ours], law.name, infinite=True)
    named, _ = complete(rename(table, columns), law.inputs)
    inputs = {name: numbers(named, name, law.name, name in INFINITE, zero=name in ZERO) for name in law.inputs}
    if law.whole_curves and "run" in named:
        inputs["run"] = named["run"].astype(str).to_numpy()
    return predict(fit, inputs)
