"""Figure 9: overfitting depends on N^(alpha_N / alpha_D) / D.

Left: early-stopped test loss against N, a series for each data set size, with Eq 1.5. Right: the overfitting ratio
L(N, D) / L(N, infinity) - 1 against N^(alpha_N / alpha_D) / D, all series on the one curve of Eq 4.3. x logarithmic;
the right panel's y is linear from 0.
"""

from __future__ import annotations

import pandas as pd

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import end_points, extent, mean_over_seeds, plural, require, usable
from pipeline.figures.drawing import Drawing, law_grid
from pipeline.figures.laws import draw_law, estimate, points_of, title_law
from pipeline.laws import Fit
from pipeline.laws.formulas.overfitting import overfitting

TITLE = "Universality of overfitting."
PAPER = (
    "Left: with little data the loss stops falling as N grows; Eq 1.5 with four constants describes eight data set "
    "sizes from 21M to 22B tokens. Right: the relative excess over L(N, infinity) depends on N^0.74 / D alone."
)
PAPER_RATIO = 0.076 / 0.103
"""alpha_N / alpha_D of the paper's Table 2, the axis of the right panel when ours is not identified."""


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the sweep data and the law L_N_D."""
    drawing = Drawing(["loss", "excess"], height=2.8)
    law = inputs.laws["L_N_D"]
    data, lost = usable(inputs.sweeps["data"], "data")
    drawing.note(lost)
    ends = end_points(data, "best")
    ends["fitted"] = ends.run.isin(points_of(inputs, "L_N_D").run)
    require(ends, "data", "two model sizes", 2, "n_params")
    require(ends, "data", "two data set sizes", 2, "n_unique_tokens")
    require(ends[ends.all_data], "data", "a run on all data, which L(N, D = infinity) is taken from")

    data_sizes = sorted(ends.n_unique_tokens.unique())
    _loss(drawing, law, ends, data_sizes)
    worst = _excess(drawing, law, ends, data_sizes)
    drawing.legend("loss", "right", title="Data (tokens)")
    drawing.describe(
        TITLE,
        PAPER,
        f"{plural(len(ends), 'run')}, {plural(ends.n_params.nunique(), 'size')} by "
        f"{plural(len(data_sizes), 'data set size')}; alpha_N {estimate(law, 'alpha_N')}, alpha_D "
        f"{estimate(law, 'alpha_D')}. {worst}",
        f"{inputs.where} L(N, infinity) is the loss of the same model on all data, "
        f"{style.number(data_sizes[-1])} tokens.",
    )
    return drawing


def _loss(drawing: Drawing, law: Fit, ends: pd.DataFrame, data_sizes: list[int]) -> None:
    """Early-stopped loss against N, a series for each D."""
    span, fitted = extent(ends.n_params), extent(ends[ends.fitted].n_params)
    means = mean_over_seeds(ends, "n_params", by=["n_unique_tokens"])
    for k, n_tokens in enumerate(data_sizes):
        colour, name = style.series_colour(k, len(data_sizes)), f"{style.number(n_tokens)}"
        for kept, part in means[means.n_unique_tokens == n_tokens].groupby("fitted"):
            series = f"D = {name}" if kept else f"D = {name}, not fitted"
            drawing.means("loss", series, part, "n_params", colour=colour, hollow=not kept, label=name * bool(kept))
        if law.identified:
            draw_law(
                drawing,
                "loss",
                law,
                "n_params",
                span,
                fitted,
                colour=colour,
                series=f"D = {name}, Eq 1.5",
                label="",
                band=False,
                n_tokens=float(n_tokens),
            )
    style.loss_axis(drawing.axes["loss"], "Early-stopped test loss (nats / token)")
    style.log_axis(drawing.axes["loss"], "Parameters (non-embedding)")
    title_law(drawing, "loss", law)


def _excess(drawing: Drawing, law: Fit, ends: pd.DataFrame, data_sizes: list[int]) -> str:
    """Relative excess over the loss on all data, against N^(alpha_N / alpha_D) / D."""
    ratio = law.value("alpha_N") / law.value("alpha_D") if law.identified else PAPER_RATIO
    unlimited = ends[ends.all_data].groupby("n_params").loss.mean()
    rows = ends[~ends.all_data & ends.n_params.isin(unlimited.index)].copy()
    rows["excess"] = rows.loss / rows.n_params.map(unlimited) - 1
    rows["x"] = rows.n_params.astype(float) ** ratio / rows.n_unique_tokens
    for k, n_tokens in enumerate(data_sizes):
        part = rows[rows.n_unique_tokens == n_tokens].sort_values("x")
        for kept, some in part.groupby("fitted"):
            drawing.points(
                "excess",
                f"D = {style.number(n_tokens)}" + ("" if kept else ", not fitted"),
                some.x,
                some.excess,
                colour=style.series_colour(k, len(data_sizes)),
                hollow=not kept,
            )
    worst = ""
    if law.identified:
        constants = {name: law.value(name) for name in law.parameters}
        fitted = extent(rows[rows.fitted].x)
        grid = law_grid(*extent(rows.x), *fitted)
        curve = overfitting(1.0, 1.0 / grid, **constants)  # x = N^ratio / D is all that it depends on: N = 1, D = 1 / x
        drawing.law("excess", "Eq 4.3", grid, curve, fitted, colour=style.INK, label="Eq 4.3, our constants")
        drawing.legend("excess", "upper left")
        off = (rows.excess - overfitting(rows.n_params, rows.n_unique_tokens, **constants)).abs().max()
        worst = f"Right: no point is farther than {off:.3f} from Eq 4.3; the largest excess is {rows.excess.max():.3f}."
    axes = drawing.axes["excess"]
    label = f"$N^{{{ratio:.2f}}} / D$" + ("" if law.identified else " (paper's exponent)")
    style.log_axis(axes, label)
    axes.set_ylabel(r"$L(N, D)\,/\,L(N, \infty) - 1$")
    axes.yaxis.set_major_locator(style.PlainLocator())
    axes.set_ylim(bottom=min(0.0, float(rows.excess.min()) * 1.1))
    return worst
