"""Figure 4: the loss as a function of two variables, L(N, D) on the left and L(N, S) on the right.

Left: early-stopped test loss against data set size, a series for each N, with Eq 1.5. Right: learning curves against
the minimal number of steps S_min, colour by N, with Eq 5.6. x logarithmic, y logarithmic with plain ticks. The right
panel appears once the laws L_N_S and B_crit are given.
"""

from __future__ import annotations

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import end_points, extent, mean_over_seeds, plural, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.laws import draw_law, estimate, points_of, say_unidentified, title_law

TITLE = "Performance when varying amount of data and model size, or model and training size, simultaneously."
PAPER = (
    "Left: six sizes from 393K to 708M parameters, early-stopped, all on Eq 1.5 with one set of constants; the loss "
    "falls with D until N limits it. Right: learning curves of many sizes against S_min, on Eq 5.6."
)


def draw(inputs: Inputs) -> Drawing:
    """Draw the panels; needs the sweep data and the law L_N_D, for the right one also sizes, L_N_S and B_crit."""
    both = "L_N_S" in inputs.laws
    drawing = Drawing(["data", "steps"], height=2.9) if both else Drawing(["data"], width=style.WIDTH / 2, height=2.9)
    ours = _data(drawing, inputs)
    differs = "Only the left panel is drawn."
    if both:
        ours += " " + _steps(drawing, inputs)
        differs = "The right panel shows the shapes and the steps that Eq 5.6 was fitted to."
    drawing.describe(TITLE, PAPER, ours, f"{inputs.where} {differs}")
    return drawing


def _data(drawing: Drawing, inputs: Inputs) -> str:
    """Early-stopped loss against D, a series for each N."""
    law = inputs.laws["L_N_D"]
    data, lost = usable(inputs.sweeps["data"], "data")
    drawing.note(lost)
    ends = end_points(data, "best")
    points = points_of(inputs, "L_N_D")
    ends["fitted"] = ends.run.isin(points.run)
    require(ends, "data", "two model sizes", 2, "n_params")
    require(ends, "data", "two data set sizes", 2, "n_unique_tokens")
    fitted = extent(points.n_unique_tokens)
    span = extent(ends.n_unique_tokens)
    sizes = sorted(ends.n_params.unique(), reverse=True)
    means = mean_over_seeds(ends, "n_unique_tokens", by=["n_params"])
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
    drawing.legend("data", "upper right" if "steps" in drawing.axes else "right")
    return (
        f"Left: {plural(len(ends), 'run')}, {plural(len(sizes), 'size')} by "
        f"{plural(ends.n_unique_tokens.nunique(), 'data set size')}; lines are one fit of Eq 1.5, alpha_N "
        f"{estimate(law, 'alpha_N')}, alpha_D {estimate(law, 'alpha_D')}."
    )


def _steps(drawing: Drawing, inputs: Inputs) -> str:
    """Learning curves after their warmup against S_min, and L(N, S_min) at each size."""
    law, critical = inputs.laws["L_N_S"], inputs.laws["B_crit"]
    title_law(drawing, "steps", law)
    axes = drawing.axes["steps"]
    if critical.identified:
        points = points_of(inputs, "L_N_S")
    else:  # there is no S_min: the steps as they were
        rows, _ = usable(inputs.sweeps["sizes"], "sizes")
        points = rows[rows.fitted & (rows.step > rows.warmup_steps)].assign(steps=lambda table: table.step)
        say_unidentified(drawing, "steps", critical)
    require(points, "sizes", "two model sizes that are fitted", 2, "n_params")
    norm = style.size_norm(points.n_params)
    for run, rows in points.sort_values("steps").groupby("run", sort=True):
        colour = style.RAINBOW(norm(rows.n_params.iloc[0]))
        drawing.line("steps", run, rows.steps, rows.loss, colour=colour, width=style.HEAVY, alpha=0.8)
    axes.plot([], [], color=style.GREY, lw=style.HEAVY, label="learning curves")
    if law.identified and critical.identified:
        for n_params, rows in points.groupby("n_params"):
            draw_law(
                drawing,
                "steps",
                law,
                "steps",
                extent(points.steps),
                extent(rows.steps),
                colour=style.INK,
                series=f"N = {style.number(n_params)}, Eq 5.6",
                label="",
                band=False,
                width=style.THIN,
                n_params=float(n_params),
            )
        axes.plot([], [], color=style.INK, lw=style.THIN, label="Eq 5.6, dashed beyond them")
    style.loss_axis(axes)
    style.log_axis(axes, "Estimated $S_{min}$ (steps)" if critical.identified else "Steps")
    drawing.legend("steps", "upper right")
    drawing.colourbar(["steps"], norm, "Parameters (non-embedding)")
    return (
        f"Right: {plural(points.run.nunique(), 'learning curve')} of {points.n_params.nunique()} sizes, one fit "
        f"of Eq 5.6, alpha_N {estimate(law, 'alpha_N')}, alpha_S {estimate(law, 'alpha_S')}."
    )
