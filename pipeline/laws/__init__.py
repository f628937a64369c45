"""Laws of the paper and of its successors, fitted with intervals: see docs/laws.md.

Examples
--------
>>> import numpy as np, pandas as pd
>>> n = np.geomspace(1e5, 1e9, 9)
>>> fit = FORMULAS["L_N"].fit(pd.DataFrame({"n_params": n, "loss": (8.8e13 / n) ** 0.076}), n_boot=0)
>>> fit.formula()
'L = (N / 8.8e13)^-0.076'
"""

from __future__ import annotations

from .fitting.fit import Estimate, Fit, load_fit
from .fitting.law import Law
from .formulas import FORMULAS

__all__ = ["FORMULAS", "Estimate", "Fit", "Law", "load_fit"]
