"""Figure 11: loss against model size at fixed compute, and at a fixed number of steps.

Left: test loss against non-embedding parameters, one series a compute C (colour, PF-days). Right: the same at a number
of steps S. x logarithmic, y linear. Lines are L(N, S_min) of Eq 5.6 with S_min of Eq 5.4 at the batch of the runs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import extent, mean_over_seeds, plural, require, usable
from pipeline.figures.drawing import Drawing, law_grid
from pipeline.figures.laws import points_of, title_law
from pipeline.figures.series import between, draw_means, shared_levels
from pipeline.laws.algebra.efficiency import Laws
from pipeline.units import PF_DAY

TITLE = "Performance at a fixed budget of compute or steps."
SERIES = 6
"""Budgets of a panel."""


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the sweep sizes and the laws L_N_S and B_crit."""
    drawing = Drawing(["compute", "steps"], height=2.9)
    sizes, lost = usable(inputs.sweeps["sizes"], "sizes")
    drawing.note(lost)
    rows = sizes[(sizes.n_params > 0) & (sizes.step > sizes.warmup_steps)].copy()
    rows["compute"] = rows.flops / PF_DAY
    rows["steps"] = rows.step
    require(rows[rows.fitted], "sizes", "two model sizes that are fitted", 2, "n_params")
    batch = float(rows.batch_tokens.mode()[0])
    if (rows.batch_tokens != batch).any():
        drawing.note(f"Runs of another batch than {style.number(batch)} tokens are left out.")
        rows = rows[rows.batch_tokens == batch]
    laws = {"compute": inputs.laws["L_N_S"], "steps": inputs.laws["B_crit"]}  # both lines need both
    for panel, law in laws.items():
        title_law(drawing, panel, law)
    known = all(law.identified for law in laws.values())
    away = {panel: _panel(drawing, panel, rows, batch, inputs, known) for panel in laws}
    labels = {"compute": "Compute (PF-days)", "steps": "Steps"}
    for panel, (norm, _) in away.items():
        style.loss_axis(drawing.axes[panel], scale="linear")
        style.log_axis(drawing.axes[panel], "Parameters (non-embedding)")
        drawing.colourbar([panel], norm, labels[panel])
    words = [f"{100 * spread:.1f} % at fixed {panel}" for panel, (_, spread) in away.items() if np.isfinite(spread)]
    drawing.describe(
        TITLE,
        "At fixed compute the loss has a minimum in N, the optimal size; at fixed steps it falls with N. Eq 5.6 "
        "follows the points, poorly at few steps, where learning curves are no power law yet.",
        f"{plural(rows.run.nunique(), 'run')} after their warmup"
        + (f"; points lie off the lines by {' and '.join(words)} (root mean square)." if words else "."),
        f"{inputs.where} Losses at a budget are read off whole runs' curves, interpolated between evaluations: their "
        "learning rate has not decayed there, as in the paper.",
    )
    return drawing


def _panel(
    drawing: Drawing, panel: str, rows: pd.DataFrame, batch: float, inputs: Inputs, known: bool
) -> tuple[object, float]:
    """Draw the series of one panel; return its colour scale and the fit's relative error."""
    budgets = shared_levels(rows[rows.fitted], panel, SERIES)
    norm = style.size_norm(budgets)
    errors = []
    for budget in budgets:
        parts = []
        for _, run in rows.groupby("run", sort=True):
            loss = float(between(run[panel], run.loss, budget))
            if np.isfinite(loss):
                parts.append(run.iloc[:1].assign(loss=loss))
        if not parts:
            continue
        means = mean_over_seeds(pd.concat(parts), "n_params", by=["n_layer", "d_model"])
        colour, name = style.RAINBOW(norm(budget)), f"{panel} {budget:.3g}"
        draw_means(drawing, panel, name, means, "n_params", colour=colour, size=2.8)
        if not known:
            continue
        fitted = extent(points_of(inputs, "L_N_S").n_params)
        grid = law_grid(*extent(means.n_params), *fitted, n=60)
        drawing.law(
            panel, f"{name}, Eq 5.6", grid, _loss(grid, budget, panel, batch, inputs), fitted, colour=colour, width=0.9
        )
        kept = means[means.fitted]
        errors += np.log(kept.loss / _loss(kept.n_params, budget, panel, batch, inputs)).tolist()
    return norm, float(np.sqrt(np.mean(np.square(errors)))) if errors else np.nan


def _loss(n_params: object, budget: float, panel: str, batch: float, inputs: Inputs) -> np.ndarray:
    """Return L(N) at a compute (PF-days) or a number of steps."""
    n_params = np.asarray(n_params, float)
    steps = budget if panel == "steps" else budget * PF_DAY / (6 * n_params * batch)
    return Laws.of(inputs.laws["L_N_S"], inputs.laws["B_crit"]).loss_at_batch(n_params, steps, batch)
