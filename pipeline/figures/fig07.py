"""Figure 7: LSTMs against Transformers.

Left: test loss against non-embedding parameters, Transformers and LSTMs of 1, 2, 4 layers. Right: test loss per token
against the token's place in the context, pairs of a small, a middle and a large LSTM and the Transformers nearest in
size. x logarithmic, y linear.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis import evaluated
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import end_points, mean_over_seeds, plural, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.series import between, draw_means, percent

TITLE = "LSTMs and Transformers."


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the sweeps and evaluations sizes and lstms."""
    drawing = Drawing(["size", "position"], height=2.9)
    tables = {}
    for name in ("sizes", "lstms"):
        tables[name], lost = usable(inputs.sweeps[name], name)
        drawing.note(lost)
    left = _size(drawing, tables["sizes"], tables["lstms"])
    right = _position(drawing, inputs)
    drawing.describe(
        TITLE,
        "LSTMs match Transformers of equal N on the first tokens of the context and fall behind on the later ones: "
        "their loss per token stops falling within 100 tokens, the Transformers' falls to the end of the context. At "
        "N near 1e5 LSTMs are not worse; at 1e8 they are, by 0.3 to 0.4 nats.",
        f"{left} {right}",
        f"{inputs.where} The context is {int(tables['sizes'].n_ctx.max())} tokens (paper: 1,024), and N ends at "
        f"{style.number(tables['sizes'].n_params.max())} (paper: 1.5B). An LSTM's N is 8 weights per squared width and "
        "layer.",
    )
    return drawing


def _size(drawing: Drawing, sizes: pd.DataFrame, lstms: pd.DataFrame) -> str:
    """Loss at the end of each run against N."""
    ours = end_points(sizes)
    transformers = mean_over_seeds(ours[ours.n_params > 0], "n_params", by=["n_layer", "d_model"])
    require(transformers, "sizes", "two model sizes", 2, "n_params")
    draw_means(drawing, "size", "Transformers", transformers, "n_params", dash="-", label="Transformers")
    ends = end_points(lstms)
    require(ends, "lstms", "an LSTM")
    means = mean_over_seeds(ends, "n_params", by=["n_layer"])
    for index, (n_layer, rows) in enumerate(means.groupby("n_layer")):
        name = "LSTM, " + plural(int(n_layer), "layer")
        colour = style.REDS[min(index, len(style.REDS) - 1)]
        draw_means(
            drawing,
            "size",
            name,
            rows,
            "n_params",
            colour=colour,
            marker=style.MARKERS[index + 1],
            dash="-",
            label=name,
        )
    axes = drawing.axes["size"]
    style.loss_axis(axes, scale="linear")
    style.log_axis(axes, "Parameters (non-embedding)")
    drawing.legend("size", "upper right")

    kept = transformers[transformers.fitted] if transformers.fitted.sum() > 1 else transformers
    gap = means.loss / between(kept.n_params, kept.loss, means.n_params) - 1
    compared = means.assign(gap=gap)[gap.notna()].groupby("n_params", as_index=False).gap.min()
    if compared.empty:
        return "Left: no LSTM lies within the Transformers' range of N."
    ends = compared.iloc[[0, -1]].drop_duplicates("n_params")
    words = [f"{percent(gap)} at N = {style.number(n_params)}" for n_params, gap in ends.values]
    return f"Left: the best LSTM's loss against a Transformer's of equal N: {', '.join(words)}."


def _position(drawing: Drawing, inputs: Inputs) -> str:
    """Loss per token by position, LSTMs dashed in reds, Transformers solid in blues."""
    final = {}
    for name in ("lstms", "sizes"):
        table, _ = usable(inputs.evaluations[name], name)
        final[name] = evaluated.on_corpus(evaluated.final_rows(table), "test", name)
    chosen = _sizes_to_show(final["lstms"])
    curves = {}
    for name, kind, colours, dash in (
        ("lstms", "LSTM", style.REDS, (0, (3, 1.4))),
        ("sizes", "Transformer", style.BLUES, "-"),
    ):
        shown = sorted({_nearest(final[name].n_params, wanted) for wanted in chosen})
        for n_params, colour in zip(shown, colours, strict=False):
            means = evaluated.by_position(final[name][final[name].n_params == n_params])
            label = f"{kind}, {style.number(n_params)}"
            drawing.line("position", label, means.position, means.loss, colour=colour, dash=dash, label=label)
            curves[name, n_params] = means
    axes = drawing.axes["position"]
    style.loss_axis(axes, "Per-token test loss (nats)", scale="linear")
    style.log_axis(axes, "Token index in context")
    drawing.legend("position", "upper right", ncols=2 if len(curves) > 3 else 1, columnspacing=1.0)

    largest = {name: max(n for kind, n in curves if kind == name) for name in final}
    words = []
    for name, kind in (("lstms", "LSTM"), ("sizes", "Transformer")):
        means = curves[name, largest[name]]
        end = means.position.iloc[-1]
        earlier = float(np.interp(np.log(end / 4), np.log(means.position), means.loss))
        words.append(
            f"the {kind} of {style.number(largest[name])} gains {earlier - means.loss.iloc[-1]:.2f} nats over the last "
            "two octaves of the context"
        )
    first = [curves[name, largest[name]].loss.iloc[0] for name in ("lstms", "sizes")]
    return f"Right: {words[0]}, {words[1]}; on the first token they differ by {first[0] - first[1]:+.2f} nats."


def _sizes_to_show(rows: pd.DataFrame) -> list[int]:
    """Return the smallest, the middle (by ratio) and the largest N."""
    sizes = np.sort(rows.n_params.unique())
    return sorted({int(sizes[0]), _nearest(sizes, float(np.sqrt(sizes[0] * sizes[-1]))), int(sizes[-1])})


def _nearest(values: object, wanted: float) -> int:
    """Return the value nearest to `wanted` by ratio."""
    values = np.unique(np.asarray(values, float))
    return int(values[np.abs(np.log(values / wanted)).argmin()])
