"""Reduced precision against float32: L(N) fitted to the same models and seeds, trained in each.

Not a table of the paper. A pair is one size and seed in both precisions; what is compared is the exponent, and how far
apart the losses of a pair end, beside how far apart two seeds do.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.errors import UserError
from pipeline.laws import FORMULAS
from pipeline.tables.table import Table

TITLE = "L(N) in float32 and in reduced precision."


def make(inputs: Inputs) -> Table:
    """Return a row a precision; needs the sweep precision, with float32 in it."""
    ends = inputs.sweeps["precision"].query("final and status != 'diverged'")
    pairs = ends.pivot_table(index=["n_params", "seed"], columns="precision", values="loss").dropna()
    if "float32" not in pairs:
        raise UserError("precision: the sweep precision has no runs of float32 to compare with")
    rows = []
    for precision in sorted(pairs, key=lambda name: name != "float32"):
        points = ends[ends.precision == precision]
        fit = FORMULAS["L_N"].fit(points[["run", "n_params", "loss"]], n_boot=1000)
        alpha = fit.parameters["alpha_N"]
        apart = (pairs[precision] / pairs["float32"] - 1).abs()
        rows.append(
            {
                "precision": precision,
                "sizes": points.n_params.nunique(),
                "runs": len(points),
                "alpha_N": alpha.estimate,
                "low": alpha.low,
                "high": alpha.high,
                "mean ln(loss / float32)": float(np.log(pairs[precision] / pairs["float32"]).mean()),
                "largest relative difference": float(apart.max()),
            }
        )
    table = pd.DataFrame(rows)
    reference = table.iloc[0]
    verdicts = [
        f"alpha_N of {row.precision} lies {'inside' if reference.low <= row.alpha_N <= reference.high else 'outside'} "
        "the 95 % interval of float32."
        for row in table.iloc[1:].itertuples()
    ]
    spread = pairs["float32"].groupby("n_params").agg(lambda losses: losses.max() / losses.min() - 1)
    seeds = f"Two seeds of one size end {spread.mean():.2%} apart in float32 (mean over sizes)."
    return Table(TITLE, table, (inputs.where, *verdicts, seeds))
