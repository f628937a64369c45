"""Figure 16: when to stop, and what overfitting looks like.

Left: the step of lowest test loss, adjusted to large batches, against the bound S_c [L(N, D) - L(N, inf)]^(-1/alpha_S)
of Eq 5.7, both logarithmic, a series a data set size; the red line is y = x, which no point should be below. Right:
test (solid) and train loss (dashed) of the largest model against step (logarithmic), colour by data set size; the black
bar is test minus train loss where the smallest data set's test loss was lowest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import end_points, extent, plural, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.laws import say_all_unidentified
from pipeline.laws.algebra.efficiency import minimum_steps, stop_bound

if TYPE_CHECKING:
    from pipeline.laws.fitting.fit import Fit

TITLE = "Early stopping, and test and train loss."
RED = "#c0271c"


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the sweep data and the laws L_N_D, L_N_S and B_crit."""
    drawing = Drawing(["stop", "curves"], height=3.0)
    data, lost = usable(inputs.sweeps["data"], "data")
    drawing.note(lost)
    require(data, "data", "two data set sizes", 2, "n_unique_tokens")
    norm = style.size_norm(data.n_unique_tokens)
    left = _stop(drawing, data, inputs, norm)
    right = _curves(drawing, data, norm)
    drawing.colourbar(["stop", "curves"], norm, "Dataset size (tokens)")
    drawing.describe(
        TITLE,
        "Runs stop improving at steps above the bound of Eq 5.7, from 21M to 1.4B tokens. Test minus train loss, the "
        "black bar, greatly overstates how much the test loss suffers from little data.",
        f"{left} {right}",
        f"{inputs.where} Train loss is the mean over the steps between two evaluations, dropout included, so that it "
        "can lie above the test loss early on.",
    )
    return drawing


def _stop(drawing: Drawing, data: pd.DataFrame, inputs: Inputs, norm: object) -> str:
    """Draw the stopping step of each run with less than all data against its bound."""
    laws = [inputs.laws[name] for name in ("L_N_D", "L_N_S", "B_crit")]
    ends = _ends(data, *laws)
    for (n_unique, turned), rows in ends.groupby(["n_unique_tokens", "turned"]):
        name = f"D = {style.number(n_unique)}"
        drawing.points(
            "stop",
            name if turned else f"{name}, still falling at its end",
            rows.bound,
            rows.stop,
            colour=style.RAINBOW(norm(n_unique)),
            hollow=not turned,
        )
    axes = drawing.axes["stop"]
    known = all(law.identified for law in laws)
    if known:
        low, high = extent(np.r_[ends.bound, ends.stop])
        line = [low / 1.3, high * 1.3]
        drawing.line("stop", "y = x", line, line, colour=RED, label="Eq 5.7: $y = x$")
    else:
        say_all_unidentified(drawing, "stop", laws)
    if not ends.turned.all():
        axes.plot([], [], color=style.INK, ls="none", marker="o", mfc="white", ms=style.POINT, label="still falling")
    bound = r"$S_c\,[L(N, D) - L(N, \infty)]^{-1/\alpha_S}$"
    style.log_axis(axes, bound if known else "Dataset size (tokens)")
    style.log_axis(axes, r"$S_{\mathrm{stop}}$, adjusted (steps)" if known else "Step of lowest test loss", axis="y")
    drawing.legend("stop", "upper left")
    if not known:
        return "Left: the bound, or the adjustment, is not known; the step of lowest loss against the data set size."
    turned = ends[ends.turned]
    above = int((turned.stop >= turned.bound).sum())
    return f"Left: {above} of {plural(len(turned), 'run')} that overfitted stopped above the bound."


def _ends(data: pd.DataFrame, overfitting: Fit, curves: Fit, critical: Fit) -> pd.DataFrame:
    """Return the row of lowest test loss of each run with less than all data: `stop`, `bound`, and whether it turned.

    Without all three laws `stop` is the step as it was, and `bound` the data set size.
    """
    ends = end_points(data[~data.all_data], "best")
    require(ends, "data", "a run on a part of the data")
    ends["turned"] = ~ends.final  # the test loss rose after it
    if not (overfitting.identified and curves.identified and critical.identified):
        return ends.assign(stop=ends.step, bound=ends.n_unique_tokens)
    ends["stop"] = minimum_steps(ends.step, ends.batch_tokens, critical.predict(loss=ends.loss))
    ends["bound"] = stop_bound(
        overfitting.predict(n_params=ends.n_params, n_tokens=ends.n_unique_tokens),
        overfitting.predict(n_params=ends.n_params, n_tokens=np.inf),
        curves.value("S_c"),
        curves.value("alpha_S"),
    )
    return ends[np.isfinite(ends.bound) & (ends.stop > 0)]


def _curves(drawing: Drawing, data: pd.DataFrame, norm: object) -> str:
    """Draw test and train curves of the largest model; return how far they are apart where the smallest D was best."""
    largest = data[data.n_params == data[data.fitted].n_params.max()]
    require(largest, "data", "two data set sizes of its largest model", 2, "n_unique_tokens")
    first = largest.groupby("n_unique_tokens").run.first()
    for n_unique, run in first.items():
        rows = largest[(largest.run == run) & (largest.step > 0)].sort_values("step")
        colour, name = style.RAINBOW(norm(n_unique)), f"D = {style.number(n_unique)}"
        drawing.line("curves", f"{name}, test", rows.step, rows.loss, colour=colour, width=0.9)
        drawing.line(
            "curves", f"{name}, train", rows.step, rows.train_loss, colour=colour, width=0.9, dash=(0, (3, 1.4))
        )
    rows = largest[largest.run == first.iloc[0]]
    best = rows[rows.best].iloc[0]
    bar = [best.train_loss, best.loss]
    drawing.line("curves", "test minus train", [best.step] * 2, bar, colour="black", width=2.2, zorder=5)
    axes = drawing.axes["curves"]
    style.loss_axis(axes, "Loss (nats / token)", scale="linear")
    style.log_axis(axes, "Step")
    axes.plot([], [], color=style.INK, lw=0.9, label="test")
    axes.plot([], [], color=style.INK, lw=0.9, dashes=(3, 1.4), label="train")
    axes.plot([], [], color="black", lw=2.2, label=r"$L_{test} - L_{train}$")
    drawing.legend("curves", "upper right")
    ends = end_points(largest, "best")
    most = ends.loc[ends.n_unique_tokens.idxmax()]
    return (
        f"Right: N = {style.number(best.n_params)}, on {style.number(best.n_unique_tokens)} tokens: test minus train "
        f"loss is {bar[1] - bar[0]:.2f} nats at the best step, while the test loss is "
        f"{best.loss - most.loss:.2f} nats above that with {style.number(most.n_unique_tokens)} tokens."
    )
