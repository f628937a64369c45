"""Profile-likelihood intervals against closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from pipeline.laws import FORMULAS
from pipeline.laws.fitting.estimate import Objective
from pipeline.laws.fitting.forms import Axis, PowerSum
from pipeline.laws.fitting.likelihood import deviance, profile_intervals


def test_interval_of_a_line_is_that_of_student() -> None:
    rng = np.random.default_rng(0)
    n = np.geomspace(1e4, 1e9, 10)
    y = (8.8e13 / n) ** 0.076 * np.exp(0.01 * rng.normal(size=10))
    model = PowerSum([Axis(n)])
    x = -model.axes[0].x
    found = stats.linregress(x, np.log(y))
    theta = np.array([found.intercept, found.slope])
    (low, high), *_ = profile_intervals(
        model, y, theta, np.ones(10), Objective("mse_log"), np.array([[0.0, 1.0], [1.0, 0.0]])
    )
    half = stats.t.ppf(0.975, 8) * found.stderr
    assert [low, high] == pytest.approx([found.slope - half, found.slope + half], rel=1e-4)


def test_deviance_of_huber_is_the_likelihood_ratio() -> None:
    delta, n = 1e-3, 50
    objective = Objective("huber", delta)

    def log_likelihood(total: float) -> float:
        def one(s: float) -> float:
            rho = lambda r: objective.total(np.array([[r]]), np.ones((1, 1)))[0]  # noqa: E731
            norm = 2 * sum(
                integrate.quad(lambda r: np.exp(-rho(r) / s), a, b)[0] for a, b in ((0, delta), (delta, 0.2))
            )
            return -total / s - n * np.log(norm)

        return max(one(s) for s in total / n * np.geomspace(0.5, 2, 81))

    found = deviance(np.array([4e-4, 5e-4]), 4e-4, n, 5, objective)
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[1] == pytest.approx(2 * (log_likelihood(4e-4) - log_likelihood(5e-4)), rel=2e-3)


@pytest.mark.parametrize("objective", ["huber", "mse_log"])
def test_chinchilla_has_both_intervals(objective: str) -> None:
    rng = np.random.default_rng(1)
    n = np.exp(rng.uniform(np.log(5e7), np.log(1e10), 120))
    d = n * np.exp(rng.uniform(0, np.log(300), 120))
    loss = (1.82 + 482 / n**0.348 + 2085 / d**0.366) * np.exp(0.005 * rng.normal(size=120))
    fit = FORMULAS["chinchilla"].fit(pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss}), objective, n_boot=200)
    for name, e in fit.parameters.items():
        low, high = fit.likelihood[name]
        assert low < e.estimate < high
        assert np.log(high / low) / np.log(e.high / e.low) == pytest.approx(1, abs=0.5), name
