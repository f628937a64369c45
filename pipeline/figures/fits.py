"""Fitted laws on a panel: the line with its formula, or the words "not identified" with the reason."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.figures import select, style
from pipeline.figures.drawing import Drawing, law_grid

if TYPE_CHECKING:
    from pipeline.laws.fit import Fit


def draw_law(
    drawing: Drawing,
    panel: str,
    fit: Fit,
    variable: str,
    x: tuple[float, float],
    fitted: tuple[float, float],
    *,
    colour: Any = style.ORANGE,
    series: str | None = None,
    scale: float = 1.0,
    label: str | None = None,
    where: str | None = "lower left",
    **fixed: float,
) -> bool:
    """Draw a law of one variable and print its formula; a law that is not identified is said to be so.

    Parameters
    ----------
    variable
        Name of the argument of `fit.predict` along x, for example "n_params".
    x, fitted
        Range to draw, and range that was fitted, in the units of the axis.
    series
        Name in the csv; the law's own formula if not given.
    scale
        Units of `variable` in one unit of the axis, for example 8.64e19 for an axis of PF-days and a law in FLOP.
    where
        Corner of the panel for the formula; None prints none (an unidentified law is still said to be so).
    **fixed
        Other arguments of `fit.predict`.

    Returns
    -------
    bool
        Whether the law is identified and was drawn.
    """
    if not fit.identified:
        say_unidentified(drawing, panel, fit, where or "lower left")
        return False
    grid = law_grid(*x, *fitted)
    formula = formula_of(fit)
    y = fit.predict(**{variable: grid * scale}, **fixed)
    drawing.law(panel, series or plain(formula), grid, y, fitted, colour=colour, label=label)
    if where:
        drawing.text(panel, formula, where, colour=colour)
    return True


def say_unidentified(drawing: Drawing, panel: str, fit: Fit, where: str = "lower left") -> None:
    """Write on a panel, and in the caption, that a law is not identified, and why."""
    message = f"{symbol(fit)} not identified: {fit.reason}"
    columns = sum(1 for row in drawing.figure.axes if row.get_subplotspec() is not None) or 1
    drawing.text(panel, textwrap.fill(message, max(26, 100 // columns)), where, colour=style.ORANGE)
    note = f"{symbol(fit)} is not identified: {fit.reason}."
    if note not in drawing.notes:
        drawing.notes.append(note)


def formula_of(fit: Fit) -> str:
    """Return the law's formula with its numbers, as mathtext."""
    return fit.formula()


def symbol(fit: Fit) -> str:
    """Return a law's name as the paper writes it: L(N), L(N, D)."""
    head, *arguments = str(fit.law).split("_")
    return f"{head}({', '.join(arguments)})" if arguments else head


def plain(formula: str) -> str:
    """Take the mathtext out of a formula, for the csv.

    Examples
    --------
    >>> plain(r"$L = (N / 8.8\\times10^{13})^{-0.076}$")
    'L = (N / 8.8x10^13)^-0.076'
    """
    for old, new in (("\\times", "x"), ("\\cdot", "x"), ("$", ""), ("\\,", ""), ("\\left", ""), ("\\right", "")):
        formula = formula.replace(old, new)
    return formula.replace("{", "").replace("}", "").replace("\\", "")


def draw_paper_exponent(
    drawing: Drawing, panel: str, x: tuple[float, float], exponent: float, points: pd.DataFrame, column: str, y: str
) -> None:
    """Draw the paper's power law in grey, anchored at the middle of our points: only its exponent is comparable."""
    grid = law_grid(*x, n=60)
    line = select.anchored(grid, exponent, points[column], points[y])
    drawing.line(
        panel,
        f"paper's exponent {exponent:g}, through our points",
        grid,
        line,
        colour=style.GREY,
        dash=(0, (1, 1.6)),
        label=f"paper's exponent {exponent:.3f}",
        zorder=2.5,
    )


def estimate(fit: Fit, name: str, digits: int = 3) -> str:
    """Write a parameter with its interval, for captions: 0.081 (0.078 to 0.084)."""
    value = fit.parameters[name]
    if not fit.identified:
        return "not identified"
    text = f"{value.estimate:.{digits}f}"
    if value.low is None or value.high is None or not np.isfinite([value.low, value.high]).all():
        return text
    return f"{text} ({value.low:.{digits}f} to {value.high:.{digits}f})"


def compute_min(flops: Any, batch_tokens: Any, loss: Any, b_crit: Fit) -> np.ndarray:
    """Return C_min = C / (1 + B / B_crit(L)), Eq 5.5."""
    critical = np.asarray(b_crit.predict(loss=np.asarray(loss, float)), float)
    return np.asarray(flops, float) / (1 + np.asarray(batch_tokens, float) / critical)
