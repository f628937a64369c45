"""Figure 1: summary of the three power laws.

Three panels. Left: test loss against compute (PF-days, non-embedding), every learning curve in pale blue, their lower
envelope in black, the power law in orange. Middle: test loss against data set size (tokens), a large model, early
stopping. Right: test loss against non-embedding parameters, all data. x logarithmic, y logarithmic with plain ticks.

The left panel is naive, with the compute that was spent at the fixed batch size, until the laws B_crit and L_C_min are
given; then it is adjusted to C_min (Eq 5.5), as in the paper.
"""

from __future__ import annotations

import pandas as pd

from pipeline.figures import select, style
from pipeline.figures.drawing import Drawing
from pipeline.figures.fits import compute_min, draw_law, draw_paper_exponent, estimate
from pipeline.figures.inputs import Inputs

TITLE = "Summary of simple power laws."


def draw(inputs: Inputs) -> Drawing:
    """Draw the three panels; needs the sweeps sizes and data, and the laws L_N, L_D and L_C (or L_C_min, B_crit)."""
    drawing = Drawing(["compute", "data", "size"], height=2.4)
    sizes, lost = select.usable(inputs.sweeps["sizes"], "sizes")
    data, lost_data = select.usable(inputs.sweeps["data"], "data")
    drawing.notes += [note for note in (lost, lost_data) if note]

    ours = [_compute(drawing, sizes, inputs), _data(drawing, data, inputs), _size(drawing, sizes, inputs)]
    adjusted = "L_C_min" in inputs.laws
    drawing.describe(
        TITLE,
        "Test loss is a power law in each of compute (adjusted to C_min, exponent 0.050), data set size (0.095) and "
        "model size (0.076), over more than six, two and six decades.",
        " ".join(ours),
        f"Preset {inputs.preset or 'unnamed'}{', ' + inputs.text if inputs.text else ''}. Bars are 95 % t-intervals of "
        "the mean over seeds. "
        + ("" if adjusted else "The left panel is naive: the compute spent at the fixed batch size, not C_min. ")
        + "Dotted grey: the paper's exponent laid through our points; its scale depends on tokenizer and text.",
    )
    return drawing


def _compute(drawing: Drawing, sizes: pd.DataFrame, inputs: Inputs) -> str:
    """Learning curves against compute, their envelope and L(C)."""
    adjusted = "L_C_min" in inputs.laws
    law = inputs.laws["L_C_min" if adjusted else "L_C"]
    rows = sizes[(sizes.n_tokens > 0) & (sizes.n_params > 0)].copy()
    rows["x"] = rows.flops / select.PF_DAY
    if adjusted:
        rows["x"] = compute_min(rows.flops, rows.batch_tokens, rows.loss, inputs.laws["B_crit"]) / select.PF_DAY
    for run, curve in rows.groupby("run", sort=True):
        drawing.curve("compute", f"run {run}", curve.x, curve.loss)
    used = rows[rows.fitted]
    x, y = select.envelope(used.x, used.loss)
    drawing.line("compute", "lower envelope", x, y, colour=style.INK, width=style.HEAVY, label="lower envelope")

    axes = drawing.axes["compute"]
    warm = rows.step > rows.warmup_steps
    span = select.span(rows[warm].x)
    fitted = select.fitted_range(law, (x[len(x) // 3], x[-1]), 1 / select.PF_DAY)
    draw_law(drawing, "compute", law, "flops", span, fitted, scale=select.PF_DAY)
    style.loss_axis(axes)
    style.log_axis(
        axes, "Compute $C_{min}$ (PF-days, non-embedding)" if adjusted else "Compute (PF-days, non-embedding)"
    )
    drawing.text("compute", "adjusted to $C_{min}$" if adjusted else "naive: fixed batch size", "upper right")
    name = "alpha_C_min" if adjusted else "alpha_C"
    runs = select.plural(rows.run.nunique(), "learning curve")
    return f"Left: {runs}; exponent {estimate(law, name)}."


def _data(drawing: Drawing, data: pd.DataFrame, inputs: Inputs) -> str:
    """Early-stopped loss of the largest model of the data sweep against D."""
    law = inputs.laws["L_D"]
    ends = select.end_points(data)
    ends = ends[ends.n_params == ends[ends.fitted].n_params.max()]
    select.require(ends, "data", "two data set sizes for its largest model", 2, "n_unique_tokens")
    means = select.mean_over_seeds(ends, "n_unique_tokens")
    model = f"N = {style.number(ends.n_params.iloc[0])}"
    _points(drawing, "data", means, "n_unique_tokens", f"early stopping, {model}")
    span = select.span(means.n_unique_tokens)
    fitted = select.fitted_range(law, select.span(means[means.fitted].n_unique_tokens))
    draw_law(drawing, "data", law, "n_tokens", span, fitted)
    draw_paper_exponent(drawing, "data", span, law.parameters["alpha_D"].paper, means, "n_unique_tokens", "loss")
    axes = drawing.axes["data"]
    style.loss_axis(axes, "")
    style.log_axis(axes, "Dataset size (tokens)")
    drawing.legend("data")
    return (
        f"Middle: {select.plural(int(means.n.sum()), 'run')} of {model} on {len(means)} data set sizes; exponent "
        f"{estimate(law, 'alpha_D')}."
    )


def _size(drawing: Drawing, sizes: pd.DataFrame, inputs: Inputs) -> str:
    """Loss at the end of each run on all data against N."""
    law = inputs.laws["L_N"]
    ends = select.end_points(sizes)
    ends = ends[ends.n_params > 0]
    means = select.mean_over_seeds(ends, "n_params", by=["n_layer", "d_model"])
    select.require(means[means.fitted], "sizes", "two model sizes that are fitted", 2, "n_params")
    _points(drawing, "size", means, "n_params", "all data")
    span = select.span(means.n_params)
    kept = means[means.fitted]
    draw_law(drawing, "size", law, "n_params", span, select.fitted_range(law, select.span(kept.n_params)))
    draw_paper_exponent(drawing, "size", span, law.parameters["alpha_N"].paper, kept, "n_params", "loss")
    axes = drawing.axes["size"]
    style.loss_axis(axes, "")
    style.log_axis(axes, "Parameters (non-embedding)")
    drawing.legend("size")
    shown = len(means) - len(kept)
    hollow = f", {shown} more shown hollow and not fitted" if shown else ""
    return (
        f"Right: {select.plural(int(means.n.sum()), 'run')} of {len(kept)} fitted sizes{hollow}; exponent "
        f"{estimate(law, 'alpha_N')}."
    )


def _points(drawing: Drawing, panel: str, means: pd.DataFrame, x: str, label: str) -> None:
    for fitted, rows in means.groupby("fitted"):
        drawing.points(
            panel,
            label if fitted else f"{label}, not fitted",
            rows[x],
            rows.loss,
            rows.low,
            rows.high,
            rows.n,
            hollow=not fitted,
            label=label if fitted else "not fitted",
        )
