"""Learning rates by size: the scan that the config's rule is fitted to, and what the rule costs against the best rate.

Not a table of the paper. The best rate of a size is the vertex of the parabola through the three rates around the
lowest loss, in the logarithm of the rate; a size whose lowest loss is at an end of its scan has no vertex.

Where hidden matrices have a part of the rate (rule `width`), rates are those of all other weights. The rule gives
them one value at every size: the closer the best rates lie together, the less that costs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.errors import UserError
from pipeline.laws import FORMULAS
from pipeline.tables.table import Table

TITLE = "Learning rates by size."


def best_rate(rates: np.ndarray, losses: np.ndarray) -> float:
    """Return the rate of lowest loss, from the parabola in ln(rate) through the lowest point and its neighbours.

    Parameters
    ----------
    rates : ndarray of shape (n,)
        Peak learning rates, increasing.
    losses : ndarray of shape (n,)
        Final test losses.

    Returns
    -------
    float
        NaN when the lowest loss is at an end of the scan.

    Examples
    --------
    >>> rates = np.array([0.001, 0.002, 0.004, 0.008])
    >>> float(round(best_rate(rates, (np.log(rates) - np.log(0.003)) ** 2), 6))
    0.003
    """
    lowest = int(np.argmin(losses))
    if lowest in (0, len(rates) - 1):
        return float("nan")
    near = slice(lowest - 1, lowest + 2)
    curvature, slope, _ = np.polyfit(np.log(rates[near]), losses[near], 2)
    return float(np.exp(-slope / (2 * curvature)))


def make(inputs: Inputs) -> Table:
    """Return a row a size, and a part that hidden matrices have of the rate; needs the sweep lr_scan."""
    ends = inputs.sweeps["lr_scan"].query("final and status != 'diverged'")
    rows = []
    for (n_params, part), size in ends.groupby(["n_params", "lr_hidden"]):
        size = size.sort_values("lr_peak")
        if len(size) < 3:
            raise UserError(f"learning_rates: the sweep lr_scan has {len(size)} rates at N = {n_params}; 3 are needed")
        rates, losses = size.lr_peak.to_numpy(), size.loss.to_numpy()
        shape = size.iloc[0]
        rows.append(
            {
                "n_layer": shape.n_layer,
                "d_model": shape.d_model,
                "n_params": n_params,
                "lr_hidden": part,
                **{f"loss at rate {index + 1}": loss for index, loss in enumerate(losses)},
                "rates": ", ".join(f"{rate:.2g}" for rate in rates),
                "best_scanned": float(rates[losses.argmin()]),
                "best_rate": best_rate(rates, losses),
            }
        )
    table = pd.DataFrame(rows)
    one_rate = (table.lr_hidden == 1).all()
    points = table.dropna(subset=["best_rate"]).rename(columns={"n_params": "x", "best_rate": "y"})
    notes = [inputs.where]
    if len(points) >= 3:
        fit = FORMULAS["power"].fit(points.assign(run=[f"N = {x}" for x in points.x]), n_boot=0)
        found = f"{float(fit.predict(x=1e5)):.3g} (N / 1e5)^{fit.value('p'):.3f}" if fit.found else fit.reason
        notes.append(f"Power law through the best rates: {found}.")
    if one_rate:
        return Table(TITLE, table.drop(columns="lr_hidden"), tuple(notes))
    notes.append("Rates are those of embeddings, norms and biases; hidden matrices have lr_hidden times as much.")
    if len(points):
        mean, spread = np.exp(np.log(points.y).mean()), points.y.max() / points.y.min()
        notes.append(f"Geometric mean of the best rates: {mean:.3g}; the highest is {spread:.3g} times the lowest.")
    return Table(TITLE, table, tuple(notes))
