"""The law that made the points wins, and the wrong one leaves a trend."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.errors import UserError
from pipeline.laws import FORMULAS
from pipeline.laws.command.compare import compare, residual_structure, runs_test, table


def points(noise: float = 0.003) -> pd.DataFrame:
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e10, 7), np.geomspace(1e9, 1e12, 6)))
    loss = 1.8 + 480 / n**0.35 + 2085 / d**0.37
    return pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss}).assign(
        loss=lambda t: t.loss * np.exp(noise * np.random.default_rng(0).normal(size=len(t)))
    )


def test_the_planted_law_wins() -> None:
    right, wrong = compare(points(), {name: (FORMULAS[name], {}) for name in ("chinchilla", "L_N_D")}, hold_out=2)
    assert right.delta_aic == 0 < 50 < wrong.delta_aic
    assert right.held_out_rms_ln < 0.01 < wrong.held_out_rms_ln
    assert abs(right.structure["n_tokens"]["runs_z"]) < 2 < abs(wrong.structure["n_tokens"]["runs_z"])
    assert right.n_points == wrong.n_points == 30
    assert "chinchilla" in table([right, wrong])


def test_aic_is_the_normal_likelihoods() -> None:
    rows = points()
    one, other = compare(rows, {name: (FORMULAS[name], {}) for name in ("chinchilla", "L_N_D")})

    def exact(found, p):  # -2 ln likelihood + 2 p, the variance at its maximum
        sigma = found.rms_ln
        residual = np.full(len(rows), sigma)
        return -2 * stats.norm.logpdf(residual, scale=sigma).sum() + 2 * p

    assert other.aic - one.aic == pytest.approx(exact(other, 4) - exact(one, 5), rel=1e-9)


def test_a_law_without_an_optimum_has_no_numbers() -> None:
    n = np.geomspace(1e6, 1e9, 8)
    rows = pd.DataFrame({"n_params": n, "steps": [1e3, 1e4] * 4, "loss": (8.8e13 / n) ** 0.076})
    power, other = compare(rows.assign(n_tokens=20 * n), {name: (FORMULAS[name], {}) for name in ("L_N", "chinchilla")})
    assert power.identified and not other.found and not other.identified and "flat direction" in other.reason
    assert other.aic is None and other.delta_aic is None and other.structure == {}


def test_a_law_that_is_not_identified_has_its_numbers() -> None:
    n = np.geomspace(1e6, 1e9, 8)
    rows = pd.DataFrame({"n_params": n, "loss": (8.8e13 / n) ** 0.076})
    power, constant = compare(rows, {name: (FORMULAS[name], {}) for name in ("L_N", "power_plus_constant")})
    assert power.identified and constant.found and not constant.identified and constant.reason
    assert constant.rms_ln < 1e-9 and constant.aic is not None and constant.structure


def test_laws_of_another_response_are_refused() -> None:
    with pytest.raises(UserError, match="isoflop: it predicts n_params"):
        compare(points(), {name: (FORMULAS[name], {}) for name in ("chinchilla", "isoflop")})


def test_runs_test_against_its_exact_distribution() -> None:
    rng = np.random.default_rng(0)
    z = np.array([runs_test(rng.permutation(np.repeat([1.0, -1.0], 20)))[0] for _ in range(400)])
    assert abs(z.mean()) < 0.2 and z.std() == pytest.approx(1, abs=0.12)
    assert runs_test(np.ones(5)) == (None, None)


def test_structure_sees_a_slope() -> None:
    x = np.geomspace(1, 100, 30)
    shown = residual_structure(np.log(x) - np.log(x).mean(), pd.DataFrame({"n_params": x}))
    assert shown["n_params"]["correlation"] == pytest.approx(1) and shown["n_params"]["runs_z"] < -4
