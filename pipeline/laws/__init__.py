"""Laws of the paper and of its successors, fitted with intervals: see docs/laws.md.

Examples
--------
>>> import numpy as np, pandas as pd
>>> n = np.geomspace(1e5, 1e9, 9)
>>> fit = LAWS["L_N"].fit(pd.DataFrame({"n_params": n, "loss": (8.8e13 / n) ** 0.076}), n_boot=0)
>>> fit.formula()
'L = (N / 8.8e13)^-0.076'
"""

from __future__ import annotations

from pipeline.laws.batch import B_crit
from pipeline.laws.chinchilla import Chinchilla
from pipeline.laws.compute import L_C, L_C_min
from pipeline.laws.data import L_D
from pipeline.laws.envelope import Envelope
from pipeline.laws.fit import Estimate, Fit, load_fit
from pipeline.laws.isoflop import IsoFLOP, IsoFLOPAkima
from pipeline.laws.law import Law
from pipeline.laws.overfitting import L_N_D
from pipeline.laws.position import Position
from pipeline.laws.power import B_OPT, D_OPT, N_OPT, N_OPT_NAIVE, S_OPT, Power, PowerPlusConstant
from pipeline.laws.size import L_N, log_N
from pipeline.laws.steps import L_N_S

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        *(L_N(), L_D(), L_C(), L_C_min(), L_N_D(), L_N_S(), B_crit(), Position(), log_N()),
        *(N_OPT, N_OPT_NAIVE, S_OPT, B_OPT, D_OPT, Power()),
        *(Chinchilla(), PowerPlusConstant(), IsoFLOP(), IsoFLOPAkima(), Envelope()),
    )
}

__all__ = ["LAWS", "Estimate", "Fit", "Law", "load_fit"]
