"""Figure 8: generalisation to other text.

Left: test loss against non-embedding parameters on text like that of the training and on corpora that were never
trained on. Right: loss on the other corpora against the test loss on the training's own distribution, which falls to
the right: dashed, one large model during its training; points, models at the end of theirs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis import evaluated
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import mean_over_seeds, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.series import between, draw_means

TITLE = "Generalization to other test data sets."


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the evaluations sizes and one_large."""
    drawing = Drawing(["size", "transfer"], height=2.9)
    losses = {}
    for name in ("sizes", "one_large"):
        table, lost = usable(inputs.evaluations[name], name)
        drawing.note(lost)
        evaluated.on_corpus(table, "test", name)
        losses[name] = evaluated.mean_by_corpus(table)
    corpora = evaluated.transfer_corpora(losses["sizes"])
    if not corpora:
        evaluated.on_corpus(losses["sizes"], "a corpus that was not trained on", "sizes")
    left = _size(drawing, losses["sizes"], corpora)
    right = _transfer(drawing, losses["sizes"], losses["one_large"], corpora)
    drawing.describe(
        TITLE,
        "Loss on other text falls with N in parallel to the test loss, at an offset that is small and grows very "
        "slowly; it depends on the test loss alone, not on how long a model was trained or whether it converged.",
        f"{left} {right}",
        f"{inputs.where} The paper's other texts are Books, Internet Books, Common Crawl and Wikipedia; on the right "
        "it shows Books and Wikipedia only.",
    )
    return drawing


def _size(drawing: Drawing, losses: pd.DataFrame, corpora: list[str]) -> str:
    """Loss by corpus against N, at the end of each run; the caption's sentence: how the offsets change with N."""
    ends = losses[losses.final & (losses.n_params > 0)]
    means = {}
    for index, corpus in enumerate(["test", *corpora]):
        rows = ends[ends.corpus == corpus]
        means[corpus] = mean_over_seeds(rows, "n_params", by=["n_layer", "d_model"])
        require(means[corpus], "sizes", f"two sizes evaluated on {corpus}", 2, "n_params")
        name = "test set" if corpus == "test" else corpus
        draw_means(
            drawing,
            "size",
            name,
            means[corpus],
            "n_params",
            colour=_colour(index),
            marker=style.MARKERS[index % len(style.MARKERS)],
            dash="-",
            label=name,
        )
    axes = drawing.axes["size"]
    style.loss_axis(axes, scale="linear")
    style.log_axis(axes, "Parameters (non-embedding)")
    offsets = []
    for corpus in corpora:
        rows = means[corpus].sort_values("n_params").iloc[[0, -1]]
        offset = rows.loss.to_numpy() - between(means["test"].n_params, means["test"].loss, rows.n_params)
        offsets.append(f"{corpus} {offset[0]:.2f} and {offset[1]:.2f}")
    ends = means["test"].n_params.agg(["min", "max"])
    small, large = map(style.number, ends)
    return f"Left: nats above the test loss at N = {small} and N = {large}: {', '.join(offsets)}."


def _transfer(drawing: Drawing, sizes: pd.DataFrame, large: pd.DataFrame, corpora: list[str]) -> str:
    """Loss on other text against test loss: during one training, and at the end of each size's."""
    ends = sizes[sizes.final & (sizes.n_params > 0)].pivot(index="run", columns="corpus", values="loss")
    run = large.loc[large.n_params.idxmax(), "run"]
    during = large[(large.run == run) & (large.step > 0)].pivot(index="step", columns="corpus", values="loss")
    require(during.reset_index(), "one_large", "two snapshots of its largest model", 2, "step")
    away = []
    for index, corpus in enumerate(corpora):
        look = {"colour": _colour(index + 1)}
        marker = style.MARKERS[(index + 1) % len(style.MARKERS)]
        drawing.points("transfer", f"{corpus}, at the end", ends.test, ends[corpus], marker=marker, **look)
        drawing.line("transfer", f"{corpus}, during training", during.test, during[corpus], dash=(0, (3, 1.4)), **look)
        away.append((ends[corpus] / between(during.test, during[corpus], ends.test) - 1).abs().mean())
    axes = drawing.axes["transfer"]
    style.loss_axis(axes, "Loss on other text (nats / token)", scale="linear")
    style.loss_axis(axes, "Test loss, text as trained on", scale="linear", axis="x")
    axes.set_xlim(min(during.test.max(), 1.15 * ends.test.max()), min(during.test.min(), ends.test.min()) * 0.97)
    axes.set_ylim(top=1.12 * ends[corpora].max().max())
    n_params = style.number(large.loc[large.run == run, "n_params"].iloc[0])
    axes.plot([], [], color=style.INK, dashes=(3, 1.4), lw=style.LINE, label=f"N = {n_params}, during\nits training")
    axes.plot([], [], color=style.INK, ls="none", marker="o", ms=style.POINT, label="sizes at the end")
    handles, labels = drawing.axes["size"].get_legend_handles_labels()
    own = axes.get_legend_handles_labels()
    drawing.legend("transfer", "right", handles=handles[::-1] + own[0], labels=labels[::-1] + own[1])
    mean = np.nanmean(away)
    compared = (
        "no model's test loss lies within that training's"
        if np.isnan(mean)
        else (
            f"at equal test loss a finished model's loss on other text is {100 * mean:.1f} % (mean, either sign) from "
            "it"
        )
    )
    return f"Right: dashed is N = {n_params} at {len(during)} points of its training; {compared}."


def _colour(index: int) -> str:
    return style.SERIES[index % len(style.SERIES)]
