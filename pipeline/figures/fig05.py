"""Figure 5: the shape of a model hardly matters at a fixed number of parameters.

Three panels of the loss increase over the best shape (in percent, linear) against a ratio (logarithmic):
d_ff / d_model, d_model / n_layer, d_model / n_head. Small differences in N within a series are removed with L(N), as
in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import end_points, extent, labelled, mean_over_seeds, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.laws import symbol
from pipeline.figures.series import draw_means

TITLE = "Performance depends weakly on the shape of the model."
SAME_SIZE = 1.5
"""Models whose N differ by a smaller factor than this from the next are one series."""
TOP = 0.10
"""The paper's y axis ends at 10 %; ours does not end before."""


@dataclass(frozen=True)
class Panel:
    """A panel: which ratio of the shape is its x, and what tells its series apart."""

    ratio: tuple[str, str]
    label: str
    series: str


PANELS = {
    "d_ff_ratio": Panel(("d_ff", "d_model"), "Feed-forward ratio ($d_{ff}$ / $d_{model}$)", "n_params"),
    "aspect": Panel(("d_model", "n_layer"), "Aspect ratio ($d_{model}$ / $n_{layer}$)", "n_params"),
    "heads": Panel(("d_model", "n_head"), "Attention head size ($d_{model}$ / $n_{head}$)", "d_model"),
}
"""Label in the sweep shapes -> its panel."""


def draw(inputs: Inputs) -> Drawing:
    """Draw the three panels; needs the sweep shapes and the law L_N, and L_C_min or L_C for the note on compute."""
    drawing = Drawing(list(PANELS), height=2.6)
    shapes, lost = usable(inputs.sweeps["shapes"], "shapes")
    drawing.note(lost)
    compute = _compute_for_a_percent(inputs)
    drawing.axes["aspect"].plot([], [], linestyle="none", label=compute or None)
    ends = _at_equal_size(drawing, end_points(shapes, "final"), inputs)
    found = [_panel(drawing, name, panel, ends[ends.panel == name]) for name, panel in PANELS.items()]
    top = max([TOP, *(1.35 * axes.dataLim.y1 for axes in drawing.axes.values())])  # room for the legends
    for axes in drawing.axes.values():
        axes.set_ylim(-0.03 * top, top)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylabel("")
    drawing.axes["d_ff_ratio"].set_ylabel("Loss increase")
    drawing.describe(
        TITLE,
        "At fixed N the loss varies by a few percent over a wide range of shapes: under 3 % for aspect ratios of about "
        "5 to 250 and d_ff / d_model up to 8. 22 % more compute makes up for 1 % of loss.",
        f"Increase of each series over its best shape: {'; '.join(found)}. {compute.replace(chr(10), ' ')}".strip(),
        f"{inputs.where} N is {' to '.join(map(style.number, extent(ends.n_params)))} (paper: 25M to 1.5B). The "
        "best of several shapes is low partly by chance: increases of the size of the spread between seeds mean "
        "nothing.",
    )
    return drawing


def _at_equal_size(drawing: Drawing, ends: pd.DataFrame, inputs: Inputs) -> pd.DataFrame:
    """Name each run's series, and move its loss with L(N) to the series' mean N (geometric)."""
    law = inputs.laws["L_N"]
    parts = []
    for name, panel in PANELS.items():
        rows = labelled(ends, name).assign(panel=name)
        require(rows, "shapes", f"two runs with label {name}", 2)
        rows["x"] = rows[panel.ratio[0]] / rows[panel.ratio[1]]
        steps = np.diff(np.log(np.sort(rows.n_params.unique()))) > np.log(SAME_SIZE)
        sizes = dict(zip(np.sort(rows.n_params.unique()), np.r_[0, np.cumsum(steps)], strict=True))
        rows["size"] = rows.n_params.map(sizes)
        rows["series"] = rows["size"] if panel.series == "n_params" else rows[panel.series]
        parts.append(rows)
    ends = pd.concat(parts, ignore_index=True)
    ends["centre"] = np.exp(np.log(ends.n_params).groupby([ends.panel, ends.series]).transform("mean"))
    if law.identified:
        ends["loss"] *= law.predict(n_params=ends.centre) / law.predict(n_params=ends.n_params)
    else:
        drawing.axes["d_ff_ratio"].plot([], [], linestyle="none", label=f"N differ: {symbol(law)} not identified")
        drawing.note(f"Losses are not corrected to equal N, since {symbol(law)} is not identified: {law.reason}.")
    return ends


def _panel(drawing: Drawing, name: str, panel: Panel, rows: pd.DataFrame) -> str:
    """Draw one panel; return the caption's words about it."""
    words = []
    for index, (_, series) in enumerate(rows.groupby("series")):
        means = mean_over_seeds(series, "x")
        best = means.loss.min()
        for column in ("loss", "low", "high"):
            means[column] = means[column] / best - 1
        size = style.number(series.centre.iloc[0])
        label = f"N = {size}" if panel.series == "n_params" else f"$d_{{model}}$ = {int(series.d_model.iloc[0])}"
        look = {"colour": style.SERIES[index % 8], "marker": style.MARKERS[index % 8]}
        draw_means(drawing, name, label.replace("$", ""), means, "x", dash="-", label=label, **look)
        worst = means.loc[means.loss.idxmax()]
        words.append(
            f"{size}{'' if panel.series == 'n_params' else f' (width {int(series.d_model.iloc[0])})'} at most "
            f"{100 * worst.loss:.1f} % between {means.x.min():.3g} and {means.x.max():.3g}"
        )
    style.log_axis(drawing.axes[name], panel.label)
    drawing.legend(name, "upper left")
    return f"{' / '.join(panel.ratio)}: {', '.join(words)}"


def _compute_for_a_percent(inputs: Inputs) -> str:
    """Say how much compute makes up for 1 % of loss: 1.01^(1 / alpha_C) - 1."""
    for law, name in (("L_C_min", "alpha_C_min"), ("L_C", "alpha_C")):
        fit = inputs.laws.get(law)
        if fit is not None and fit.identified:
            more = 1.01 ** (1 / fit.value(name)) - 1
            return f"{100 * more:.0f} % more compute\nmakes up for 1 % of loss."
    return ""
