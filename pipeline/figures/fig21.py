"""Figure 21: loss at fixed places in the context against model size.

Test loss at tokens 1, 2, 4, ... against non-embedding parameters: models of the full context solid, models whose whole
context is 8 tokens dashed. x logarithmic, y linear.
"""

from __future__ import annotations

import pandas as pd

from pipeline import style
from pipeline.analysis import evaluated
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import mean_over_seeds, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.series import between, draw_means, percent

TITLE = "Performance at different token positions against model size."


def draw(inputs: Inputs) -> Drawing:
    """Draw the panel; needs the evaluations sizes and short."""
    drawing = Drawing(["position"], width=4.9, height=3.3)
    tables = {}
    for name in ("sizes", "short"):
        rows, lost = usable(inputs.evaluations[name], name)
        drawing.note(lost)
        rows = evaluated.on_corpus(evaluated.final_rows(rows), "test", name)
        tables[name] = rows[rows.n_params > 0]
        require(tables[name], name, "two model sizes", 2, "n_params")
    long, short = int(tables["sizes"].n_ctx.max()), int(tables["short"].n_ctx.max())
    shown = evaluated.positions_of(long)
    means = {}
    for name, n_ctx, dash, marker in (("sizes", long, "-", "o"), ("short", short, (0, (3, 1.4)), "^")):
        for position in evaluated.positions_of(n_ctx):
            rows = tables[name][(tables[name].n_ctx == n_ctx) & (tables[name].position == position)]
            table = mean_over_seeds(rows, "n_params", by=["n_layer", "d_model"])
            colour = style.series_colour(shown.index(position), len(shown)) if position in shown else style.GREY
            label = f"Token {position} / {n_ctx}"
            draw_means(
                drawing,
                "position",
                label,
                table,
                "n_params",
                colour=colour,
                dash=dash,
                marker=marker,
                label=label,
                size=2.8,
            )
            means[n_ctx, position] = table
    axes = drawing.axes["position"]
    style.loss_axis(axes, scale="linear")
    style.log_axis(axes, "Parameters (excluding embedding)")
    drawing.legend("position", "right")
    drawing.describe(
        TITLE,
        "Every token but the first improves with N, the later ones most. Models trained on a context of 8 do better on "
        "the first tokens than models of 1,024: short-range structure is learned first.",
        f"{_with_size(means, long)} {_short(means, long, short)}",
        f"{inputs.where} The long context is {long} tokens (paper: 1,024).",
    )
    return drawing


def _with_size(means: dict[tuple[int, int], pd.DataFrame], long: int) -> str:
    """Say how much the first and the last token improve from the smallest to the largest model."""
    words = []
    for position in (1, long):
        table = means[long, position].sort_values("n_params")
        words.append(f"token {position} {percent(table.loss.iloc[-1] / table.loss.iloc[0] - 1)}")
    low, high = table.n_params.iloc[[0, -1]]
    return f"From N = {style.number(low)} to {style.number(high)} the loss changes by: {', '.join(words)}."


def _short(means: dict[tuple[int, int], pd.DataFrame], long: int, short: int) -> str:
    """Compare models of the short context with those of the long one at the same token and N."""
    words = []
    for position in evaluated.positions_of(short):
        if (long, position) in means:
            full, own = means[long, position], means[short, position]
            gap = (own.loss / between(full.n_params, full.loss, own.n_params) - 1).mean()
            words.append(f"token {position} {percent(gap)}")
    return f"Models of {short} tokens against models of {long} at equal N: {', '.join(words)} (mean over sizes)."
