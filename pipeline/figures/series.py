"""A series on a panel: means over seeds with their intervals, fitted sizes filled and the others hollow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis.rows import SHAPE, mean_over_seeds, plural
from pipeline.figures.drawing import Drawing

LEFT_OUT = "left out of fits"
"""Legend of hollow points."""
NOT_FITTED = "not fitted"
"""Legend of hollow end points: they may be of a shape that is left out, or of too few passes over their data."""


def draw_means(
    drawing: Drawing,
    panel: str,
    series: str,
    means: pd.DataFrame,
    x: str,
    y: str = "loss",
    *,
    colour: Any = style.BLUE,
    marker: str = "o",
    dash: str | None = None,
    label: str | None = None,
    size: float = style.POINT,
    left_out: str = LEFT_OUT,
) -> None:
    """Draw what `mean_over_seeds` gives; `dash` joins the points by a thin line of that style.

    Shapes that are left out of fits are hollow, and named so (`left_out`) once in the panel's legend.
    """
    if dash is not None and len(means) > 1:
        drawing.line(panel, series, means[x], means[y], colour=colour, dash=dash, width=0.9, alpha=0.8)
    for fitted in (True, False):
        rows = means[means.fitted == fitted]
        if rows.empty:
            continue
        drawing.means(
            panel,
            series if fitted else f"{series}, not fitted",
            rows,
            x,
            y,
            colour=colour,
            marker=marker,
            hollow=not fitted,
            label=label if fitted else _once(drawing, panel, left_out if label else None),
            size=size,
        )


def draw_end_points(drawing: Drawing, panel: str, ends: pd.DataFrame, fitted: pd.DataFrame, x: str, label: str) -> str:
    """Draw end points of runs as means over seeds, those whose runs are not among `fitted` hollow.

    Returns
    -------
    str
        How many runs and points that is, for the caption.
    """
    means = mean_over_seeds(ends.assign(fitted=ends.run.isin(fitted.run)), x, by=SHAPE)
    draw_means(drawing, panel, label, means, x, label=label, left_out=NOT_FITTED)
    shown = len(means) - means.fitted.sum()
    parts = [plural(len(ends), "run"), f"{plural(len(means) - shown, 'point')} fitted"]
    if shown:
        parts.append(f"{shown} more shown but not fitted")
    repeats = means.n[means.n > 1]
    if len(repeats):
        parts.append(f"{plural(len(repeats), 'point')} the mean of {repeats.min()} or more seeds")
    return ", ".join(parts)


def _once(drawing: Drawing, panel: str, label: str | None) -> str | None:
    """Return a label unless the panel has it."""
    return None if label in drawing.axes[panel].get_legend_handles_labels()[1] else label


def view(drawing: Drawing, panel: str, bottom: float | None = None, margin: float = 0.05) -> None:
    """Set the ends of y by the points, their bars, and the lines of a panel: bands of a law may go beyond the edge.

    Call it when the panel's scale is set. `bottom` is the lower end, if it is to be a round one. A panel in which
    nothing is drawn, because no law of its is identified, keeps its ends.
    """
    axes, table = drawing.axes[panel], drawing.table()
    table = table[(table.panel == panel) & (table.kind != "band")]
    y = table[["y", "low", "high"]].stack()
    if y.empty:
        return
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(y.min()), scale.transform(y.max())
    edge = margin * (high - low)
    low, high = scale.inverted().transform(np.array([low - edge, high + edge]))
    axes.set_ylim(low if bottom is None else bottom, high)


def between(x: Any, y: Any, at: Any) -> np.ndarray:
    """Interpolate y(x) on log-log axes at the values `at`; NaN outside of the range of x.

    Examples
    --------
    >>> between([1.0, 100.0], [1.0, 4.0], [10.0, 1000.0]).tolist()
    [2.0, nan]
    """
    order = np.argsort(np.asarray(x, float), kind="stable")
    log_x, log_y = np.log(np.asarray(x, float)[order]), np.log(np.asarray(y, float)[order])
    return np.exp(np.interp(np.log(np.asarray(at, float)), log_x, log_y, left=np.nan, right=np.nan))


def shared_levels(rows: pd.DataFrame, column: str, n: int, by: str = "n_params") -> np.ndarray:
    """Return log-spaced values of `column` such that the curves of at least two sizes N (or `by`) pass each end.

    Examples
    --------
    >>> curves = {"n_params": [1, 1, 2, 2, 3, 3], "loss": [8.0, 4.0, 6.0, 3.0, 5.0, 2.0]}
    >>> shared_levels(pd.DataFrame(curves), "loss", 2).round(2).tolist()
    [3.0, 6.0]
    """
    spans = rows.groupby(by)[column].agg(["min", "max"])
    return np.geomspace(1.0001 * np.sort(spans["min"])[1], 0.9999 * np.sort(spans["max"])[-2], n)


def percent(value: float, digits: int = 1, sign: bool = True) -> str:
    """Write a part as a percentage, with its sign.

    Examples
    --------
    >>> percent(0.0213), percent(-0.5, 0), percent(0.1, 0, sign=False)
    ('+2.1 %', '-50 %', '10 %')
    """
    return f"{100 * value:{'+' if sign else ''}.{digits}f} %"
