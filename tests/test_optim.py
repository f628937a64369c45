"""Learning rates against their closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from pipeline.errors import UserError
from pipeline.plan.run import SCHEDULES, Run
from pipeline.train.optim import CYCLES, rate_at_step


def run(schedule: str, **fields) -> Run:
    base = {"tokens": "t", "n_layer": 1, "d_model": 8, "n_vocab": 64, "n_steps": 1000, "lr": 0.02, "warmup_steps": 100}
    return Run(**base | {"schedule": schedule} | fields)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warmup_is_linear_to_the_peak(schedule: str) -> None:
    rates = [rate_at_step(run(schedule), step) for step in (0, 1, 50, 100)]
    assert rates == pytest.approx([0, 0.0002, 0.01, 0.02])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 100])
def test_rates_stay_between_floor_and_peak(schedule: str, warmup: int) -> None:
    settings = run(schedule, lr_final=0.1, warmup_steps=warmup)
    rates = [rate_at_step(settings, step) for step in range(warmup + 1, 1001)]
    assert all(0.002 - 1e-12 <= rate <= 0.02 + 1e-12 for rate in rates)


@pytest.mark.parametrize(
    ("schedule", "final", "step", "expected"),
    [
        ("cosine", 0.0, 550, 0.01),
        ("cosine", 0.1, 325, 0.02 * (0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)),
        ("cosine", 0.0, 1000, 0.0),
        ("cosine", 0.1, 1000, 0.002),
        ("linear", 0.0, 325, 0.015),
        ("linear", 0.5, 1000, 0.01),
        ("constant", 0.0, 1000, 0.02),
        ("inverse_sqrt", 0.0, 400, 0.01),
        ("inverse_sqrt", 0.0, 900, 0.02 / 3),
        ("cosine_cycles", 0.0, 250, 0.01),  # halfway through the first of three cycles
        ("cosine_cycles", 0.0, 1000, 0.0),
        ("wsd", 0.0, 800, 0.02),  # the cooldown is the last 200 steps
        ("wsd", 0.0, 802, 0.018),
        ("wsd", 0.0, 850, 0.01),
        ("wsd", 0.0, 898, 0.006),
        ("wsd", 0.1, 850, 0.011),
        ("wsd", 0.0, 1000, 0.0),
        ("wsd", 0.1, 1000, 0.002),
        ("step", 0.0, 399, 0.02),
        ("step", 0.0, 401, 0.002),
        ("step", 0.0, 1000, 0.0002),
    ],
)
def test_closed_forms(schedule: str, final: float, step: int, expected: float) -> None:
    assert rate_at_step(run(schedule, lr_final=final), step) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("n_steps", "cooldown", "point"),
    [(1000, 0.2, 800), (999, 0.2, 799), (100, 0.29, 71), (10, 0.1, 9), (7, 0.3, 4), (50, 0.0, 50), (2, 0.9, 0)],
)
def test_a_cooldown_is_the_part_that_is_written(n_steps: int, cooldown: float, point: int) -> None:
    """To its branch point, rounded down, and not one step less because 1 - 0.29 is a little less than 0.71."""
    if point == 0:
        with pytest.raises(UserError, match=r"cooldown: 0.9 of 2 steps begins after step 0, not after the warmup"):
            run("wsd", n_steps=n_steps, cooldown=cooldown, warmup_steps=0)
        return
    settings = run("wsd", n_steps=n_steps, cooldown=cooldown, warmup_steps=0)
    rates = [rate_at_step(settings, step) for step in range(1, n_steps + 1)]
    assert settings.branch_point == point and rates[:point] == [0.02] * point
    assert all(one > other for one, other in pairwise(rates[point - 1 :]))
    assert rates[-1] == (0.0 if cooldown else 0.02)


def test_cycles_restart_at_the_peak() -> None:
    settings = run("cosine_cycles", warmup_steps=0, n_steps=999)
    rates = [rate_at_step(settings, step) for step in range(1, 1000)]
    jumps = [step for step, (a, b) in enumerate(pairwise(rates), start=2) if b > a]
    assert len(jumps) == CYCLES - 1
    assert all(rates[step - 1] > 0.0199 for step in jumps)


def test_no_warmup_starts_decaying_at_once() -> None:
    assert rate_at_step(run("linear", warmup_steps=0), 1) == pytest.approx(0.02 * 0.999)
