"""How fast the machine trains, and what a workflow says of the way that it has gone."""

import io
import json
import logging

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from pipeline.engines import speed
from pipeline.errors import UserError
from pipeline.plan import cost
from pipeline.plan.progress import Progress
from pipeline.plan.run import Run


def test_the_speed_is_what_the_engine_does_on_the_clock(monkeypatch):
    run = speed.model(32, "float32")
    ticks = iter(0.25 * k for k in range(1000))  # each look at the clock is a quarter of a second later
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(ticks))
    found = speed.factor(run, seconds=0.5)
    # The clock is read when it starts, after each step, and at the end: 2 steps take 0.75 s by it.
    done = 2 * run.batch_tokens * cost.count(run).flops_all / 0.75 / 1e9
    assert found == pytest.approx(done / cost.core_gflops(run))


def test_the_command_measures_every_width_and_is_read_again(capsys, monkeypatch):
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    assert speed.main(["--cores", "2", "--precision", "float32"]) == 0
    found = cost.Speed.from_json(capsys.readouterr().out)
    assert tuple(found.factors) == speed.WIDTHS
    assert all(factor > 0 for factor in found.factors.values())


def test_a_speed_that_cannot_be_measured_is_one_line():
    with pytest.raises(UserError, match=r"speed of this machine could not be measured: .*precision: 'float64'"):
        speed.measure(1, "float64")
    assert speed.main(["--cores", "0"]) == 2


def test_costs_follow_the_speed_of_the_machine_by_width():
    narrow, middle, wide = (
        Run(tokens="t", n_layer=2, d_model=d_model, n_vocab=512, n_steps=50_000, lr=0.01) for d_model in (16, 64, 256)
    )
    here = cost.Speed({32: 2.0, 128: 0.5})
    for run, factor in ((narrow, 2.0), (middle, 1.0), (wide, 0.5)):
        known, found = (seconds(run) - cost.STARTUP_SECONDS for seconds in (cost.seconds, here.seconds))
        assert found == pytest.approx(known / factor)


class Workflow:
    """Snakemake's logger as far as progress sees it, with a clock that is set by hand."""

    def __init__(self, jobs, cores):
        self.now, self.out = 0.0, io.StringIO()
        self.progress = Progress(jobs, cores, self.out, lambda: self.now)

    def event(self, at, event, **what):
        self.now = at
        record = logging.makeLogRecord({"event": event, "levelno": logging.INFO} | what)
        self.progress.handle(record)
        return self.out.getvalue().splitlines()


def test_progress_goes_by_planned_seconds_not_by_jobs():
    flow = Workflow({1: 10.0, 2: 10.0, 3: 980.0}, cores=1)
    assert flow.progress.planned() == 1000.0
    flow.event(0, LogEvent.JOB_STARTED, jobs=[1])
    (line,) = flow.event(10, LogEvent.JOB_FINISHED, job_id=1)
    assert line.endswith("1 % of the planned work, 16 minutes left")
    flow.event(10, LogEvent.JOB_STARTED, jobs=[3])
    # Job 3 takes twice as long as planned: it counts as done up to its plan, and the pace tells what is left.
    *_, line = flow.event(1970, LogEvent.JOB_FINISHED, job_id=3)
    assert line.endswith("99 % of the planned work, under a minute left")
    *_, line = flow.event(1980, LogEvent.JOB_FINISHED, job_id=2)
    assert line == f"[{'=' * 30}] 100 % of the planned work"


def test_a_job_on_its_way_counts_up_to_its_plan_and_the_pace_so_far_tells_what_is_left():
    flow = Workflow({1: 100.0, 2: 100.0, 3: 200.0}, cores=2)
    assert flow.progress.planned() == 200.0  # at least its longest job, and at least all of them by two
    flow.event(0, LogEvent.JOB_STARTED, jobs=[1, 3])
    (line,) = flow.event(200, LogEvent.JOB_FINISHED, job_id=1)
    # 100 s of job 1 and 200 s of job 3 are 3/4 of the plan after 200 s.
    assert line.endswith("75 % of the planned work, 1 minute left")


def test_what_is_no_job_of_the_plan_says_nothing():
    flow = Workflow({1: 100.0}, cores=1)
    assert flow.event(1, LogEvent.JOB_FINISHED, job_id=7) == []
    assert flow.event(1, LogEvent.PROGRESS, done=1, total=2) == []
    assert flow.event(1, None) == []
    assert json.dumps(Progress({}, 1).planned()) == "0.0"
