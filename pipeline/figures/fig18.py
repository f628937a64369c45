"""Figure 18: batch-size scans.

Tokens processed against steps to reach a loss, both logarithmic, one panel a model size: a point for each batch size,
colour by loss, and the hyperbola of Eq 5.1 through each loss level. Tokens = batch x steps, so that one batch is a
straight line upwards, few steps with large batches are upper left, few tokens with small ones lower right.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import extent, plural, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.series import shared_levels
from pipeline.laws.formulas.critical_batch import LEVELS, fit_levels, loss_levels, scan_points

TITLE = "Batch-size scans."


def draw(inputs: Inputs) -> Drawing:
    """Draw a panel for each model size of the sweep batches."""
    batches, lost = usable(inputs.sweeps["batches"], "batches")
    require(batches, "batches", "a scan at two model sizes", 2, "n_params")
    require(batches, "batches", "three batch sizes", 3, "batch_tokens")
    levels = loss_levels(batches)
    if not len(levels):  # too few batch sizes for a fit: show what they reach
        after = batches[batches.step > batches.warmup_steps]
        levels = shared_levels(after, "loss", LEVELS, by="run")
    points = scan_points(batches, levels)
    require(points, "batches", "a loss that several batch sizes reach after their warmup")
    fits = fit_levels(points)
    sizes = sorted(points.n_params.unique())
    panels = [f"N = {style.number(n_params)}" for n_params in sizes]
    drawing = Drawing(panels, height=3.0)
    drawing.note(lost)
    norm = style.size_norm(points.loss)
    for panel, n_params in zip(panels, sizes, strict=True):
        _panel(drawing, panel, points[points.n_params == n_params], fits[fits.n_params == n_params], norm)
    drawing.axes[panels[0]].plot([], [], color=style.INK, lw=0.9, label="$(S / S_{min} - 1)(E / E_{min} - 1) = 1$")
    drawing.legend(panels[0], "upper right")
    drawing.colourbar(panels, norm, "Test loss")
    known = fits[fits.identified.astype(bool)]
    drawing.describe(
        TITLE,
        "At 3M and 85M parameters the steps and tokens to reach a loss lie on (S/S_min - 1)(E/E_min - 1) = 1, one "
        "hyperbola for each loss; the corner moves to larger batches as the loss falls.",
        f"{plural(batches.run.nunique(), 'run')}, batches of {style.number(batches.batch_tokens.min())} to "
        f"{style.number(batches.batch_tokens.max())} tokens; {len(known)} of {len(fits)} loss levels identify a "
        f"hyperbola{_away(points, known)}.",
        f"{inputs.where} {_rates(batches)} The paper does not say how it chose them. Curves are solid over the steps "
        "that were measured.",
    )
    return drawing


def _panel(drawing: Drawing, panel: str, points: pd.DataFrame, fits: pd.DataFrame, norm: object) -> None:
    """Draw the points of each loss level and its hyperbola, if there is one."""
    for fit in fits.sort_values("loss", ascending=False).itertuples():
        rows = points[points.loss == fit.loss].sort_values("steps")
        colour, name = style.RAINBOW(norm(fit.loss)), f"L = {fit.loss:.3g}"
        drawing.points(panel, name, rows.steps, rows.tokens, colour=colour, size=3)
        if fit.identified:
            low, high = extent(rows.steps)
            ends = max(low / 1.4, 1.02 * fit.s_min), 1.6 * high
            steps = np.unique(np.r_[fit.s_min + np.geomspace(ends[0] - fit.s_min, ends[1] - fit.s_min, 80), low, high])
            steps = steps[steps > fit.s_min]
            tokens = fit.e_min * (1 + 1 / (steps / fit.s_min - 1))
            drawing.law(panel, f"{name}, Eq 5.1", steps, tokens, (low, high), colour=colour, width=0.9)
    unknown = fits[~fits.identified.astype(bool)]
    if len(unknown):
        reasons = "; ".join(sorted(set(unknown.reason)))
        drawing.note(f"{panel}: not identified at {plural(len(unknown), 'level')}: {reasons}.")
    axes = drawing.axes[panel]
    style.log_axis(axes, "Step")
    style.log_axis(axes, "Tokens processed", axis="y")
    left = f"; {len(unknown)} of {len(fits)} levels not identified" if len(unknown) else ""
    axes.set_title(f"{panel}{left}", fontsize=7)


def _away(points: pd.DataFrame, known: pd.DataFrame) -> str:
    """Say how far the points lie from their hyperbola, in steps at the same batch."""
    rows = points.merge(known[["n_params", "loss", "s_min", "e_min"]], on=["n_params", "loss"])
    if rows.empty:
        return ""
    predicted = rows.s_min + rows.e_min / rows.batch_tokens  # Eq 5.1 solved for S at a batch
    spread = np.sqrt(np.mean(np.log(rows.steps / predicted) ** 2))
    return f", with steps {100 * spread:.0f} % from it (root mean square)"


def _rates(batches: pd.DataFrame) -> str:
    """Say how the learning rate goes with the batch."""
    largest = batches[batches.n_params == batches.n_params.max()].groupby("batch_tokens").lr_peak.mean().sort_index()
    if largest.nunique() == 1:
        return "The learning rate is the same for all batches of a size."
    times = largest.iloc[-1] / largest.iloc[0]
    return f"From the smallest to the largest batch the learning rate grows {times:.2g} times."
