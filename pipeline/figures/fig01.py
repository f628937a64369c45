"""Figure 1: summary of the three power laws.

Three panels. Left: test loss against compute (PF-days, non-embedding), every learning curve in pale blue, their lower
envelope in black, the power law in orange. Middle: test loss against data set size (tokens), a large model, early
stopping. Right: test loss against non-embedding parameters, all data. x logarithmic, y logarithmic with plain ticks.

The left panel is naive, with the compute that was spent at the fixed batch size, until the laws B_crit and L_C_min are
given; then it is adjusted to C_min (Eq 5.5), as in the paper.
"""

from __future__ import annotations

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import end_points, extent, lower_envelope, plural, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.laws import (
    compute_min,
    draw_law,
    draw_paper_exponent,
    estimate,
    points_of,
    say_unidentified,
)
from pipeline.figures.series import draw_end_points
from pipeline.units import PF_DAY

TITLE = "Summary of simple power laws."
PAPER = (
    "Test loss is a power law in each of compute (adjusted to C_min, exponent 0.050), data set size (0.095) and model "
    "size (0.076), over eight, more than two and six decades."
)


def draw(inputs: Inputs) -> Drawing:
    """Draw the three panels; needs the sweeps sizes and data, and the laws L_N, L_D and L_C (or L_C_min, B_crit)."""
    drawing = Drawing(["compute", "data", "size"], height=2.5)
    critical = inputs.laws.get("B_crit")
    adjusted = "L_C_min" in inputs.laws and critical is not None and critical.identified
    ours = [_compute(drawing, inputs, adjusted), _data(drawing, inputs), _size(drawing, inputs)]
    differs = [
        inputs.where,
        "Each loss is measured on one fixed test set; bars are 95 % t-intervals of the mean over seeds.",
        "Dotted grey is the paper's exponent laid through our points, since its scale depends on tokenizer and text.",
    ]
    if not adjusted:
        differs.append("The left panel is naive: compute spent at the fixed batch size, not C_min.")
    if critical is not None and not critical.identified:
        differs.append(f"C_min is not known: B_crit is not identified: {critical.reason}.")
    drawing.describe(TITLE, PAPER, " ".join(ours), " ".join(differs))
    return drawing


def _compute(drawing: Drawing, inputs: Inputs, adjusted: bool) -> str:
    """Learning curves against compute, their envelope and L(C)."""
    sizes, lost = usable(inputs.sweeps["sizes"], "sizes")
    drawing.note(lost)
    law = inputs.laws["L_C_min" if adjusted else "L_C"]
    rows = sizes[(sizes.n_tokens > 0) & (sizes.n_params > 0)].copy()
    rows["x"] = rows.flops / PF_DAY
    if adjusted:
        rows["x"] = compute_min(rows.flops, rows.batch_tokens, rows.loss, inputs.laws["B_crit"]) / PF_DAY
    for k, (run, curve) in enumerate(rows.groupby("run", sort=True)):
        drawing.curve("compute", run, curve.x, curve.loss, label=None if k else "learning curves")
    envelope = lower_envelope(rows[rows.fitted].x, rows[rows.fitted].loss)
    drawing.line("compute", "lower envelope", *envelope, colour=style.INK, width=style.HEAVY, label="lower envelope")

    if law.identified:
        fitted = extent(points_of(inputs, law.law).flops / PF_DAY)
        draw_law(drawing, "compute", law, "flops", (fitted[0] / 3, fitted[1] * 3), fitted, scale=PF_DAY)
    else:
        say_unidentified(drawing, "compute", law)
    axes = drawing.axes["compute"]
    style.loss_axis(axes)
    what = "$C_{\\mathrm{min}}$" if adjusted else "Compute"
    style.log_axis(axes, f"{what} (PF-days, non-embedding)")
    drawing.legend("compute", "lower left", title=None if adjusted else "naive: fixed batch size")
    name = "alpha_C_min" if adjusted else "alpha_C"
    runs = plural(rows.run.nunique(), "learning curve")
    return f"Left: {runs}; exponent {estimate(law, name)}."


def _data(drawing: Drawing, inputs: Inputs) -> str:
    """Early-stopped loss of the largest model of the data sweep against D."""
    law = inputs.laws["L_D"]
    data, lost = usable(inputs.sweeps["data"], "data")
    drawing.note(lost)
    ends = end_points(data, "best")
    ends = ends[ends.n_params == ends[ends.fitted].n_params.max()]
    require(ends, "data", "two data set sizes of its largest model", 2, "n_unique_tokens")
    points = points_of(inputs, "L_D")
    means = draw_end_points(drawing, "data", ends, points, "n_unique_tokens", "early stopping")
    fitted = extent(points.n_unique_tokens)
    span = extent(ends.n_unique_tokens)
    draw_law(drawing, "data", law, "n_tokens", span, fitted)
    draw_paper_exponent(drawing, "data", fitted, law.parameters["alpha_D"].paper, points, "n_unique_tokens", "loss")
    axes = drawing.axes["data"]
    style.loss_axis(axes, "")
    style.log_axis(axes, "Dataset size (tokens)")
    model = f"N = {style.number(ends.n_params.iloc[0])}"
    drawing.legend("data", "lower left", title=model)
    return f"Middle: {means}, one model of {model}; exponent {estimate(law, 'alpha_D')}."


def _size(drawing: Drawing, inputs: Inputs) -> str:
    """Loss at the end of each run on all data against N."""
    law = inputs.laws["L_N"]
    sizes, _ = usable(inputs.sweeps["sizes"], "sizes")
    ends = end_points(sizes, "final")
    ends = ends[ends.n_params > 0]
    points = points_of(inputs, "L_N")
    require(points, "sizes", "two model sizes that are fitted", 2, "n_params")
    means = draw_end_points(drawing, "size", ends, points, "n_params", "all data")
    fitted = extent(points.n_params)
    draw_law(drawing, "size", law, "n_params", extent(ends.n_params), fitted)
    draw_paper_exponent(drawing, "size", fitted, law.parameters["alpha_N"].paper, points, "n_params", "loss")
    axes = drawing.axes["size"]
    style.loss_axis(axes, "")
    style.log_axis(axes, "Parameters (non-embedding)")
    drawing.legend("size", "lower left")
    return f"Right: {means}; exponent {estimate(law, 'alpha_N')}."
