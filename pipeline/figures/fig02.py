"""Figure 2: learning curves of models of all sizes, against tokens and against compute.

Two panels of the same curves. Left: test loss against tokens processed. Right: test loss against compute (PF-days,
non-embedding). x and y logarithmic. Colour is N, with a colour bar. The paper has N from 1e3 to 1e9, and no fit.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import extent, plural, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.units import PF_DAY

TITLE = "Illustration of sample efficiency and compute efficiency."
PAPER = (
    "Larger models reach a given loss with fewer tokens; the best size for a compute budget grows with the budget, and "
    "compute-efficient training stops far short of convergence. N from 1e3 to 1e9."
)


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the sweep sizes."""
    drawing = Drawing(["tokens", "compute"], height=2.7)
    sizes, lost = usable(inputs.sweeps["sizes"], "sizes")
    drawing.note(lost)
    rows = sizes[(sizes.n_tokens > 0) & (sizes.n_params > 0)]
    require(rows, "sizes", "learning curves of two model sizes", 2, "n_params")
    norm = style.size_norm(rows.n_params)
    for run, curve in rows.groupby("run", sort=False):
        colour = style.RAINBOW(norm(curve.n_params.iloc[0]))
        drawing.curve("tokens", run, curve.n_tokens, curve.loss, colour=colour)
        drawing.curve("compute", run, curve.flops / PF_DAY, curve.loss, colour=colour)
    for panel, label in (("tokens", "Tokens processed"), ("compute", "Compute (PF-days, non-embedding)")):
        style.loss_axis(drawing.axes[panel], "Test loss (nats / token)" if panel == "tokens" else "")
        style.log_axis(drawing.axes[panel], label)
    drawing.colourbar(["tokens", "compute"], norm, "Parameters (non-embedding)")
    low, high = (style.number(value) for value in extent(rows.n_params))
    drawing.describe(
        TITLE,
        PAPER,
        f"{plural(rows.run.nunique(), 'learning curve')} from N = {low} to {high}. {_efficiency(rows)}",
        f"{inputs.where} Every run decays its learning rate over its own length, so that only the end of a curve is "
        "at its best for the tokens spent.",
    )
    return drawing


def _efficiency(rows: pd.DataFrame) -> str:
    """Compare the tokens that the smallest and the largest model need to a loss that both reach."""
    runs = rows.groupby("n_params")
    smallest, largest = (runs.get_group(value) for value in extent(rows.n_params))
    target = max(smallest.loss.min(), largest.loss.min())
    small, large = (_tokens_to(curve, target) for curve in (smallest, largest))
    return (
        f"To a loss of {target:.2f}, the largest model needs {style.number(large)} tokens and the smallest "
        f"{style.number(small)}: a factor of {small / large:.1f}."
    )


def _tokens_to(curves: pd.DataFrame, target: float) -> float:
    """Return the fewest tokens to a loss, interpolated between evaluations."""
    best = np.inf
    for _, curve in curves.groupby("run"):
        tokens, loss = curve.n_tokens.to_numpy(float), curve.loss.to_numpy()
        below = np.flatnonzero(loss <= target)
        if not len(below):
            continue
        at = below[0]
        if at == 0:
            best = min(best, tokens[0])
            continue
        part = (loss[at - 1] - target) / (loss[at - 1] - loss[at])
        best = min(best, float(np.exp(np.interp(part, [0, 1], np.log(tokens[at - 1 : at + 1])))))
    return best
