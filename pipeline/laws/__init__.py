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

from pipeline.laws.fitting.fit import Estimate, Fit, load_fit
from pipeline.laws.fitting.law import Law
from pipeline.laws.formulas.batch import B_crit
from pipeline.laws.formulas.chinchilla import Chinchilla
from pipeline.laws.formulas.compute import L_C, L_C_min
from pipeline.laws.formulas.data import L_D
from pipeline.laws.formulas.envelope import Envelope
from pipeline.laws.formulas.isoflop import IsoFLOP, IsoFLOPAkima
from pipeline.laws.formulas.overfitting import L_N_D
from pipeline.laws.formulas.position import Position
from pipeline.laws.formulas.power import TRENDS, Power, PowerPlusConstant
from pipeline.laws.formulas.size import L_N, log_N
from pipeline.laws.formulas.steps import L_N_S

FORMULAS: dict[str, Law] = {
    law.name: law
    for law in (
        *(L_N(), L_D(), L_C(), L_C_min(), L_N_D(), L_N_S(), B_crit(), Position(), log_N()),
        *(*TRENDS, Power()),
        *(Chinchilla(), PowerPlusConstant(), IsoFLOP(), IsoFLOPAkima(), Envelope()),
    )
}
"""Law -> its formula. `pipeline.plan.catalog.LAWS` says what the workflow fits those of the paper to."""

__all__ = ["FORMULAS", "Estimate", "Fit", "Law", "load_fit"]
