"""Figure 23: a power law in N describes the loss at convergence better than a logarithm.

Test loss at the end of training against non-embedding parameters, x logarithmic; the power law of Eq 1.1 and
L = -a ln(N / N_0), both fitted to the same points.
"""

from __future__ import annotations

from typing import Any

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import end_points, extent, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.laws import draw_law, estimate, points_of
from pipeline.figures.series import draw_end_points

TITLE = "Comparison of performance trend with power law or logarithm."
PAPER = (
    "Over five decades of N the loss follows (N / 8.8e13)^-0.076; the logarithm -0.25 ln(N / 7.1e12) bends away at "
    "both ends."
)


def draw(inputs: Inputs) -> Drawing:
    """Draw the panel; needs the sweep sizes and the laws L_N and log_N."""
    drawing = Drawing(["loss"], width=4.0, height=2.8)
    sizes, lost = usable(inputs.sweeps["sizes"], "sizes")
    drawing.note(lost)
    ends = end_points(sizes, "final")
    ends = ends[ends.n_params > 0]
    points = points_of(inputs, "L_N")
    require(points, "sizes", "three model sizes that are fitted", 3, "n_params")
    runs = draw_end_points(drawing, "loss", ends, points, "n_params", "all data")
    low, high = extent(ends.n_params)
    fitted = extent(points.n_params)
    power, logarithm = inputs.laws["L_N"], inputs.laws["log_N"]
    for law, colour in ((power, style.ORANGE), (logarithm, style.GREEN)):
        draw_law(drawing, "loss", law, "n_params", (low / 2, high * 4), fitted, colour=colour)
    axes = drawing.axes["loss"]
    style.loss_axis(axes, "Test loss (nats / token)")
    style.log_axis(axes, "Parameters (non-embedding)")
    drawing.legend("loss", "upper right")
    drawing.describe(
        TITLE,
        PAPER,
        f"{runs}. Power law: exponent {estimate(power, 'alpha_N')}{_quality(power)}. Logarithm: a = "
        f"{estimate(logarithm, 'a')}{_quality(logarithm)}.",
        f"{inputs.where} The sizes fitted span a factor of {fitted[1] / fitted[0]:.0f}, the paper's about 1e5: the "
        "shorter the span, the less the two curves differ.",
    )
    return drawing


def _quality(law: Any) -> str:
    """Return R squared and, where some sizes were held out, the error on them."""
    if not law.identified:
        return ""
    text = f", R² {law.r_squared:.4f}"
    error = law.held_out.get("rms_ln") if law.held_out else None
    return text + (f", error on the held-out sizes {error:.2%}" if error is not None else "")
