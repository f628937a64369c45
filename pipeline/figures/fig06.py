"""Figure 6: test loss against parameters with and without embeddings, by number of layers.

Left: all parameters, series 0, 1, 2, 3, 6 and more than 6 layers. Right: non-embedding parameters, without the 0-layer
models. x logarithmic, y of loss. With embeddings, depth seems to matter; without them the series with two layers or
more fall on one line.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import end_points, mean_over_seeds, plural, require, usable
from pipeline.figures.drawing import Drawing

TITLE = "Performance trend with embedding parameters included or excluded."
PAPER = (
    "With embeddings counted, the loss seems to depend on the number of layers as well as on size; without them, "
    "models of two layers or more converge to a single line. 0-layer models are almost flat, 1-layer models lie above."
)


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the sweeps depths and sizes."""
    drawing = Drawing(["all", "non_embedding"], height=2.8)
    depths, lost = usable(inputs.sweeps["depths"], "depths")
    sizes, also_lost = usable(inputs.sweeps["sizes"], "sizes")
    drawing.note(lost)
    drawing.note(also_lost)
    ends = _alike(drawing, end_points(depths, "final"), end_points(sizes, "final"))
    ends["layers"] = [str(n) if n <= 3 else "6" if n == 6 else "4, 5" if n < 6 else "> 6" for n in ends.n_layer]
    require(ends[ends.n_layer == 0], "depths", "a run of 0 layers")
    require(ends[ends.n_layer >= 2], "depths", "a run of 2 layers or more")

    order = [name for name in ("0", "1", "2", "3", "4, 5", "6", "> 6") if name in set(ends.layers)]
    for k, layers in enumerate(order):
        rows = ends[ends.layers == layers]
        name = f"{layers} layer{'' if layers == '1' else 's'}"
        look = {"colour": style.series_colour(k, len(order)), "marker": style.MARKERS[k], "label": name}
        for panel, x in (("all", "n_params_total"), ("non_embedding", "n_params")):
            if layers == "0" and panel == "non_embedding":
                continue
            means = mean_over_seeds(rows, x, by=["n_steps"])
            drawing.line(panel, name, means[x], means.loss, colour=look["colour"], width=0.8, zorder=1.8)
            drawing.means(panel, name, means, x, **look)
    style.loss_axis(drawing.axes["all"])
    style.loss_axis(drawing.axes["non_embedding"], "")
    style.log_axis(drawing.axes["all"], "Parameters (with embedding)")
    style.log_axis(drawing.axes["non_embedding"], "Parameters (non-embedding)")
    drawing.share_y()
    drawing.legend("all", "upper right")

    lengths = sorted({style.number(tokens) for tokens in ends.n_tokens})
    drawing.describe(
        TITLE,
        PAPER,
        f"{plural(len(ends), 'run')}. {_collapse(ends[ends.n_layer >= 2])}",
        f"{inputs.where} Runs end after {' or '.join(lengths)} tokens, not at convergence.",
    )
    return drawing


def _alike(drawing: Drawing, depths: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """Return the end points of both sweeps, without runs of sizes that trained longer or shorter than all of depths."""
    alike = sizes[sizes.n_tokens.between(0.95 * depths.n_tokens.min(), 1.05 * depths.n_tokens.max())]
    others = sizes.run.nunique() - alike.run.nunique()
    if others:
        drawing.note(
            f"{plural(others, 'run')} of sweep sizes trained on another number of tokens than those of sweep "
            "depths, and can't be compared."
        )
    return pd.concat([depths, alike]).drop_duplicates("run")


def _collapse(deep: pd.DataFrame) -> str:
    """Say how far models of two layers or more lie from one line, with and without embeddings."""
    if deep.n_layer.nunique() < 2 or len(deep) < 4:
        return "Too few depths of two layers or more to say whether they fall on one line."
    with_embedding, without = (_scatter(deep, x) for x in ("n_params_total", "n_params"))
    return (
        "About one straight line (log-log), models of two layers or more scatter by "
        f"{with_embedding:.1%} of the loss with embeddings counted and {without:.1%} without."
    )


def _scatter(ends: pd.DataFrame, x: str) -> float:
    """Return the standard deviation of ln L about the least-squares line in ln x."""
    log_x, log_y = np.log(ends[x].to_numpy(float)), np.log(ends.loss.to_numpy(float))
    line = np.polyfit(log_x, log_y, 1)
    return float(np.std(log_y - np.polyval(line, log_x), ddof=2))
