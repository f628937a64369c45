"""The laws: one module a formula, with its equation, parameters, units and the paper's values."""

from __future__ import annotations

from ..fitting.fit import KNOWN
from ..fitting.law import Law
from .batch import B_crit
from .chinchilla import Chinchilla
from .compute import L_C, L_C_min
from .data import L_D
from .downstream import Downstream
from .envelope import Envelope
from .isoflop import IsoFLOP, IsoFLOPAkima
from .multi_power import MultiPower
from .overfitting import L_N_D
from .overtraining import Overtraining
from .position import Position
from .power import TRENDS, Power, PowerPlusConstant
from .repetition import Repetition
from .size import L_N, log_N
from .steps import L_N_S

FORMULAS: dict[str, Law] = {
    law.name: law
    for law in (
        *(L_N(), L_D(), L_C(), L_C_min(), L_N_D(), L_N_S(), B_crit(), Position(), log_N()),
        *(*TRENDS, Power()),
        *(
            Chinchilla(),
            Overtraining(),
            Repetition(),
            Downstream(),
            MultiPower(),
            PowerPlusConstant(),
            IsoFLOP(),
            IsoFLOPAkima(),
            Envelope(),
        ),
    )
}
"""Law -> its formula. `pipeline.plan.catalog.LAWS` says what the workflow fits those of the paper to."""
KNOWN.update(FORMULAS)
