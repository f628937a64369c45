"""Ends of intervals from planted draws."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.laws.fitting.intervals import interval, interval_ends


@pytest.mark.parametrize("n", [39, 79, 119])
def test_the_next_draw_is_inside_as_often_as_said(n: int) -> None:
    draws = np.random.default_rng(n).normal(size=(n + 1, 20_000))
    low, high = interval_ends(draws[:n])
    assert np.mean((low <= draws[n]) & (draws[n] <= high)) == pytest.approx(0.95, abs=0.005)
    low, high = np.quantile(draws[:n], [0.025, 0.975], axis=0)  # the usual rule is narrower
    assert np.mean((low <= draws[n]) & (draws[n] <= high)) < 0.945


def test_many_draws_give_the_quantiles_of_the_distribution() -> None:
    draws = np.random.default_rng(0).normal(size=200_000)
    assert interval_ends(draws) == pytest.approx([-1.96, 1.96], abs=0.02)
    assert interval_ends(draws, 0.5) == pytest.approx([-0.6745, 0.6745], abs=0.02)


@pytest.mark.parametrize("shape", [(1,), (2,), (40,), (333, 2, 3)])
def test_finite_draws_have_the_quantiles_of_numpy(shape: tuple[int, ...]) -> None:
    draws = np.random.default_rng(1).normal(size=shape)
    assert np.allclose(interval_ends(draws), np.quantile(draws, [0.025, 0.975], axis=0, method="weibull"), atol=1e-14)


def test_a_draw_in_twenty_may_have_no_value() -> None:
    draws = np.random.default_rng(2).normal(size=(100, 3))
    draws[:5, 1], draws[:6, 2] = np.nan, np.nan
    low, high = interval_ends(draws)
    assert np.isnan([low[2], high[2]]).all()
    for k, first in ((0, 0), (1, 5)):
        assert [low[k], high[k]] == list(interval_ends(draws[first:, k]))  # without them, nothing else changes
    assert interval(draws[:, 2]) == interval([]) == interval([np.nan]) == (None, None)


def test_an_end_among_infinite_draws_is_open() -> None:
    draws = np.arange(200.0)
    draws[-2:] = np.inf
    assert interval(draws)[1] == pytest.approx(0.975 * 201 - 1)  # one in a hundred is beyond the end
    draws[-5:] = np.inf
    low, high = interval(draws)
    assert low == pytest.approx(0.025 * 201 - 1) and high is None
    assert interval_ends(-draws)[0] == -np.inf
    assert interval_ends([*range(30), np.inf])[1] == np.inf  # the end lies between a number and infinity
    assert list(interval_ends([-np.inf, np.inf])) == [-np.inf, np.inf]
