"""The gradient noise scale against problems whose gradients are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.train.noise import NoiseScale


def planted(batch: int, steps: int, seed: int) -> tuple[NoiseScale, float]:
    """Sample gradients of sequences with known mean G and covariance Sigma; return the estimate and B_simple."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=40)
    spread = rng.uniform(0.5, 4.0, size=40)  # of each component: Sigma is diagonal
    scale = NoiseScale()
    for _ in range(steps):
        gradients = mean + spread * rng.normal(size=(batch, 40))
        halves = gradients[: batch // 2].mean(0), gradients[batch // 2 :].mean(0)
        scale.add((sum(half @ half for half in halves) / 2, float(np.sum(gradients.mean(0) ** 2))), batch)
    return scale, float(np.sum(spread**2) / (mean @ mean))


@pytest.mark.parametrize("batch", [2, 5, 16])
def test_planted_scale_is_found(batch: int) -> None:
    scale, truth = planted(batch, steps=4000, seed=batch)
    assert scale.tokens(n_ctx=1) == pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize("batch", [2, 5, 16])
def test_both_parts_are_unbiased(batch: int) -> None:
    """Numerator and denominator must each be right in the mean, one step at a time."""
    rng = np.random.default_rng(7)
    squares, traces = [], []
    for _ in range(3000):
        gradients = np.array([1.0, 0.0]) + np.array([2.0, 1.0]) * rng.normal(size=(batch, 2))
        halves = gradients[: batch // 2].mean(0), gradients[batch // 2 :].mean(0)
        scale = NoiseScale()
        scale.add((sum(half @ half for half in halves) / 2, float(np.sum(gradients.mean(0) ** 2))), batch)
        squares.append(scale.square)
        traces.append(scale.trace)
    for values, truth in ((squares, 1.0), (traces, 5.0)):
        assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / math.sqrt(len(values)))


def test_ratio_of_means_and_not_mean_of_ratios() -> None:
    scale = NoiseScale()
    scale.add((4.0, 2.5), batch_sequences=4)  # |G|^2 = 1, tr = 6
    scale.add((8.0, 5.5), batch_sequences=4)  # |G|^2 = 3, tr = 10
    assert scale.tokens(n_ctx=10) == pytest.approx(10 * 16 / 4)


def test_nothing_measured_and_no_signal_are_nan() -> None:
    assert math.isnan(NoiseScale().tokens(n_ctx=8))
    scale = NoiseScale()
    scale.add((4.0, 1.0), batch_sequences=4)  # the whole batch's gradient is all noise
    assert math.isnan(scale.tokens(n_ctx=8))
