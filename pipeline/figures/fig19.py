"""Figure 19: larger models reach a loss in fewer steps and with fewer tokens.

Against non-embedding parameters, all logarithmic, colour by loss: the minimal steps S_min (Eq 5.4) on the left, the
minimal tokens E_min on the right, of every run of the sizes sweep that reaches the loss.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import SHAPE, mean_over_seeds, plural, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.laws import title_law
from pipeline.figures.series import draw_means, shared_levels
from pipeline.laws.algebra.efficiency import minimum_steps
from pipeline.laws.formulas.critical_batch import scan_points

TITLE = "Sample efficiency of larger models, again."
LEVELS = 8
"""Loss levels, log-spaced between the two that at least two sizes just reach."""


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the sweep sizes and the law B_crit (without it: steps and tokens as they were spent)."""
    drawing = Drawing(["steps", "tokens"], height=2.9)
    sizes, lost = usable(inputs.sweeps["sizes"], "sizes")
    drawing.note(lost)
    sizes = sizes[(sizes.n_params > 0) & (sizes.step > sizes.warmup_steps)]
    require(sizes[sizes.fitted], "sizes", "two model sizes that are fitted", 2, "n_params")
    points = scan_points(sizes, shared_levels(sizes[sizes.fitted], "loss", LEVELS)).merge(
        sizes[["run", "fitted", *SHAPE]].drop_duplicates("run"), on="run", suffixes=("", "_of_run")
    )
    require(points, "sizes", "a loss that several sizes reach after their warmup")
    law = inputs.laws["B_crit"]
    if law.identified:
        critical = law.predict(loss=points.loss)
        points["steps"] = minimum_steps(points.steps, points.batch_tokens, critical)
        points["tokens"] = points.steps * critical  # E_min = B_crit S_min, Eq 5.2
    norm = style.size_norm(points.loss)
    labels = ("Minimum steps $S_{min}$", "Minimum tokens $E_{min}$") if law.identified else ("Steps", "Tokens")
    for panel, label in zip(("steps", "tokens"), labels, strict=True):
        for loss, rows in points.groupby("loss", sort=True):
            means = mean_over_seeds(rows, "n_params", panel, by=["n_layer", "d_model"])
            means = means.assign(low=np.nan, high=np.nan)  # a spread of steps is not one of losses
            draw_means(
                drawing,
                panel,
                f"L = {loss:.3g}",
                means.sort_values("n_params"),
                "n_params",
                panel,
                colour=style.RAINBOW(norm(loss)),
                dash="-",
                size=2.8,
            )
        axes = drawing.axes[panel]
        style.log_axis(axes, "Parameters (non-embedding)")
        style.log_axis(axes, label, axis="y")
    title_law(drawing, "steps", law)
    drawing.colourbar(["steps", "tokens"], norm, "Test loss")
    drawing.describe(
        TITLE,
        "The steps, and the tokens, that a loss needs fall steeply with N: from the smallest model that can reach it "
        "to a very large one the tokens fall nearly 100 times.",
        _found(points),
        f"{inputs.where} Hollow: shapes left out of fits. "
        + ("" if law.identified else "Steps and tokens are those spent at the fixed batch, not the minimal ones."),
    )
    return drawing


def _found(points: pd.DataFrame) -> str:
    """Say the largest saving, from the smallest model that reaches a loss to the one that needs least."""
    best = ("", 0.0)
    for loss, rows in points.groupby("loss"):
        means = rows.groupby("n_params")[["tokens"]].mean().sort_index()
        saving = means.tokens.iloc[0] / means.tokens.min()
        if saving > best[1]:
            sizes = [style.number(n) for n in (means.index[0], means.tokens.idxmin())]
            words = f"from N = {sizes[0]} to N = {sizes[1]} the tokens, and the steps, to L = {loss:.3g}"
            best = (f"{words} fall {saving:.1f} times", saving)
    return f"{plural(points.loss.nunique(), 'loss level')}; at most, {best[0]}."
