"""The compute frontier and the critical batch size against planted truth."""

import numpy as np
import pandas as pd
import planted
import pytest

from pipeline.analysis.inputs import Inputs
from pipeline.analysis.points import curves_at_fixed_batch, ends
from pipeline.errors import UserError
from pipeline.laws.formulas.critical_batch import fit_levels, loss_levels, scan_points
from pipeline.laws.formulas.frontier import frontier


def curves(sizes, alpha_n=0.1, alpha_s=0.5, batch=1024):
    step = np.unique(np.geomspace(1, 3e5, 80).astype(int))
    for n in sizes:
        loss = (1e8 / n) ** alpha_n + (500 / step) ** alpha_s
        yield pd.DataFrame(
            {
                "run": f"run-{n}",
                "n_params": n,
                "step": step,
                "n_tokens": step * batch,
                "flops": 6.0 * n * step * batch,
                "loss": loss,
            }
        )


def test_the_frontier_is_where_the_best_of_all_sizes_lies():
    sizes = np.geomspace(1e4, 1e7, 25)
    points = frontier(pd.concat(curves(sizes)))
    every = np.geomspace(1e4, 1e7, 4001)
    for point in points.itertuples():
        losses = (1e8 / every) ** 0.1 + (500 * 6 * every * 1024 / point.flops) ** 0.5
        assert point.n_params == pytest.approx(every[losses.argmin()], rel=0.1)
        assert point.loss == pytest.approx(losses.min(), rel=2e-3)
        assert point.steps == pytest.approx(point.flops / (6 * point.n_params * 1024), rel=1e-3)
        assert point.n_tokens == pytest.approx(1024 * point.steps, rel=1e-6)


def test_the_exponent_of_the_optimal_size():
    points = frontier(pd.concat(curves(np.geomspace(1e4, 1e7, 25).astype(int))))
    slope, _ = np.polyfit(np.log(points.flops), np.log(points.n_params), 1)
    assert slope == pytest.approx(0.5 / 0.6, abs=0.005)


def test_few_sizes_make_no_stairs():
    """The best of eight sizes goes up in stairs; a line through their ends would be off by a tenth."""
    points = frontier(pd.concat(curves(np.geomspace(1e4, 1e7, 8).astype(int))))
    slope, _ = np.polyfit(np.log(points.flops), np.log(points.n_params), 1)
    assert slope == pytest.approx(0.5 / 0.6, abs=0.02)


def test_the_smallest_and_the_largest_model_are_not_optima():
    points = frontier(pd.concat(curves([10**4, 10**5, 10**6, 10**7])))
    assert set(points.run) == {"run-100000", "run-1000000"}


def test_a_size_that_leads_because_smaller_ones_have_ended_is_no_optimum():
    """All sizes trained for 5,000 steps: beyond their ends larger and larger ones lead, whatever the best size is."""
    whole = pd.concat(curves(np.geomspace(1e4, 1e7, 25).astype(int)))
    points = frontier(whole[whole.step <= 5000])
    beyond = 6 * 1024 * 5000 * points.n_params  # compute at which a size of this many parameters ends
    assert (points.flops < beyond).all()
    slope, _ = np.polyfit(np.log(points.flops), np.log(points.n_params), 1)
    assert slope == pytest.approx(0.5 / 0.6, abs=0.03)


def test_two_sizes_make_no_frontier():
    with pytest.raises(UserError, match="at no compute does the best size lie between two others"):
        frontier(pd.concat(curves([10**4, 10**6])))


def test_one_size_between_the_ends_is_no_trend():
    with pytest.raises(UserError, match=r"1e\+06 alone is a best size between two others"):
        frontier(pd.concat(curves([10**4, 10**6, 10**8])))


def test_a_curve_that_does_not_fall_is_no_rival():
    """A run that stays at its first loss leaves the frontier of the others as it is, however low that is."""
    falls = pd.concat(curves([10**4, 10**5, 10**6, 10**7]))
    still = falls[falls.n_params == 10**6].assign(run="still", n_params=10**8, loss=0.5)
    pd.testing.assert_frame_equal(frontier(pd.concat([falls, still])), frontier(falls))


def scan(batches, b_star=2e7, alpha_b=0.25, noise=0.0, seed=0):
    """Curves whose steps to reach L are S_min(L) (1 + B_crit(L) / B)."""
    rng = np.random.default_rng(seed)
    loss = np.geomspace(6, 3, 80)
    s_min = 300 / (loss - 2.5) ** 2
    b_crit = b_star / loss ** (1 / alpha_b)
    for batch in batches:
        step = s_min * (1 + b_crit / batch) * np.exp(noise * rng.standard_normal())
        yield pd.DataFrame(
            {"run": f"b{batch}", "n_params": 1e5, "batch_tokens": batch, "step": step, "warmup_steps": 0, "loss": loss}
        )


def test_planted_critical_batch_is_found_at_every_level():
    table = pd.concat(scan([256, 1024, 4096, 16384, 65536, 262144]))
    levels = loss_levels(table)
    fits = fit_levels(scan_points(table, levels))
    assert fits.identified.all()
    assert fits.b_crit.to_numpy() == pytest.approx(2e7 / fits.loss.to_numpy() ** 4, rel=0.02)
    assert fits.s_min.to_numpy() == pytest.approx(300 / (fits.loss.to_numpy() - 2.5) ** 2, rel=0.02)


def test_the_interval_covers_the_truth():
    covered = []
    for seed in range(60):
        table = pd.concat(scan([1024, 4096, 16384, 65536, 262144, 1048576], noise=0.1, seed=seed))
        fits = fit_levels(scan_points(table, np.array([4.0])))
        truth = 2e7 / 4.0**4
        covered.append(bool((fits.low <= truth).all() and (truth <= fits.high).all()))
    assert 0.85 <= np.mean(covered) <= 1.0


def test_batches_on_one_side_are_not_identified():
    table = pd.concat(scan([2**p for p in (24, 25, 26, 27, 28)]))
    fits = fit_levels(scan_points(table, np.array([4.0])))
    assert not fits.identified.any()
    assert fits.b_crit.isna().all()
    assert "one side" in fits.reason[0] or "do not bend" in fits.reason[0]


def test_a_level_that_few_batches_reach_is_not_identified():
    fits = fit_levels(scan_points(pd.concat(scan([1024, 4096, 16384])), np.array([4.0])))
    assert fits.reason[0] == "3 batch sizes reach it, 4 are needed"


def test_a_cooldown_is_no_part_of_a_learning_curve():
    """Its losses fall below the curve, by what the rate's end gives; L(N) is read there."""
    given = Inputs.of({"sizes": planted.sizes(seeds=(0,), schedule="wsd", cooldown=0.25)})
    curves, last = curves_at_fixed_batch(given), ends(given)
    assert set(curves["run"]) == set(last["run"])
    assert (curves["step"] <= 0.75 * curves["n_steps"]).all() and (curves["step"] > curves["warmup_steps"]).all()
    assert (curves.groupby("run")["step"].max() > 0.6 * curves.groupby("run")["n_steps"].first()).all()
    assert (last["step"] == last["n_steps"]).all()
    cosine = Inputs.of({"sizes": planted.sizes(seeds=(0,))})
    assert set(ends(cosine)["step"]) <= set(curves_at_fixed_batch(cosine)["step"])
