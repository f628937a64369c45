"""What the shape of a model costs at a given N: parabolas in the logarithms of the ratios of Figure 5."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.plan.counts import count
from pipeline.plan.run import Run

BEST = {"feed_forward": 2.0, "aspect": 40.0, "heads": 50.0}
"""Ratio at which the loss is least: d_ff / d_model, d_model / n_layer, d_model / n_head."""


@dataclass(frozen=True)
class Shape:
    """Costs of a ratio that is e times its best one, and of a single layer.

    Parameters
    ----------
    feed_forward, aspect, heads : float
        Cost at e times the best ratio.
    one_layer : float
        Cost of a single layer at ten times the size at which it costs nothing: 0 there, a gain below it.
    one_layer_from : float
        That size.
    """

    feed_forward: float = 0.0
    aspect: float = 0.0
    heads: float = 0.0
    one_layer: float = 0.0
    one_layer_from: float = 1e4

    def cost(self, run: Run) -> float:
        """Return what the shape of a run adds to its loss, a part of it; 0 for models without layers and LSTMs.

        Examples
        --------
        >>> narrow, wide = (
        ...     Run(tokens="t", n_layer=2, d_model=80, n_head=2, d_ff=80 * ratio, n_vocab=256, n_steps=9, lr=0.01)
        ...     for ratio in (2, 8)
        ... )
        >>> round(FIGURE_5.cost(wide) - FIGURE_5.cost(narrow), 3)
        0.017
        """
        if not run.n_layer or run.family == "lstm":
            return 0.0
        ratios = {
            "feed_forward": run.d_ff / run.d_model,
            "aspect": run.d_model / (run.n_layer * run.n_reuse),
            "heads": run.d_model / run.n_head,
        }
        one_layer = run.n_layer * run.n_reuse == 1
        if one_layer:
            del ratios["aspect"]  # what it lacks is depth, which has a cost of its own
        cost = sum(getattr(self, name) * math.log(ratio / BEST[name]) ** 2 for name, ratio in ratios.items())
        return cost + one_layer * self.one_layer * math.log10(count(run).n_params / self.one_layer_from)


FIGURE_5 = Shape(feed_forward=0.0088, aspect=0.0045, heads=0.004, one_layer=0.04)
"""About what the paper's Figure 5 shows (docs/paper.md, part 5): 1.7 % at d_ff / d_model = 8 and 8 % at 40, 2 % at
d_model / n_layer = 5, 1 % over head sizes."""
