"""Figure 24: generalisation against depth at a fixed number of parameters.

Loss (linear) against the number of layers (logarithmic), on the training text, the test set, and other corpora.
"""

from __future__ import annotations

from pipeline import style
from pipeline.analysis import evaluated
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import mean_over_seeds, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.series import draw_means, percent

TITLE = "Generalization against depth."


def draw(inputs: Inputs) -> Drawing:
    """Draw the panel; needs the evaluations transfer."""
    drawing = Drawing(["depth"], width=4.9, height=3.1)
    rows, lost = usable(inputs.evaluations["transfer"], "transfer")
    drawing.note(lost)
    losses = evaluated.mean_by_corpus(evaluated.final_rows(rows))
    require(losses, "transfer", "two depths", 2, "n_layer")
    names = {"train": "training text", "test": "test set"}
    means = {}
    for index, corpus in enumerate([*names, *evaluated.transfer_corpora(losses)]):
        own = evaluated.on_corpus(losses, corpus, "transfer")
        means[corpus] = mean_over_seeds(own, "n_layer")
        name = names.get(corpus, corpus)
        look = {"colour": style.SERIES[index % 8], "marker": style.MARKERS[index % 8]}
        draw_means(drawing, "depth", name, means[corpus], "n_layer", dash="-", label=name, **look)
    axes = drawing.axes["depth"]
    style.loss_axis(axes, "Loss (nats / token)", scale="linear")
    style.log_axis(axes, "Depth (layers)")
    axes.set_xticks(sorted(losses.n_layer.unique()), sorted(losses.n_layer.unique()))
    axes.set_xticks([], minor=True)
    drawing.legend("depth", "right", reverse=True)

    offset = {corpus: table.loss - means["test"].loss for corpus, table in means.items() if corpus not in names}
    spread = means["test"].loss.max() / means["test"].loss.min() - 1
    words = [f"{corpus} {away.min():.2f} to {away.max():.2f}" for corpus, away in offset.items()]
    sizes = [style.number(value) for value in (losses.n_params.min(), losses.n_params.max())]
    drawing.describe(
        TITLE,
        "At about 1.5e9 parameters, from 12 to 192 layers, the loss on other text depends on depth no more than the "
        "test loss does: there is no effect of depth on transfer.",
        f"N = {' to '.join(dict.fromkeys(sizes))}, {int(losses.n_layer.min())} to {int(losses.n_layer.max())} layers: "
        f"the test loss varies by {percent(spread, sign=False)}; above it in nats, over all depths: "
        f"{', '.join(words)}.",
        f"{inputs.where} N is smaller by a factor of {1.5e9 / losses.n_params.mean():.0e}, and so are the depths.",
    )
    return drawing
