"""Figure 20: loss per token against its place in the context.

Left: per-token test loss against the place T (logarithmic), one series a model size (colour), with fits a + b T^-c.
Right: the same loss of one large model against the training step (logarithmic), one series a place T (colour).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis import evaluated
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import plural, require, usable
from pipeline.figures.drawing import Drawing, law_grid
from pipeline.figures.laws import mathtext, plain
from pipeline.laws import FORMULAS

TITLE = "Loss per token against its position in the context."
MOST_SIZES = 6
"""Sizes that are drawn on the left, spread evenly over those there are: the paper's number."""


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the evaluations sizes and one_large."""
    drawing = Drawing(["position", "step"], height=2.9)
    tables = {}
    for name in ("sizes", "one_large"):
        rows, lost = usable(inputs.evaluations[name], name)
        drawing.note(lost)
        tables[name] = evaluated.on_corpus(rows, "test", name)
    left = _position(drawing, tables["sizes"])
    right = _step(drawing, tables["one_large"])
    drawing.describe(
        TITLE,
        "The loss of a token is a constant plus a power of its place T, 2.3 + 5.4 T^-0.62 for the largest model; "
        "exponents grow with N from 0.47 to 0.62. During training the first tokens are learned first, later ones go on "
        "improving.",
        f"{left} {right}",
        f"{inputs.where} The context is {int(tables['sizes'].n_ctx.max())} tokens (paper: 1,024). From the "
        "eighth token on, points are means over a third of an octave; fits use every place.",
    )
    return drawing


def _position(drawing: Drawing, table: pd.DataFrame) -> str:
    """Draw loss against T for several sizes, each with its fit."""
    table = evaluated.final_rows(table)
    table = table[(table.n_params > 0) & (table.n_ctx == table.n_ctx.max())]
    sizes = np.sort(table[table.fitted].n_params.unique())
    require(table[table.fitted], "sizes", "two model sizes", 2, "n_params")
    shown = sizes[np.unique(np.linspace(0, len(sizes) - 1, MOST_SIZES).round().astype(int))]
    norm = style.size_norm(shown)
    exponents = []
    for n_params in shown:
        rows = table[table.n_params == n_params]
        colour, size = style.RAINBOW(norm(n_params)), style.number(n_params)
        means = evaluated.by_position(rows)
        drawing.points("position", f"N = {size}", means.position, means.loss, colour=colour, size=2.4)
        fit = FORMULAS["position"].fit(rows.groupby("position", as_index=False).loss.mean(), n_boot=0)
        if fit.identified:
            grid = law_grid(1, rows.position.max(), n=60)
            formula = mathtext(fit.formula().removeprefix("L = "))
            drawing.line(
                "position",
                f"N = {size}: {plain(formula)}",
                grid,
                fit.predict(position=grid),
                colour=colour,
                label=formula,
            )
            exponents.append(f"{fit.value('c'):.2f} at {size}")
        else:
            drawing.axes["position"].plot([], [], color=colour, label=f"{size}: not identified")
            drawing.note(f"The fit at N = {size} is not identified: {fit.reason}.")
    axes = drawing.axes["position"]
    style.loss_axis(axes, "Per-token test loss", scale="linear")
    style.log_axis(axes, "Token index T in context")
    axes.set_ylim(top=axes.get_ylim()[1] + 0.25 * np.ptp(axes.get_ylim()))
    drawing.legend("position", "upper right", ncols=2, columnspacing=1.0, fontsize=6)
    drawing.colourbar(["position"], norm, "Parameters (non-embedding)")
    return f"Left: exponents {', '.join(exponents) or 'not identified'}."


def _step(drawing: Drawing, table: pd.DataFrame) -> str:
    """Draw loss against step of the largest model that has snapshots, by place."""
    n_params = table.n_params.max()
    run = table[table.n_params == n_params].run.iloc[0]
    rows = table[(table.run == run) & (table.step > 0)]
    require(rows, "one_large", "two snapshots of its largest model", 2, "step")
    shown = evaluated.positions_of(int(rows.n_ctx.max()), tuple(2**k for k in range(12)))
    norm = style.size_norm(shown)
    halfway = {}
    for position in shown:
        own = rows[rows.position == position].sort_values("step")
        drawing.line("step", f"T = {position}", own.step, own.loss, colour=style.RAINBOW(norm(position)))
        level = (own.loss.max() + own.loss.min()) / 2
        halfway[position] = int(own.step[own.loss <= level].min())
    axes = drawing.axes["step"]
    style.loss_axis(axes, "Per-token test loss", scale="linear")
    style.log_axis(axes, "Step")
    drawing.text("step", f"N = {style.number(n_params)}", "upper right")
    drawing.colourbar(["step"], norm, "Token index T")
    first, last = shown[0], shown[-1]
    return (
        f"Right: N = {style.number(n_params)} at {plural(rows.step.nunique(), 'step')}; half of the improvement "
        f"is reached by step {halfway[first]} at T = {first} and by step {halfway[last]} at T = {last}."
    )
