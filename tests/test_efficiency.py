"""Appendix B against itself and against numbers that follow from the paper's constants."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from pipeline.laws.algebra.efficiency import (
    Laws,
    compute_ratio,
    excess_compute,
    excess_steps,
    minimum_compute,
    minimum_steps,
    size_ratio,
    steps_ratio,
    stop_bound,
)
from pipeline.units import PF_DAY

PAPER = Laws(alpha_N=0.077, N_c=6.5e13, alpha_S=0.76, S_c=2.1e3, alpha_B=0.21, B_star=2.1e8)


def test_the_ratios_of_appendix_b():
    assert size_ratio(0.1, 0.02, 0.076) == pytest.approx(2.70, abs=0.01)
    assert steps_ratio(0.1, 0.02, 0.76) == pytest.approx(0.133, abs=0.001)
    assert compute_ratio(0.1, 0.02, 0.076, 0.76) == pytest.approx(0.36, abs=0.01)


def test_the_cost_of_a_wrong_size():
    assert excess_compute([0.6, 2.2], 0.076, 0.76) == pytest.approx([1.164, 1.203], abs=0.001)
    assert excess_steps([0.6, 2.2], 0.076, 0.76) == pytest.approx([1.94, 0.547], abs=0.005)
    vanishes = 1.1 ** (-1 / 0.076)
    assert vanishes == pytest.approx(0.285, abs=0.001)
    assert np.isnan(excess_compute(vanishes * 0.999, 0.076, 0.76))
    assert np.isfinite(excess_compute(vanishes * 1.001, 0.076, 0.76))


def test_exponents():
    assert Laws(0.076, 1, 0.76, 1, 0.21, 1).alpha_C == pytest.approx(0.0520, abs=5e-5)
    assert PAPER.alpha_C == pytest.approx(0.0525, abs=5e-5)
    assert PAPER.alpha_C / PAPER.alpha_N == pytest.approx(0.68, abs=0.005)
    assert PAPER.alpha_C / PAPER.alpha_B == pytest.approx(0.25, abs=0.005)
    assert PAPER.alpha_C / PAPER.alpha_S == pytest.approx(0.07, abs=0.005)


def test_one_pf_day():
    assert pytest.approx(1.39e28, rel=0.01) == PAPER.C_c
    assert PAPER.efficient_size(PF_DAY) == pytest.approx(5.8e8, rel=0.02)
    assert PAPER.efficient_steps(PF_DAY) == pytest.approx(1.3e4, rel=0.03)
    assert PAPER.efficient_loss(PF_DAY) == pytest.approx(2.694, abs=0.003)


@pytest.mark.parametrize("flops", [1e15, 1e18, PF_DAY, 1e23])
def test_the_closed_forms_are_the_minimum_of_the_implicit_law(flops):
    best = minimize_scalar(
        lambda x: float(PAPER.loss(np.exp(x), flops)), bounds=(8, 30), method="bounded", options={"xatol": 1e-9}
    )
    assert best.fun == pytest.approx(float(PAPER.efficient_loss(flops)), rel=1e-6)
    assert np.exp(best.x) == pytest.approx(float(PAPER.efficient_size(flops)), rel=1e-3)


def test_compute_inverts_loss():
    n, c = np.array([1e6, 1e8, 1e9]), np.array([1e17, 1e19, 1e21])
    assert PAPER.compute(n, PAPER.loss(n, c)) == pytest.approx(c, rel=1e-9)
    assert np.isnan(PAPER.compute(1e6, 1.0))


def test_the_cost_of_a_wrong_size_follows_from_compute():
    size = float(PAPER.efficient_size(PF_DAY))
    loss = float(PAPER.efficient_loss(PF_DAY))
    ratio = np.array([0.5, 1.0, 3.0])
    direct = PAPER.compute(ratio * size, loss) / PAPER.compute(size, loss)
    assert direct == pytest.approx(excess_compute(ratio, PAPER.alpha_N, PAPER.alpha_S), rel=1e-6)


def test_c_min_is_6_n_b_crit_s_min():
    steps, batch, b_crit, n = 1e5, 2.0**19, 2e6, 1e8
    flops = 6 * n * batch * steps
    assert minimum_compute(flops, batch, b_crit) == pytest.approx(6 * n * b_crit * minimum_steps(steps, batch, b_crit))


def test_the_stopping_bound():
    assert stop_bound(2.7, 2.6, 2.1e3, 0.76) == pytest.approx(2.1e3 / 0.1 ** (1 / 0.76))
    assert stop_bound(2.6, 2.6, 2.1e3, 0.76) == np.inf


@pytest.mark.parametrize("batch", [2.0**14, 2.0**19, 2.0**24])
def test_loss_at_batch_solves_its_equation(batch):
    steps = np.array([1e3, 1e4, 1e5])
    loss = PAPER.loss_at_batch(1e8, steps, batch)
    s_min = minimum_steps(steps, batch, PAPER.B_star / loss ** (1 / PAPER.alpha_B))
    assert loss == pytest.approx((PAPER.N_c / 1e8) ** PAPER.alpha_N + (PAPER.S_c / s_min) ** PAPER.alpha_S, rel=1e-9)


def test_far_below_the_critical_batch_the_loss_is_that_of_its_compute():
    loss = PAPER.loss_at_batch(1e8, 1e9, 2.0**4)
    assert loss == pytest.approx(float(PAPER.loss(1e8, 6e8 * 1e9 * 2.0**4)), rel=1e-4)
