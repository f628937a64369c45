"""Trunks in the workflow: what is planned, what is trained, and that what is finished stays so.

Real workflows on token files of a small language.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config
from test_workflow import ROOT, snakemake

from pipeline.files import read_json, write_json
from pipeline.plan.config import check_config, config_files
from pipeline.plan.experiment import Experiment
from pipeline.plan.run import Run
from pipeline.train.__main__ import main as train

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]

BASE = {
    "data": {"vocabulary": 64, "tokenizer": "characters", "min_train_tokens": 50_000, "min_test_tokens": 5_000},
    "training": {"test_tokens": 512, "batch_sequences": 4},
}
TABLE = "results/test/sweeps/mine.parquet"


class Workplace:
    """A folder with token files, in which workflows run."""

    def __init__(self, folder: Path, tokens: Path) -> None:
        self.folder = folder
        self.tokens = folder / "results/tokens" / self.experiment([50]).tokens_id
        shutil.copytree(tokens, self.tokens)
        write_json(self.tokens / "meta.json", read_json(self.tokens / "meta.json") | {"entropy_rate": None})

    def override(self, lengths: list[int]) -> dict:
        mine = {"shape": [1, 16], "schedule": "wsd", "warmup_steps": 5, "n_steps": lengths}
        return BASE | {"sweeps": {"mine": mine}}

    def experiment(self, lengths: list[int]) -> Experiment:
        config: dict = {}
        for path in config_files(ROOT, "test"):
            update_config(config, yaml.safe_load(path.read_text(encoding="utf-8")))
        update_config(config, self.override(lengths))
        checked = check_config(config, ROOT / "rules/config.schema.yaml")
        return Experiment(checked, self.folder / "hashes.json")

    def run(self, lengths: list[int], *options: str, target: str = TABLE) -> str:
        """Run a workflow to the table of the sweep, and return what it printed."""
        path = self.folder / "override.yaml"
        path.write_text(yaml.safe_dump(self.override(lengths)))
        start = ["--cores", "2", target, "--configfile", str(path), "--config", "preset=test"]
        done = snakemake(*start, *options, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def jobs(self, lengths: list[int], *options: str, target: str = TABLE) -> list[str]:
        """Return what would be trained: run-<steps>, and trunk-<step> for a segment."""
        said = self.run(lengths, *options, "--dry-run", target=target)
        runs = re.findall(r"rule train:.*?wildcards: run=\S+-s(\d+)-", said, re.S)
        segments = re.findall(r"rule trunk:.*?wildcards: trunk=\S+, step=(\d+)", said, re.S)
        return sorted([*{f"run-{steps}" for steps in runs}, *{f"trunk-{step}" for step in segments}])

    def runs(self, lengths: list[int]) -> list[Run]:
        return [member.run for member in self.experiment(lengths).sweeps["mine"]]

    def curve(self, run: Run) -> Path:
        return self.folder / "results/runs" / run.id / "curve.parquet"

    def remove_trunks(self) -> None:
        shutil.rmtree(self.folder / "results/trunks")


@pytest.fixture
def place(tiny_tokens: Path, tmp_path: Path) -> Workplace:
    return Workplace(tmp_path, tiny_tokens)


@pytest.fixture
def times() -> Callable[[Workplace], dict[str, int]]:
    """A function that returns when each curve was written."""
    return lambda place: {path.parent.name: path.stat().st_mtime_ns for path in place.folder.glob("results/runs/*/c*")}


def test_lengths_share_a_trunk_and_nothing_finished_is_made_again(place: Workplace, times, tmp_path: Path) -> None:
    # Two lengths: a segment to each branch point, and the runs.
    assert place.jobs([50, 100]) == ["run-100", "run-50", "trunk-40", "trunk-80"]
    place.run([50, 100])
    for run in place.runs([50, 100]):
        folder = tmp_path / "alone" / run.id
        start = ["--run", run.to_json(), "--tokens", str(place.tokens), "--output", str(folder / "curve.parquet")]
        assert train([*start, "--scratch", str(tmp_path / "scratch")]) == 0
        for name in ("curve.parquet", "model.safetensors"):
            assert (folder / name).read_bytes() == place.curve(run).with_name(name).read_bytes()
    assert place.jobs([50, 100]) == []
    finished = times(place)

    # Other lengths make what is new alone: a longer one, a shorter one, one in between, and fewer.
    assert place.jobs([50, 100, 200]) == ["run-200", "trunk-160"]
    assert place.jobs([25, 50, 100]) == ["run-25", "trunk-20"]
    assert place.jobs([50, 75, 100]) == ["run-75", "trunk-60"]
    assert place.jobs([100]) == place.jobs([50]) == []
    place.run([50, 75, 100])
    assert place.jobs([50, 75, 100]) == place.jobs([50, 100]) == place.jobs([50, 75]) == []

    # By name a stage is made again, from the states that are there.
    assert place.jobs([50, 100], "--forcerun", "train") == ["run-100", "run-50"]
    assert place.jobs([50, 100], "--forcerun", "trunk") == ["run-100", "run-50", "trunk-40", "trunk-80"]

    # Without the states what is finished stays so, also beside a run that needs them.
    place.remove_trunks()
    assert place.jobs([50, 75, 100]) == []
    assert place.jobs([50, 100], "--forcerun", "train") == ["run-100", "run-50"]
    assert place.jobs([50, 100, 200]) == ["run-200", "trunk-160", "trunk-40", "trunk-80"]
    place.run([50, 100, 200])
    assert place.jobs([50, 75, 100, 200]) == []
    assert {name: when for name, when in times(place).items() if name in finished} == finished


def test_a_run_by_itself_is_one_job_and_another_length_leaves_it_alone(place: Workplace, times) -> None:
    assert place.jobs([100]) == ["run-100"]
    place.run([100])
    finished = times(place)
    assert not (place.folder / "results/trunks").exists()
    assert place.jobs([50, 100]) == ["run-50", "trunk-40"]
    place.run([50, 100])
    # Now its own state may be made for a longer one: it is no reason to train it again.
    place.run([50, 100, 200])
    assert place.jobs([50, 100, 200]) == []
    assert {name: when for name, when in times(place).items() if name in finished} == finished


def test_a_state_that_is_lost_while_its_run_is_not_finished_is_made_again(place: Workplace) -> None:
    place.run([50, 100])
    (run,) = place.runs([100])
    place.curve(run).unlink()
    curve = str(place.curve(run).relative_to(place.folder))
    assert place.jobs([50, 100], target=curve) == ["run-100"]
    place.remove_trunks()
    assert place.jobs([50, 100], target=curve) == ["run-100", "trunk-40", "trunk-80"]


def test_the_graph_shows_the_trunk(place: Workplace) -> None:
    graph = place.run([50, 100], "--dag", "dot")
    names = dict(re.findall(r'(\d+)\[label = "(\w+)[^"]*"', graph))
    arrows = [(names[one], names[other]) for one, other in re.findall(r"(\d+) -> (\d+)", graph)]
    assert arrows.count(("trunk", "train")) == 2
    assert arrows.count(("trunk", "trunk")) == 1
