"""Figure 17: recurrent Transformers, whose layers are applied 2, 4 or 8 times, against standard ones.

Test loss against non-embedding parameters. Left: each weight counted as often as it is applied, so that models at one
place cost the same compute. Right: each weight counted once. x logarithmic, y linear.
"""

from __future__ import annotations

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import end_points, mean_over_seeds, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.series import between, draw_means, percent

TITLE = "Recurrent Transformers."
PANELS = {
    "with reuse": ("n_params_reuse", "Parameters, counting re-use (non-embedding)"),
    "without reuse": ("n_params", "Parameters, not counting re-use"),
}
"""Panel -> column and label of x."""


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the sweeps sizes and recurrent."""
    drawing = Drawing(list(PANELS), height=2.9)
    ends = {}
    for name in ("sizes", "recurrent"):
        rows, lost = usable(inputs.sweeps[name], name)
        drawing.note(lost)
        ends[name] = end_points(rows, "final")
    standard = ends["sizes"][ends["sizes"].n_params > 0]
    require(standard, "sizes", "two model sizes", 2, "n_params")
    require(ends["recurrent"], "recurrent", "a run")

    found = []
    for panel, (x, label) in PANELS.items():
        plain = mean_over_seeds(standard, x, by=["n_layer", "d_model"])
        draw_means(drawing, panel, "non-recurrent", plain, x, colour=style.INK, dash="-", label="non-recurrent")
        kept = plain[plain.fitted] if plain.fitted.sum() > 1 else plain
        away = []
        for index, (n_reuse, rows) in enumerate(ends["recurrent"].groupby("n_reuse")):
            means = mean_over_seeds(rows, x, by=["n_layer", "d_model"])
            name = f"{n_reuse}x re-use"
            draw_means(
                drawing,
                panel,
                name,
                means,
                x,
                colour=style.SERIES[index % 3],
                marker=style.MARKERS[index + 1],
                dash="-",
                label=name,
            )
            gap = (means.loss / between(kept[x], kept.loss, means[x]) - 1).mean()  # NaN outside the standard sizes
            away.append(f"{n_reuse}x {percent(gap)}" if gap == gap else f"{n_reuse}x outside the sizes compared")
        style.loss_axis(drawing.axes[panel], scale="linear")
        style.log_axis(drawing.axes[panel], label)
        found.append(", ".join(away))
    drawing.legend("without reuse", "upper right")
    drawing.describe(
        TITLE,
        "At equal N recurrent Transformers are slightly better than standard ones; at equal compute, each weight "
        "counted as often as it is applied, slightly worse.",
        f"Loss against the standard Transformers interpolated at the same x, mean over sizes: left (equal compute) "
        f"{found[0]}; right (equal N) {found[1]}.",
        f"{inputs.where} N ends at {style.number(standard.n_params.max())} (paper: 1B); learning rates follow the rule "
        "for the weights' own N.",
    )
    return drawing
