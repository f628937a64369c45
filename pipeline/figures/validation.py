"""Validation: the fitted constant of a generated language against its entropy rate, which is known in closed form.

Not a figure of the paper. Test loss at the end of training, over positions with enough context, against the tokens
trained on, one series a model size, no token seen twice; L = E + A / N^alpha + B / D^beta fitted to all of them; E
beside the entropy rate. x logarithmic.
"""

from __future__ import annotations

import numpy as np

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.points import LEAST_CONTEXT
from pipeline.analysis.rows import extent, require, usable
from pipeline.errors import UserError
from pipeline.figures.drawing import Drawing
from pipeline.figures.laws import points_of, say_unidentified

TITLE = "A generated language of known entropy through the whole chain."


def draw(inputs: Inputs) -> Drawing:
    """Draw the panel; needs the sweep validation, the law chinchilla and its points."""
    drawing = Drawing(["loss"], width=4.6, height=3.0)
    _, lost = usable(inputs.sweeps["validation"], "validation")
    drawing.note(lost)
    ends = points_of(inputs, "chinchilla")
    require(ends, "validation", "three model sizes", 3, "n_params")
    truth = float(ends.entropy_rate.iloc[0])
    if not np.isfinite(truth):
        raise UserError("validation: the text has no known entropy rate; use a source of kind synthetic")
    fit = inputs.laws["chinchilla"]
    sizes = sorted(ends.n_params.unique())
    span = extent(ends.n_tokens)
    grid = np.geomspace(*span, 60)
    for index, n_params in enumerate(sizes):
        colour = style.series_colour(index, len(sizes))
        rows = ends[ends.n_params == n_params].sort_values("n_tokens")
        name = f"N = {style.number(n_params)}"
        drawing.points("loss", name, rows.n_tokens, rows.loss, colour=colour, label=name)
        if fit.identified:
            curve = fit.predict(n_params=n_params, n_tokens=grid)
            drawing.law("loss", f"fit, {name}", grid, curve, span, colour=colour)
    drawing.line("loss", "entropy rate", np.array(span), np.full(2, truth), colour="black", label="entropy rate, exact")
    if fit.identified:
        e = fit.parameters["E"]
        drawing.band(
            "loss",
            "E, 95 % interval",
            np.array(span),
            np.full(2, e.low),
            np.full(2, e.high),
            colour=style.ORANGE,
            label=f"fitted E = {e.estimate:.3f}",
        )
        covered = "covers" if e.low <= truth <= e.high else "does not cover"
        ours = (
            f"{ends.run.nunique()} runs. The fitted constant is E = {e.estimate:.4f} ({e.low:.4f} to {e.high:.4f}) "
            f"nats per token; its 95 % interval {covered} the entropy rate, {truth:.4f}. The lowest test loss is "
            f"{ends.loss.min():.4f}."
        )
    else:
        say_unidentified(drawing, "loss", fit)
        ours = f"{ends.run.nunique()} runs. E is not identified: {fit.reason}. The entropy rate is {truth:.4f}."
    axes = drawing.axes["loss"]
    style.loss_axis(axes, "Test loss (nats / token)", scale="linear")
    style.log_axis(axes, "Tokens trained on")
    drawing.legend("loss", "upper right")
    drawing.describe(
        TITLE,
        "Not in the paper, whose text has no known entropy.",
        ours,
        f"{inputs.where} Losses are those after the first {LEAST_CONTEXT} tokens of a window. The form is that of "
        "Hoffmann et al. 2022, since the paper's own has no constant term.",
    )
    return drawing
