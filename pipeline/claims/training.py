"""Claims 19 and 20: the learning-rate schedule and the seed (section 4.2, appendix D.6)."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import SETTINGS, longest
from pipeline.claims import measure
from pipeline.claims.verdict import Claim, Number, Undecided, check

NOISE_OF_SCHEDULES = 0.05 / 3.75
"""Relative noise of the paper's scan: 0.05 nats (caption of Figure 22) at the scan's 3.65 to 3.90 nats
(docs/paper.md, claim 19)."""
SUMMED_RATE = 0.2
"""A summed learning rate is large from this part of the largest on: Figure 22 spans 50 to 250
(docs/paper.md, claim 19)."""
DECAYED = 0.1
"""A schedule decays to near zero when it ends at or below this part of its peak (docs/paper.md, claim 19)."""
LEAST_SCHEDULES = 3
"""Fewer of them can't be compared (docs/paper.md, claim 19)."""
SEED_SPREAD = 0.02
"""Nats between seeds, "roughly", section 4.2 (docs/paper.md, claim 20)."""
ROUGHLY = 1.5
"""Factor above the paper's rough number at which a spread is no longer of its size (docs/paper.md, claim 20)."""
ALIKE = 2.0
"""Spreads within this factor of each other count as the same (docs/paper.md, claim 20)."""


@check("relative standard deviation of final losses over schedules", "schedules", most=NOISE_OF_SCHEDULES)
def schedules_differ_by_noise(given: Inputs) -> Number:
    final = measure.ends(given, "schedules").drop_duplicates("run")
    large = final["lr_sum"] >= SUMMED_RATE * final["lr_sum"].max()
    kept = final[large & (final["lr"] <= DECAYED * final["lr_peak"]) & (final["warmup_steps"] > 0)]
    if kept["schedule"].nunique() < LEAST_SCHEDULES:
        raise Undecided(
            f"{kept['schedule'].nunique()} schedules with warmup, decay and a large summed rate; {LEAST_SCHEDULES} "
            "are needed"
        )
    relative = np.log(kept["loss"]) - np.log(kept["loss"]).mean()
    return measure.spread(float(relative @ relative), len(kept) - 1)


def _deviations(given: Inputs) -> pd.DataFrame:
    final = longest(measure.ends(given, "sizes").drop_duplicates("run"))
    relative, freedom = measure.repeats(final)
    if freedom < 1:
        raise Undecided("no run of the sweep sizes is repeated with another seed")
    return final.loc[relative.index].assign(nats=relative * final["loss"])


@check("standard deviation over seeds in nats", "sizes", most=SEED_SPREAD * ROUGHLY)
def seed_spread(given: Inputs) -> Number:
    rows = _deviations(given)
    return measure.spread(float(rows["nats"] @ rows["nats"]), _freedom(rows))


@check("spread over seeds of the larger half of the sizes over the smaller half", "sizes", least=1 / ALIKE, most=ALIKE)
def seed_spread_by_size(given: Inputs) -> Number:
    rows = _deviations(given)
    sizes = np.sort(rows["n_params"].unique())
    if len(sizes) < 2:
        raise Undecided("one size is repeated with other seeds; 2 are needed")
    large = rows["n_params"] >= sizes[math.ceil(len(sizes) / 2)]
    halves = (rows[large], rows[~large])
    squares = [float(half["nats"] @ half["nats"]) for half in halves]
    return measure.spread_ratio(squares[0], _freedom(halves[0]), squares[1], _freedom(halves[1]))


def _freedom(rows: pd.DataFrame) -> int:
    return len(rows) - rows.groupby(SETTINGS, dropna=False).ngroups


CLAIMS = (
    Claim(
        19,
        "The learning-rate schedule hardly matters when the summed rate is large and it has warmup and a final decay.",
        paper="differences of about 0.05 nats, noise",
        test="Relative standard deviation of the final losses of schedules with warmup, a final rate of at most a "
        "tenth of the peak and a summed rate of at least a fifth of the largest.",
        checks=(schedules_differ_by_noise,),
    ),
    Claim(
        20,
        "Losses of models that differ in their seed alone spread little, and equally at all sizes.",
        paper="about 0.02 nats",
        test="Standard deviation of final losses over seeds, pooled over sizes; that of the larger half of the sizes "
        "over that of the smaller.",
        checks=(seed_spread, seed_spread_by_size),
    ),
)
