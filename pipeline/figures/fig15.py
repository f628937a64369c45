"""Figure 15: the contradiction of L(C_min) and L(D).

Loss against compute (PF-days), both logarithmic: L(C_min), and L(D) of the tokens D(C_min) that efficient training
sees. Where the first falls below the second, one of the laws must have failed. Solid where fitted, dashed beyond; the
paper's laws in grey.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import extent
from pipeline.figures.drawing import Drawing, law_grid
from pipeline.figures.laws import formula_of, points_of, say_all_unidentified
from pipeline.laws.algebra.contradiction import Crossing, crossing
from pipeline.units import PF_DAY

TITLE = "A contradiction far beyond the sizes that were measured."
PAPER = {"C_c": 3.1e8, "alpha_C": 0.050, "k": 2e10, "p": 0.27, "D_c": 5.4e13, "alpha_D": 0.095}
"""Tables 5 and 6, compute in PF-days."""
LAWS = ("L_C_min", "D_opt_min", "L_D")
AXIS = (1e-8, 1e7)
"""PF-days of the paper's axis."""
FARTHEST = 1e15
"""A crossing this many times beyond the largest compute fitted is not drawn."""


def draw(inputs: Inputs) -> Drawing:
    """Draw the panel; needs the laws L_C_min, D_opt_min and L_D, and the sweeps that they are fitted to."""
    drawing = Drawing(["loss"], width=4.9, height=3.1)
    found, start = "Ours is not drawn.", AXIS[0]
    laws = [inputs.laws[name] for name in LAWS]
    say_all_unidentified(drawing, "loss", laws)
    if all(law.identified for law in laws):
        fitted = extent(points_of(inputs, "L_C_min").flops / PF_DAY)
        found = _ours(drawing, inputs, fitted)
        start = min(start, fitted[0])
    _paper(drawing, law_grid(start, AXIS[1], n=60))
    axes = drawing.axes["loss"]
    style.loss_axis(axes, "Loss (nats / token)")
    style.log_axis(axes, "Compute $C_{min}$ (PF-days, non-embedding)")
    drawing.legend("loss", "lower left")
    drawing.describe(
        TITLE,
        "The loss that compute buys falls below the loss that its data allow at about 1e4 PF-days, 1e12 parameters, "
        "1e12 tokens and 1.7 nats, uncertain by an order of magnitude either way.",
        found,
        f"{inputs.where} Losses of another tokenizer and text are not comparable with the paper's, only slopes are.",
    )
    return drawing


def _ours(drawing: Drawing, inputs: Inputs, fitted: tuple[float, float]) -> str:
    """Draw both lines and the point where they cross; return the caption's sentence."""
    point = crossing(*(inputs.laws[name] for name in LAWS))
    c = point.flops / PF_DAY if point else np.inf
    far = not fitted[0] / 1e3 < c < FARTHEST * fitted[1]
    ends = (fitted[0], AXIS[1]) if far else (min(c / 3, fitted[0]), max(1e3 * c, 10 * fitted[1]))
    grid = law_grid(*ends, *fitted)
    loss, tokens, data = (inputs.laws[name] for name in LAWS)
    flops = grid * PF_DAY
    drawing.law(
        "loss",
        "L(C_min)",
        grid,
        loss.predict(flops=flops),
        fitted,
        colour=style.ORANGE,
        label=formula_of(loss, PF_DAY),
    )
    seen = tokens.predict(flops=flops)
    # L(D(C)) was measured where both were: at data sets of the sizes fitted.
    low, high = extent(points_of(inputs, "L_D").n_tokens.replace(np.inf, np.nan).dropna())
    known = grid[(seen >= low) & (seen <= high) & (grid <= fitted[1])]
    look = {"colour": style.BLUE, "label": f"$L(D)$, {formula_of(tokens)}"}
    if len(known) > 1:
        drawing.law("loss", "L(D(C_min))", grid, data.predict(n_tokens=seen), (known[0], known[-1]), **look)
    else:
        drawing.line("loss", "L(D(C_min))", grid, data.predict(n_tokens=seen), dash=(0, (3.2, 1.8)), **look)
    if point is None:
        return "Our laws do not cross at any larger compute."
    if far:
        return f"Our laws would cross at {_power(c)} PF-days, too far from what was fitted to be drawn."
    drawing.points("loss", "crossing", [c], [point.loss], colour=style.INK, size=4.5, label="our laws cross")
    known_to = "" if point.low is None else f", 95 % interval {_ends(point)}"
    return (
        f"Our laws cross at {_power(c)} PF-days{known_to}, at N = {_power(point.n_params)}, D = "
        f"{_power(point.n_tokens)} tokens and {point.loss:.2f} nats per token; L(C_min) was fitted up to "
        f"{_power(fitted[1])} PF-days."
    )


def _paper(drawing: Drawing, grid: np.ndarray) -> None:
    """Draw the paper's two lines."""
    p = PAPER
    lines = {
        "L(C_min)": ((p["C_c"] / grid) ** p["alpha_C"], (0, (1, 1.6)), "paper, $L(C_{min})$"),
        "L(D(C_min))": (
            (p["D_c"] / (p["k"] * grid ** p["p"])) ** p["alpha_D"],
            (0, (4, 1.6)),
            "paper, $L(D(C_{min}))$",
        ),
    }
    for name, (loss, dash, label) in lines.items():
        drawing.line("loss", f"paper, {name}", grid, loss, colour=style.GREY, dash=dash, label=label)


def _power(value: float) -> str:
    """Write a number with one digit and its power of ten.

    Examples
    --------
    >>> _power(11300), _power(0.0002)
    ('1e4', '2e-4')
    """
    power = math.floor(math.log10(value))
    lead = round(value / 10**power)
    return f"1e{power + 1}" if lead == 10 else f"{lead}e{power}"


def _ends(point: Crossing) -> str:
    low = _power(point.low / PF_DAY)
    return f"{low} to {_power(point.high / PF_DAY)}" if point.high else f"{low} to no crossing"
