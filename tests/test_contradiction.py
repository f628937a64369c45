"""The crossing of L(C_min) and L(D(C_min)) on the paper's constants and on planted laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.laws import FORMULAS
from pipeline.laws.algebra.contradiction import crossing
from pipeline.units import PF_DAY

C = np.geomspace(1e-6, 1e-1, 12) * PF_DAY


def laws(noise: float = 0.0, p: float = 0.27) -> list:
    """Return L(C_min), D(C_min) and L(D) fitted to points of the paper's Tables 5 and 6."""
    stream = np.random.default_rng(0)
    d = np.geomspace(1e7, 1e10, 12)
    tables = {
        "L_C_min": pd.DataFrame({"flops": C, "loss": (3.1e8 * PF_DAY / C) ** 0.050}),
        "D_opt_min": pd.DataFrame({"flops": C, "n_tokens": 2e10 * (C / PF_DAY) ** p}),
        "L_D": pd.DataFrame({"n_tokens": d, "loss": (5.4e13 / d) ** 0.095}),
    }
    fits = []
    for law, table in tables.items():
        response = FORMULAS[law].response
        table[response] *= np.exp(noise * stream.standard_normal(len(table)))
        fits.append(FORMULAS[law].fit(table, n_boot=200 if noise else 0))
    return fits


def test_paper_constants_give_the_published_point():
    point = crossing(*laws())
    assert point.flops / PF_DAY == pytest.approx(1.1e4, rel=0.02)
    assert point.n_params == pytest.approx(1.2e12, rel=0.1)  # D_e is 2e10 where 2 PF-day / (6 N_e) is 2.2e10
    assert point.n_tokens == pytest.approx(2.5e11, rel=0.03)
    assert point.loss == pytest.approx(1.67, abs=0.01)
    assert point.low is None and point.high is None


def test_both_losses_are_equal_there_and_the_interval_holds_the_estimate():
    fits = laws(noise=0.002)
    point = crossing(*fits)
    assert fits[2].predict(n_tokens=fits[1].predict(flops=point.flops)) == pytest.approx(point.loss, rel=1e-9)
    assert point.low < point.flops < point.high
    assert point.low < 1.13e4 * PF_DAY < point.high


def test_an_interval_is_open_where_draws_never_cross_and_lacking_where_they_are_unknown():
    fits = laws(noise=0.002)
    closed = crossing(*fits)
    slow = fits[0].draws.copy()
    slow[:20, 1] = 0.001  # a tenth of the draws: L(C_min) falls too slowly ever to meet L(D(C_min))
    found = crossing(replace(fits[0], draws=slow), *fits[1:])
    assert found.high is None and closed.low * 0.8 < found.low < found.flops
    few = fits[0].draws.copy()
    few[:2, 1] = 0.001
    assert crossing(replace(fits[0], draws=few), *fits[1:]).high > closed.flops
    unknown = fits[0].draws.copy()
    unknown[:20] = np.nan
    found = crossing(replace(fits[0], draws=unknown), *fits[1:])
    assert found.low is None and found.high is None and found.flops == closed.flops


def test_no_crossing_when_data_grow_fast_enough():
    assert crossing(*laws(p=0.6)) is None  # alpha_D p = 0.057 is above alpha_C = 0.050


def test_unidentified_law_is_named():
    fits = laws()
    fits[2] = replace(fits[2], identified=False, reason="one size only")
    with pytest.raises(UserError, match="L_D is not identified: one size only"):
        crossing(*fits)
