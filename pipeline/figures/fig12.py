"""Figure 12: what a model of the wrong size costs.

Left: compute relative to that of the optimal size for the same loss, against N over the optimal N (logarithmic), B.16.
Right: steps relative to those of the optimal size, B.17. From the exponents of L(N, S) alone; the paper's in grey.
"""

from __future__ import annotations

import numpy as np

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.figures.drawing import Drawing
from pipeline.figures.laws import estimate, say_unidentified
from pipeline.laws.algebra.efficiency import excess_compute, excess_steps

TITLE = "Training models of a size that is not optimal."
RATIOS = np.geomspace(0.25, 10, 241)
"""N over the optimal N."""
ALLOWED = 1.2
"""The paper's range of sizes costs at most this times the least compute."""
TOP = 4.0
"""End of both y axes; curves end there too."""
PAPER = {"alpha_N": 0.077, "alpha_S": 0.76}
"""Table 3."""
TICKS = (0.3, 0.5, 1, 2, 5, 10)
PANELS = {"compute": (excess_compute, "B.16", "C"), "steps": (excess_steps, "B.17", "S")}


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the law L_N_S."""
    drawing = Drawing(list(PANELS), height=2.7)
    law = inputs.laws["L_N_S"]
    ours = {name: law.value(name) for name in PAPER} if law.identified else {}
    for panel, (function, equation, symbol) in PANELS.items():
        axes = drawing.axes[panel]
        for name, exponents, look in (
            ("ours", ours, {"colour": style.ORANGE}),
            ("paper", PAPER, {"colour": style.GREY, "dash": (0, (1, 1.6)), "width": style.HEAVY}),
        ):
            if not exponents:
                continue
            cost = function(RATIOS, **exponents)
            keep = cost <= TOP
            label = rf"{name}: $\alpha_N$ = {exponents['alpha_N']:.3f}, $\alpha_S$ = {exponents['alpha_S']:.2f}"
            drawing.line(panel, f"{name}, {equation}", RATIOS[keep], cost[keep], label=label, **look)
        style.log_axis(axes, r"Deviation from optimal size ($N / N_{\mathrm{efficient}}$)")
        axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axes.set_ylim(0, TOP)
        axes.set_ylabel(rf"${symbol} / {symbol}_{{\mathrm{{efficient}}}}$")
    if ours:
        low, high = _within(ours)
        drawing.band("compute", f"within {ALLOWED:g} times", [low, high], [1, 1], [ALLOWED, ALLOWED])
        drawing.text("compute", f"{low:.1f}x to {high:.1f}x the best size:\nat most 20 % more compute", "lower right")
        found = _found(low, high, ours, estimate(law, "alpha_N"), estimate(law, "alpha_S", 2))
    else:
        say_unidentified(drawing, "compute", law)
        found = "Ours is not drawn."
    drawing.legend("compute", "upper right")
    drawing.legend("steps", "upper right")
    drawing.describe(
        TITLE,
        "Models of 0.6 to 2.2 times the optimal size need at most 20 % more compute; smaller ones need more steps, "
        "larger ones fewer: 2.2 times the size needs 45 % fewer.",
        found,
        f"{inputs.where} Both curves are the formula, with our exponents and with the paper's (Table 3); it does not "
        "capture the early part of training.",
    )
    return drawing


def _within(exponents: dict[str, float]) -> tuple[float, float]:
    """Return the smallest and the largest N over the optimal N that cost at most `ALLOWED` times the least compute."""
    fine = np.geomspace(RATIOS[0], RATIOS[-1], 20_001)
    cheap = fine[excess_compute(fine, **exponents) <= ALLOWED]
    return float(cheap.min()), float(cheap.max())


def _found(low: float, high: float, exponents: dict[str, float], alpha_N: str, alpha_S: str) -> str:
    fewer = 1 - float(excess_steps(high, **exponents))
    return (
        f"With alpha_N {alpha_N} and alpha_S {alpha_S}, {low:.2f} to {high:.2f} times the optimal size costs at most "
        f"20 % more compute; {high:.1f} times the size needs {100 * fewer:.0f} % fewer steps."
    )
