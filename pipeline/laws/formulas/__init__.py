"""The laws: one module a formula, with its equation, parameters, units and the paper's values."""

from __future__ import annotations

from pipeline.laws.fitting.fit import KNOWN
from pipeline.laws.fitting.law import Law
from pipeline.laws.formulas.batch import B_crit
from pipeline.laws.formulas.chinchilla import Chinchilla
from pipeline.laws.formulas.compute import L_C, L_C_min
from pipeline.laws.formulas.data import L_D
from pipeline.laws.formulas.downstream import Downstream
from pipeline.laws.formulas.envelope import Envelope
from pipeline.laws.formulas.isoflop import IsoFLOP, IsoFLOPAkima
from pipeline.laws.formulas.overfitting import L_N_D
from pipeline.laws.formulas.overtraining import Overtraining
from pipeline.laws.formulas.position import Position
from pipeline.laws.formulas.power import TRENDS, Power, PowerPlusConstant
from pipeline.laws.formulas.repetition import Repetition
from pipeline.laws.formulas.size import L_N, log_N
from pipeline.laws.formulas.steps import L_N_S

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
            PowerPlusConstant(),
            IsoFLOP(),
            IsoFLOPAkima(),
            Envelope(),
        ),
    )
}
"""Law -> its formula. `pipeline.plan.catalog.LAWS` says what the workflow fits those of the paper to."""
KNOWN.update(FORMULAS)
