"""Figure 4: the loss as a function of two variables, L(N, D) on the left and L(N, S) on the right.

Left: early-stopped test loss against data set size, a series for each N, with Eq 1.5. Right: learning curves against
the minimal number of steps S_min, colour by N, with Eq 5.6. x logarithmic, y logarithmic with plain ticks. The right
panel appears once the laws L_N_S and B_crit are given.
"""

from __future__ import annotations

from pipeline.figures import select, style
from pipeline.figures.drawing import Drawing
from pipeline.figures.fits import draw_law, estimate, points_of, title_law
from pipeline.figures.inputs import Inputs

TITLE = "Performance when varying amount of data and model size, or model and training size, simultaneously."
PAPER = (
    "Left: six sizes from 393K to 708M parameters, early-stopped, all on Eq 1.5 with one set of constants; the loss "
    "falls with D until N limits it. Right: learning curves of many sizes against S_min, on Eq 5.6."
)


def draw(inputs: Inputs) -> Drawing:
    """Draw the panels; needs the sweep data and the law L_N_D."""
    drawing = Drawing(["data"], width=style.WIDTH / 2, height=2.9)
    ours = _data(drawing, inputs)
    drawing.describe(TITLE, PAPER, ours, f"{inputs.where} Only the left panel is drawn.")
    return drawing


def _data(drawing: Drawing, inputs: Inputs) -> str:
    """Early-stopped loss against D, a series for each N."""
    law = inputs.laws["L_N_D"]
    data, lost = select.usable(inputs.sweeps["data"], "data")
    drawing.note(lost)
    ends = select.end_points(data, "best")
    points = points_of(inputs, "L_N_D")
    ends["fitted"] = ends.run.isin(points.run)
    select.require(ends, "data", "two model sizes", 2, "n_params")
    select.require(ends, "data", "two data set sizes", 2, "n_unique_tokens")
    fitted = select.span(points.n_unique_tokens)
    span = select.span(ends.n_unique_tokens)
    sizes = sorted(ends.n_params.unique(), reverse=True)
    means = select.mean_over_seeds(ends, "n_unique_tokens", by=["n_params"])
    for k, n_params in enumerate(sizes):
        colour = style.series_colour(len(sizes) - 1 - k, len(sizes))
        name = f"N = {style.number(n_params)}"
        for kept, part in means[means.n_params == n_params].groupby("fitted"):
            series = name if kept else f"{name}, not fitted"
            drawing.means(
                "data", series, part, "n_unique_tokens", colour=colour, hollow=not kept, label=name * bool(kept)
            )
        if law.identified:
            draw_law(
                drawing,
                "data",
                law,
                "n_tokens",
                span,
                fitted,
                colour=colour,
                series=f"{name}, Eq 1.5",
                label="",
                band=False,
                n_params=float(n_params),
            )
    axes = drawing.axes["data"]
    style.loss_axis(axes, "Early-stopped test loss (nats / token)")
    style.log_axis(axes, "Dataset size (tokens)")
    title_law(drawing, "data", law)
    drawing.legend("data", "right")
    return (
        f"Left: {select.plural(len(ends), 'run')}, {select.plural(len(sizes), 'size')} by "
        f"{select.plural(ends.n_unique_tokens.nunique(), 'data set size')}; lines are one fit of Eq 1.5, alpha_N "
        f"{estimate(law, 'alpha_N')}, alpha_D {estimate(law, 'alpha_D')}."
    )
