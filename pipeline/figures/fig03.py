"""Figure 3: how to spend a billion-fold increase of compute.

Multiplicative contributions of serial steps, batch size and model size to a growth of compute, stacked, both axes
logarithmic: the exponents of S(C_min) and N(C_min), and what C_min = 6 N B S leaves for the batch. The edges of the
areas are solid over the computes that the laws were fitted on and dashed beyond; dotted grey, the paper's.
"""

from __future__ import annotations

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import extent
from pipeline.figures.drawing import Drawing, law_grid
from pipeline.figures.laws import estimate, points_or_none, say_all_unidentified
from pipeline.units import PF_DAY

TITLE = "How to spend an increase of compute."
AXIS = (1e-8, 1e1)
"""PF-days of the paper's axis."""
FOLD = 1e9
"""The paper's billion-fold increase."""
PAPER = (("serial steps", 0.03), ("batch size", 0.24), ("model size", 0.73))
"""Contribution -> exponent in C_min, from the bottom of the stack."""


def draw(inputs: Inputs) -> Drawing:
    """Draw the panel; needs the laws N_opt_min, S_opt_min, B_crit and L_C_min, and the sweeps behind them."""
    drawing = Drawing(["growth"], width=4.4, height=3.2)
    size, steps = inputs.laws["N_opt_min"], inputs.laws["S_opt_min"]
    known = [law for law in (size, steps) if law.identified]
    points = points_or_none(inputs, "N_opt_min")
    fitted = AXIS if points is None else extent(points.flops / PF_DAY)
    grid = law_grid(fitted[0], fitted[0] * FOLD, fitted[1], n=60)
    growth = grid / fitted[0]
    ours, range_ = "Ours is not drawn.", ""
    if len(known) == 2:
        ours = _areas(drawing, grid, growth, fitted, steps.value("p"), size.value("p"), inputs)
        range_ = (
            " The axis begins at the smallest compute that the laws were fitted on; most of it is extrapolation from a "
            f"{fitted[1] / fitted[0]:.0f}-fold range."
        )
    else:
        say_all_unidentified(drawing, "growth", (size, steps))
    edge = 0.0
    for k, (name, exponent) in enumerate(PAPER):
        edge += exponent
        drawing.line(
            "growth",
            f"paper, top of {name}",
            grid,
            growth**edge,
            colour=style.GREY,
            dash=(0, (1, 1.6)),
            label=None if k else "paper's exponents",
        )
    axes = drawing.axes["growth"]
    axes.set_xlim(grid[0], grid[-1])
    style.log_axis(axes, "Compute $C_{min}$ (PF-days)")
    style.log_axis(axes, "Multiplicative contribution", axis="y")
    drawing.legend("growth", "upper left", reverse=True)
    drawing.describe(
        TITLE,
        "For a billion times the compute, models should be more than 1,000,000 times larger, batches 100 times, and "
        "the serial steps less than 10 times more.",
        ours,
        f"{inputs.where}{range_} The batch takes what N and S leave of C_min = 6 N B S.",
    )
    return drawing


def _areas(
    drawing: Drawing,
    grid: object,
    growth: object,
    fitted: tuple[float, float],
    p_steps: float,
    p_size: float,
    inputs: Inputs,
) -> str:
    """Draw our three areas with their upper edges; return the caption's sentence."""
    shares = {"serial steps": p_steps, "batch size": 1 - p_steps - p_size, "model size": p_size}
    edge, words = 0.0, []
    for (name, exponent), colour in zip(shares.items(), (style.GREEN, style.ORANGE, style.BLUE), strict=True):
        times = _times(FOLD**exponent)
        label = f"{name} $C^{{{exponent:.2f}}}$: {times}"
        drawing.band("growth", name, grid, growth**edge, growth ** (edge + exponent), colour=colour, label=label)
        edge += exponent
        drawing.law("growth", f"top of {name}", grid, growth**edge, fitted, colour=colour)
        words.append(f"{name} {times} (exponent {exponent:.2f})")
    found = (
        f"For a billion times the compute: {', '.join(reversed(words))}; N {estimate(inputs.laws['N_opt_min'], 'p', 2)}"
    )
    batch, loss = inputs.laws.get("B_crit"), inputs.laws.get("L_C_min")
    if batch and loss and batch.identified and loss.identified:
        found += (
            f"; for the batch alpha_C / alpha_B alone gives {loss.value('alpha_C_min') / batch.value('alpha_B'):.2f}"
        )
    return found + "."


def _times(factor: float) -> str:
    """Write a factor: 2.4M times, 1.9 times, down 1.3 times.

    Examples
    --------
    >>> _times(3.7e6), _times(1.86), _times(0.5)
    ('3.7M times', '1.9 times', 'down 2.0 times')
    """
    if factor < 1:
        return f"down {_times(1 / factor)}"
    return f"{style.number(factor) if factor >= 100 else f'{factor:#.2g}'.rstrip('.')} times"
