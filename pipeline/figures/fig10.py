"""Figure 10: the critical batch size against the loss.

B_crit in tokens against the loss, both logarithmic, the loss falling to the right: B_crit of batch scans at two sizes
(Eq 5.1 at each loss), the gradient noise scale measured during training, and the law B_* / L^(1 / alpha_B).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import extent, plural, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.laws import draw_law, draw_paper_exponent, estimate, points_of, say_unidentified
from pipeline.figures.series import view
from pipeline.laws.formulas.critical_batch import fit_levels, loss_levels, scan_points

TITLE = "Critical batch size against performance."


def draw(inputs: Inputs) -> Drawing:
    """Draw the panel; needs the sweeps batches and sizes, and the law B_crit."""
    drawing = Drawing(["batch"], width=6.0, height=3.3)
    tables = {}
    for name in ("batches", "sizes"):
        tables[name], lost = usable(inputs.sweeps[name], name)
        drawing.note(lost)
    scans = fit_levels(scan_points(tables["batches"], loss_levels(tables["batches"])))
    require(tables["batches"], "batches", "a scan at two model sizes", 2, "n_params")
    noise = _noise_scale(drawing, tables)
    known = _scans(drawing, scans)
    law = inputs.laws["B_crit"]
    shown = np.r_[known.loss, noise.loss]
    if law.identified:
        fitted = extent(points_of(inputs, "B_crit").loss)
        draw_law(drawing, "batch", law, "loss", extent(shown), fitted)
        exponent = 1 / law.parameters["alpha_B"].paper
        draw_paper_exponent(drawing, "batch", fitted, exponent, known, "loss", "b_crit")
    else:
        say_unidentified(drawing, "batch", law)
    axes = drawing.axes["batch"]
    style.loss_axis(axes, "Test loss (nats / token)", axis="x")
    axes.invert_xaxis()
    style.log_axis(axes, "Critical batch size (tokens)", axis="y")
    view(drawing, "batch")
    style.log_axis(axes, axes.get_ylabel(), axis="y")
    drawing.legend("batch", "right")
    drawing.describe(
        TITLE,
        "B_crit depends on the loss alone: scans at 3M and 85M parameters lie on 2.1e8 L^-4.8 tokens, which doubles "
        "for every 13 % of loss. The gradient noise scale agrees roughly.",
        _found(known, noise, inputs),
        f"{inputs.where} The loss is the test loss (paper: train loss). Noise scales are single measurements.",
    )
    return drawing


def _scans(drawing: Drawing, scans: pd.DataFrame) -> pd.DataFrame:
    """Draw B_crit of each scan with its interval; return the levels that are identified."""
    known = scans[scans.identified.astype(bool)]
    open_ = len(scans) - len(known)
    if open_:
        reasons = "; ".join(sorted(set(scans[~scans.identified.astype(bool)].reason)))
        drawing.note(f"At {plural(open_, 'level')} of loss a scan gives no B_crit: {reasons}.")
    for index, (n_params, rows) in enumerate(known.groupby("n_params")):
        name = f"empirical $B_{{crit}}$, N = {style.number(n_params)}"
        drawing.points(
            "batch",
            name.replace("$", "").replace("{", "").replace("}", ""),
            rows.loss,
            rows.b_crit,
            rows.low,
            rows.high,
            rows.n,
            colour=style.SERIES[index * 2],
            marker=style.MARKERS[index],
            size=max(2.8, 5.0 - 1.6 * index),  # where two sizes agree both are seen
            label=name,
        )
    return known


def _noise_scale(drawing: Drawing, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Draw the noise scale of every evaluation after the warmup that measured one."""
    rows = pd.concat(tables.values()).drop_duplicates(["run", "step"])
    rows = rows[rows.noise_scale.notna() & (rows.step > rows.warmup_steps)]
    require(rows, "batches", "a run with its noise scale measured")
    above = rows[rows.noise_scale > 0]
    if len(above) < len(rows):
        drawing.note(f"{len(rows) - len(above)} of {len(rows)} noise scales are not positive, and not drawn.")
    drawing.points(
        "batch",
        "noise scale",
        above.loss,
        above.noise_scale,
        colour=style.PALE,
        size=1.6,
        label="noise scale measurement",
    )
    return above


def _found(known: pd.DataFrame, noise: pd.DataFrame, inputs: Inputs) -> str:
    """Say the exponent, and how far each size's scan, and the noise scale, lie from the law."""
    law = inputs.laws["B_crit"]
    if known.empty:
        return "No level of loss of a scan gives a B_crit."
    words = [f"{plural(len(known), 'level')} of loss", f"alpha_B {estimate(law, 'alpha_B')}"]
    if law.identified:
        words.append(f"B_crit doubles for every {100 * (1 - 0.5 ** law.value('alpha_B')):.0f} % of loss")
        for n_params, rows in known.groupby("n_params"):
            away = np.exp(np.log(rows.b_crit / law.predict(loss=rows.loss)).mean())
            words.append(f"the scan at N = {style.number(n_params)} is {away:.2g} times the law (geometric mean)")
        away = np.exp(np.log(noise.noise_scale / law.predict(loss=noise.loss)).median())
        words.append(f"the noise scale is {away:.2g} times the law (median)")
    return "; ".join(words) + "."
