"""The plan's costs against what the runs themselves say."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.plan import cost
from pipeline.plan.experiment import Experiment
from pipeline.plan.summary import render, sweep_costs, trunks_line

CONFIG = yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text(encoding="utf-8"))


def test_every_run_is_counted_once_and_extras_apart():
    rows = sweep_costs(CONFIG)
    extras = {"lr_scan", "precision"}
    members = {name: members for name, members in Experiment(CONFIG).sweeps.items() if name not in extras}
    runs = {member.run for sweep in members.values() for member in sweep}
    wanted = [row for row in rows if row["wanted"]]
    assert {row["sweep"] for row in rows if not row["wanted"]} == extras
    assert sum(row["new"] for row in wanted) == len(runs)
    assert sum(row["core_hours"] for row in wanted) == pytest.approx(sum(map(cost.seconds, runs)) / 3600)
    text = render(rows, cores=2)
    assert text.index("total") < text.index("Only when asked for by name") < text.index("lr_scan")


def test_a_figure_alone_plans_its_sweeps():
    rows = sweep_costs({**CONFIG, "figures": ["fig23"], "tables": []})
    assert [row["sweep"] for row in rows if row["wanted"]] == ["sizes"]


WSD = {"shape": [2, 32], "schedule": "wsd", "warmup_steps": 100}


def with_schedules(*variants):
    """Return the config with figure 22 alone, which reads the sweep schedules, made of wsd variants."""
    sweeps = CONFIG["sweeps"] | {"schedules": {"variants": [WSD | variant for variant in variants]}}
    return CONFIG | {"figures": ["fig22"], "tables": [], "sweeps": sweeps}


def schedules(config):
    return next(row for row in sweep_costs(config) if row["sweep"] == "schedules")


@pytest.fixture(autouse=True)
def one_schedule_is_enough(monkeypatch):
    from pipeline.plan import catalog

    monkeypatch.setattr(catalog, "check_least", lambda names, sweeps: None)


def test_a_trunk_is_counted_once():
    """Steps 1,000, 2,000 and 4,000: the trunk to 3,200, and a fifth of each."""
    row = schedules(with_schedules({"n_steps": [4000, 1000, 2000]}))
    assert (row["runs"], row["new"]) == (3, 3)
    assert row["tokens"] == (3200 + 200 + 400 + 800) * 1024
    alone = sum(schedules(with_schedules({"n_steps": steps}))["tokens"] for steps in (4000, 1000, 2000))
    assert alone == 7000 * 1024


def test_a_trunk_of_two_sweeps_is_counted_in_the_first():
    config = with_schedules({"n_steps": [1000, 2000]})
    config["sweeps"]["lr_scan"] = WSD | {"n_steps": 4000}
    extra = next(row for row in sweep_costs(config) if row["sweep"] == "lr_scan")
    assert extra["tokens"] == (3200 - 1600 + 800) * 1024


def test_the_plan_says_what_trunks_save():
    assert trunks_line(CONFIG) == ""
    line = trunks_line(with_schedules({"n_steps": [1000, 2000, 4000], "seed": [0, 1]}))
    assert re.fullmatch(
        r"Trunks: 2 for 6 runs that differ in length, ([\d.]+) core-hours in place of ([\d.]+), with [\d.]+ MB of "
        r"states in results/trunks\.\n",
        line,
    )
    assert "Trunks" not in trunks_line(with_schedules({"n_steps": 1000, "seed": [0, 1]}))


def test_a_warmup_that_grows_with_the_length_shares_no_trunk():
    config = with_schedules({"n_steps": [1000, 2000]})
    assert len(Experiment(config).trunks) == 1
    config["sweeps"]["schedules"]["variants"][0]["warmup"] = 0.1
    del config["sweeps"]["schedules"]["variants"][0]["warmup_steps"]
    assert Experiment(config).trunks == {}


def test_a_segment_waits_for_nothing_that_is_shorter_than_what_waits_for_it():
    """Its priority is the longest way behind it: it starts before a run that takes as long as that."""
    (trunk,) = Experiment(with_schedules({"n_steps": [1000, 2000, 4000]})).trunks.values()
    seconds = [trunk.seconds(point) for point in trunk.points]
    longest = max(trunk.runs, key=lambda run: run.n_steps)
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] == pytest.approx(trunk.segment(3200).seconds + cost.seconds(longest, 3200))
    assert seconds[0] - seconds[1] == pytest.approx(trunk.segment(800).seconds)
    assert seconds[0] > cost.seconds(longest)  # as many starts of a process more
