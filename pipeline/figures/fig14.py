"""Figure 14: the optimal model size and number of steps against compute.

Left: non-embedding parameters of the best model against compute (PF-days), both logarithmic. Right: its steps (linear)
against compute (logarithmic). Naive with the compute and the steps that were spent at the fixed batch, adjusted with
C_min and S_min (Eq 5.4, 5.5).
"""

from __future__ import annotations

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import extent
from pipeline.figures.drawing import Drawing
from pipeline.figures.laws import draw_law, draw_paper_exponent, estimate, points_or_none, title_law
from pipeline.figures.series import view
from pipeline.units import PF_DAY

TITLE = "Optimal model size and number of steps."
BEYOND = 3.0
"""Fits are drawn this many times beyond the range that they were fitted on."""
PANELS = {
    "size": ("n_params", "Parameters (non-embedding)", {"N_opt_min": "adjusted", "N_opt": "fixed batch"}),
    "steps": ("steps", "Steps", {"S_opt_min": "adjusted", "S_opt": "fixed batch"}),
}
"""Panel -> column and label of y, and its laws with their names."""
SYMBOLS = {"n_params": "N", "steps": "S"}
LOOKS = {"adjusted": (style.ORANGE, "o"), "fixed batch": (style.BLUE, "s")}


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the laws N_opt, N_opt_min, S_opt and S_opt_min, and the sweeps behind them."""
    drawing = Drawing(list(PANELS), height=2.9)
    found = [
        f"{SYMBOLS[column]} {name} {estimate(inputs.laws[law], 'p', 2)}"
        for column, _, laws in PANELS.values()
        for law, name in laws.items()
    ]
    for panel, (column, label, laws) in PANELS.items():
        for law, name in laws.items():
            fit = inputs.laws[law]
            colour, marker = LOOKS[name]
            points = points_or_none(inputs, law)
            if points is None:
                title_law(drawing, panel, fit)
                drawing.axes[panel].plot([], [], linestyle="none", label=f"{name}: not identified")
                continue
            x = points.flops / PF_DAY
            drawing.points(panel, f"{name}", x, points[column], colour=colour, marker=marker, size=2.8, label=name)
            fitted = extent(x)
            span = (fitted[0] / BEYOND, fitted[1] * BEYOND)
            draw_law(drawing, panel, fit, "flops", span, fitted, colour=colour, scale=PF_DAY, series=law)
            paper = fit.parameters["p"].paper
            if panel == "size" and name == "adjusted" and paper is not None:
                table = points.assign(x=x)
                draw_paper_exponent(drawing, panel, span, -paper, table, "x", column)
        axes = drawing.axes[panel]
        style.log_axis(axes, "Compute (PF-days, non-embedding)")
        axes.set_ylabel(label)
        axes.set_yscale("log" if panel == "size" else "linear")
    view(drawing, "steps", bottom=0)
    view(drawing, "size")
    low, high = drawing.axes["size"].get_ylim()
    if low > 0 and high / low < 2:  # one size is the best everywhere
        drawing.axes["size"].set_ylim(low / 3, high * 3)
    style.log_axis(drawing.axes["size"], "Parameters (non-embedding)", axis="y")
    drawing.legend("size", "upper left")
    drawing.legend("steps", "upper left")
    drawing.describe(
        TITLE,
        "N grows as C_min^0.73 (naive, at a fixed batch, C^0.88), while S_min hardly grows, as C_min^0.03: 10 times "
        "the compute means 5 times the parameters and twice the tokens.",
        f"Exponents: {', '.join(found)}.",
        f"{inputs.where} Points are those that the laws were fitted to, where some size of ours was the best.",
    )
    return drawing
