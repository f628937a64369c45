"""A table as csv and markdown, and the rows that compare a law's parameters with the paper's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.files import atomic_path
from pipeline.laws import FORMULAS, Fit
from pipeline.laws.fitting.intervals import interval
from pipeline.units import PF_DAY

COLUMNS = ("quantity", "unit", "paper", "ours", "low", "high", "n_runs", "comparable", "note")
"""Columns of a table that compares: low and high are the ends of our 95 % interval."""

SCALE = "no: depends on tokenizer and text"
"""Why N_c, D_c, C_c and S_c are not compared; the paper says so of its own."""


@dataclass(frozen=True)
class Table:
    """A table of the paper: its title, its rows, and sentences below it."""

    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return the table as markdown: title, rows, notes."""
        exact = [name == "paper" for name in self.frame.columns]
        cells = [
            [text(value, printed) for value, printed in zip(row, exact, strict=True)]
            for row in self.frame.itertuples(index=False)
        ]
        lines = [f"**{self.title}**", "", _line(self.frame.columns), _line(["---"] * len(self.frame.columns))]
        lines += [_line(row) for row in cells]
        return "\n".join([*lines, "", *(f"{note}\n" for note in self.notes)]).rstrip() + "\n"

    def save(self, path: str | Path) -> None:
        """Write the csv, and markdown beside it, whole or not at all."""
        path = Path(path)
        if path.suffix != ".csv":
            raise UserError(f"output: {path.name} does not end in .csv")
        with atomic_path(path) as temporary:
            self.frame.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")
        with atomic_path(path.with_suffix(".md")) as temporary:
            temporary.write_text(self.markdown(), encoding="utf-8")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def text(value: Any, exact: bool = False) -> str:
    """Write a cell: three significant digits, or as many as the number has if `exact`; nothing for what is missing.

    Examples
    --------
    >>> text(0.1), text(0.1, exact=True), text(8.8e13), text(2140.0), text(393216), text(None), text("alpha_N")
    ('0.100', '0.1', '8.80e13', '2,140', '393,216', '', 'alpha_N')
    """
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return f"{value:,}"
    if not isinstance(value, (float, np.floating)):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, power = (f"{value:e}" if exact else f"{value:.2e}").split("e")
        return f"{mantissa.rstrip('0').rstrip('.') if exact else mantissa}e{int(power)}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:g}" if exact else f"{value:#.3g}".rstrip(".")


def law_rows(name: str, fit: Fit | None, parameters: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each of a law's parameters; a law that was not fitted has the paper's values only.

    Parameters
    ----------
    name
        Name of the law in `pipeline.laws`.
    fit
        The fitted law, or None.
    parameters
        Names, in the order of the rows. FLOP become PF-days.

    Raises
    ------
    UserError
        When the law has no such parameter.
    """
    if fit is None and name not in FORMULAS:
        raise UserError(f"law {name!r} is not one of {', '.join(FORMULAS)}")
    known = fit.parameters if fit else {q.name: q for q in FORMULAS[name].parameters}
    rows = []
    for parameter in parameters:
        if parameter not in known:
            raise UserError(f"law {name} has no parameter {parameter!r}; it has {', '.join(known)}")
        value = known[parameter]
        scale, unit = (PF_DAY, "PF-days") if value.unit == "FLOP" else (1.0, value.unit)
        ours = [getattr(value, end, None) for end in ("estimate", "low", "high")]
        row = {"quantity": parameter, "unit": unit, "paper": _over(value.paper, scale)}
        row |= dict(zip(("ours", "low", "high"), (_over(number, scale) for number in ours), strict=True))
        rows.append(row | _about(fit, "yes" if not unit else SCALE))
    return rows


def derived_row(
    quantity: str, paper: float, fit: Fit | None, formula: Callable[..., Any], comparable: str = "yes"
) -> dict[str, Any]:
    """Return a row for a quantity that follows from a law's parameters, with the interval of its bootstrap draws.

    `formula` takes the parameters by name (logarithms of those with units, as `Fit.vector` has them).
    """
    row: dict[str, Any] = {"quantity": quantity, "unit": "", "paper": paper}
    if fit is not None and fit.identified:
        names = list(fit.parameters)
        row["ours"] = float(formula(**dict(zip(names, fit.vector, strict=True))))
        if len(fit.draws):
            draws = formula(**dict(zip(names, fit.draws.T, strict=True)))
            row["low"], row["high"] = interval(draws)
    return row | _about(fit, comparable)


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a table with the columns `COLUMNS`."""
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"n_runs": "Int64"} | dict.fromkeys(("paper", "ours", "low", "high"), float))


def _over(value: float | None, scale: float) -> float | None:
    return None if value is None else value / scale


def _about(fit: Fit | None, comparable: str) -> dict[str, Any]:
    """Return how many runs a law rests on, and why there is no number, if there is none."""
    if fit is None:
        return {"n_runs": None, "comparable": comparable, "note": "not fitted here"}
    note = "" if fit.identified else f"not identified: {fit.reason}"
    return {"n_runs": fit.n_runs, "comparable": comparable, "note": note}
