"""The plan's costs against what the runs themselves say."""

from pathlib import Path

import pytest
import yaml

from pipeline.plan import cost
from pipeline.plan.experiment import Experiment
from pipeline.plan.summary import render, sweep_costs

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
