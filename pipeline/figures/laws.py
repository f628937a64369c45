"""Fitted laws on a panel: the line with its formula, or the words "not identified" with the reason."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import anchored
from pipeline.errors import UserError
from pipeline.figures.drawing import Drawing, law_grid
from pipeline.laws.algebra.efficiency import minimum_compute

if TYPE_CHECKING:
    from pipeline.laws.fitting.fit import Fit


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
    band: bool = True,
    width: float = style.LINE,
    **fixed: float,
) -> bool:
    """Draw a law of one variable with its interval; its formula goes into the legend.

    A law that is not identified is said to be so in the same place, with the reason, and nothing is drawn.

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
    label
        Legend entry; the formula if not given, none if "".
    band
        Shade the bootstrap interval of the law.
    **fixed
        Other arguments of `fit.predict`.

    Returns
    -------
    bool
        Whether the law is identified and was drawn.
    """
    if not fit.identified:
        say_unidentified(drawing, panel, fit)
        return False
    grid = law_grid(*x, *fitted)
    formula = formula_of(fit, scale)
    arguments = {variable: grid * scale} | fixed
    name = series or plain(formula)
    if band and hasattr(fit, "interval") and len(fit.draws):
        drawing.band(panel, f"{name}, 95 % interval", grid, *fit.interval(**arguments), colour=colour)
    label = formula if label is None else label or None
    drawing.law(panel, name, grid, fit.predict(**arguments), fitted, colour=colour, label=label, width=width)
    return True


def title_law(drawing: Drawing, panel: str, fit: Fit) -> None:
    """Write a law that many lines of a panel share above it: its formula, or that it is not identified, and why."""
    if fit.identified:
        drawing.axes[panel].set_title(formula_of(fit), fontsize=7)
    else:
        drawing.axes[panel].set_title(_unidentified(drawing, fit, 46), fontsize=7, color=style.ORANGE)


def say_unidentified(drawing: Drawing, panel: str, fit: Fit) -> None:
    """Write in a panel's legend, and in the caption, that a law is not identified, and why."""
    columns = max(1, round(drawing.figure.get_figwidth() / 2.4))
    text = _unidentified(drawing, fit, max(26, 90 // columns))
    drawing.axes[panel].plot([], [], linestyle="none", label=text)


def say_all_unidentified(drawing: Drawing, panel: str, fits: Iterable[Fit]) -> None:
    """Say in a panel's legend, and in the caption, which laws of several are not identified, one entry a reason."""
    by_reason: dict[str, list[str]] = {}
    for fit in fits:
        if not fit.identified:
            _unidentified(drawing, fit, 1)
            by_reason.setdefault(str(fit.reason), []).append(symbol(fit))
    columns = max(1, round(drawing.figure.get_figwidth() / 2.4))
    for reason, names in by_reason.items():
        # "B_crit is not identified: why" of a law that rests on B_crit is told with B_crit, if that is there.
        if reason.partition(" is not identified: ")[2] in by_reason:
            continue
        text = textwrap.fill(f"{', '.join(names)} not identified: {reason}", max(26, 90 // columns))
        drawing.axes[panel].plot([], [], linestyle="none", label=text)


def _unidentified(drawing: Drawing, fit: Fit, width: int) -> str:
    """Note in the caption that a law is not identified, and return the words for the panel, wrapped."""
    drawing.note(f"{symbol(fit)} is not identified: {fit.reason}.")
    return textwrap.fill(f"{symbol(fit)} not identified: {fit.reason}", width)


def points_of(inputs: Inputs, law: str) -> pd.DataFrame:
    """Return the rows that a law was fitted to.

    Raises
    ------
    UserError
        When there are none since a law that it rests on is not identified; ask `fit.identified` first.
    """
    rows = inputs.points[law]
    if rows.empty:
        raise UserError(f"law {law} has no points: {inputs.laws[law].reason}")
    return rows


def points_or_none(inputs: Inputs, law: str) -> pd.DataFrame | None:
    """Return `points_of` a law, or None where there can be none: the fit then says why it is not identified."""
    rows = inputs.points[law]
    return None if rows.empty else rows


def formula_of(fit: Fit, scale: float = 1.0) -> str:
    """Return the law's formula with its numbers, as mathtext; constants in FLOP are divided by `scale`."""
    if scale == 1.0:
        return mathtext(fit.formula())
    values = {
        name: fit.value(name) / (scale if parameter.unit == "FLOP" else 1.0)
        for name, parameter in fit.parameters.items()
    }
    return mathtext(fit.definition.formula(values))


def mathtext(formula: str) -> str:
    r"""Set a plain formula as mathematics.

    Examples
    --------
    >>> mathtext("L = (N / 8.8e13)^-0.076")
    '$L = (N / 8.8\\times10^{13})^{-0.076}$'
    >>> mathtext("L = [(6.4e13 / N)^(0.076/0.103) + 1.8e13 / D]^0.103")
    '$L = [(6.4\\times10^{13} / N)^{0.076/0.103} + 1.8\\times10^{13} / D]^{0.103}$'
    """
    text = re.sub(r"\^\(([^()]*)\)", r"^{\1}", formula)
    text = re.sub(r"\^(-?[\d.]+(?:e-?\d+)?)", r"^{\1}", text)
    text = re.sub(r"(\d)e(-?\d+)", r"\1\\times10^{\2}", text)
    text = re.sub(r"_(\w+)", r"_{\\mathrm{\1}}", text).replace("PF-day", r"\text{PF-day}")
    return "$" + text.replace(" ln(", r"\,\ln(") + "$"


def symbol(fit: Fit) -> str:
    """Return a law's name as the paper writes it: L(N), L(N, D)."""
    head, *arguments = str(fit.law).split("_")
    if arguments[-1:] == ["min"]:
        arguments = [*arguments[:-2], f"{arguments[-2]}_min"]
    return f"{head}({', '.join(arguments)})" if head in ("L", "log") else str(fit.law)


def plain(formula: str) -> str:
    """Take the mathtext out of a formula, for the csv.

    Examples
    --------
    >>> plain(mathtext("L = (N / 8.8e13)^-0.076"))
    'L = (N / 8.8x10^13)^-0.076'
    """
    for old, new in (("\\times", "x"), ("\\mathrm", ""), ("\\text", ""), ("$", ""), ("\\,", " ")):
        formula = formula.replace(old, new)
    return formula.replace("{", "").replace("}", "").replace("\\", "")


def draw_paper_exponent(
    drawing: Drawing, panel: str, x: tuple[float, float], exponent: float, points: pd.DataFrame, column: str, y: str
) -> None:
    """Draw the paper's power law in grey, anchored at the middle of our points: only its exponent is comparable."""
    grid = law_grid(*x, n=60)
    line = anchored(grid, exponent, points[column], points[y])
    drawing.line(
        panel,
        f"paper's exponent {abs(exponent):g}, through our points",
        grid,
        line,
        colour=style.GREY,
        dash=(0, (1, 1.6)),
        label=f"paper's exponent {abs(exponent):.3f}",
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
    return minimum_compute(flops, batch_tokens, b_crit.predict(loss=np.asarray(loss, float)))
