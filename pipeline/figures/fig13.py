"""Figure 13: the trend of loss with compute, naive and adjusted to C_min.

Test loss against compute (PF-days, non-embedding), both logarithmic: the lower envelope of all learning curves with the
compute that was spent, and with C_min of Eq 5.5, and a power law through each.
"""

from __future__ import annotations

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import extent, lower_envelope, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.laws import compute_min, draw_law, estimate, points_or_none, say_unidentified
from pipeline.figures.series import view
from pipeline.units import PF_DAY

TITLE = "Compute trends, empirical and adjusted."
BEYOND = 3.0
"""Fits are drawn this many times beyond the range that they were fitted on."""


def draw(inputs: Inputs) -> Drawing:
    """Draw the panel; needs the sweep sizes and the laws L_C, L_C_min and B_crit."""
    drawing = Drawing(["compute"], width=4.9, height=3.1)
    sizes, lost = usable(inputs.sweeps["sizes"], "sizes")
    drawing.note(lost)
    rows = sizes[(sizes.n_params > 0) & (sizes.step > sizes.warmup_steps)]
    require(rows, "sizes", "two model sizes", 2, "n_params")
    critical = inputs.laws["B_crit"]
    flops = {"L_C": rows.flops}
    if critical.identified:
        flops["L_C_min"] = compute_min(rows.flops, rows.batch_tokens, rows.loss, critical)
    else:
        drawing.note(f"Nothing is adjusted, since B_crit is not identified: {critical.reason}.")
    found = []
    for law, name, colour, exponent in (
        ("L_C", "fixed batch", style.BLUE, "alpha_C"),
        ("L_C_min", "adjusted to $C_{min}$", style.ORANGE, "alpha_C_min"),
    ):
        if law in flops:
            x, y = lower_envelope(flops[law] / PF_DAY, rows.loss)
            series = name.replace("$", "").replace("{", "").replace("}", "")
            drawing.line("compute", f"envelope, {series}", x, y, colour=colour, width=0.9, alpha=0.6, label=name)
            found.append(
                f"{series}: exponent {estimate(inputs.laws[law], exponent)}{_law(drawing, inputs, law, colour)}"
            )
    if "L_C_min" not in flops:
        drawing.axes["compute"].plot([], [], linestyle="none", label="B_crit not identified:\nnothing to adjust by")
    axes = drawing.axes["compute"]
    style.loss_axis(axes)
    view(drawing, "compute")
    style.log_axis(axes, "Compute (PF-days, non-embedding)")
    drawing.legend("compute", "upper right")
    drawing.describe(
        TITLE,
        "With the compute that was spent at a fixed batch the loss falls as C^-0.057, adjusted to training far below "
        "B_crit as C_min^-0.050, and more cleanly. A lump near 1e-5 PF-days is the step from one layer to two, which "
        "is not fitted.",
        "; ".join(found) + ".",
        f"{inputs.where} Thin lines are envelopes of all runs after their warmup, shapes that no fit uses included; "
        "points are what the fits use.",
    )
    return drawing


def _law(drawing: Drawing, inputs: Inputs, law: str, colour: str) -> str:
    """Draw the points of a law and its line; return how far they are apart, in words."""
    fit = inputs.laws[law]
    points = points_or_none(inputs, law)
    if points is None:
        say_unidentified(drawing, "compute", fit)
        return ""
    x = points.flops / PF_DAY
    drawing.points("compute", f"points of {law}", x, points.loss, colour=colour, size=2.8)
    fitted = extent(x)
    span = (fitted[0] / BEYOND, fitted[1] * BEYOND)
    if not draw_law(drawing, "compute", fit, "flops", span, fitted, colour=colour, scale=PF_DAY):
        return ""
    away = (points.loss / fit.predict(flops=points.flops) - 1).pow(2).mean() ** 0.5
    return f", points {100 * away:.1f} % from the line (root mean square)"
