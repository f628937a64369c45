"""The README's generated parts are those of the last results, and were not typed over."""

import json
import os
import re
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.report.readme import PARTS, experiment_wall, fill

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_equals_its_file(part):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- begin: {part} -->\n(.*?)\n<!-- end: {part} -->", readme, re.DOTALL)
    assert found[1] == (ROOT / f"docs/laptop/{part}.md").read_text(encoding="utf-8").strip()


def test_pictures_of_the_readme_are_there():
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL):
        assert (ROOT / picture).is_file()


def test_missing_marks_are_named():
    with pytest.raises(UserError, match="begin: x"):
        fill("nothing", {"x": "new"})


def write_record(logs: Path, job: str, begin: float, end: float) -> None:
    path = logs / f"{job}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"s": end - begin}) + "\n")
    os.utime(path, (end, end))


def test_time_of_the_experiment_leaves_interruptions_out(tmp_path):
    write_record(tmp_path, "fetch_corpus/news", 1000, 1060)
    write_record(tmp_path, "tokenize/laptop", 1060, 1400)
    write_record(tmp_path, "train/a", 1410, 1600)
    write_record(tmp_path, "trunk/b-80", 1420, 1500)
    jobs = [tmp_path / f"{job}.jsonl" for job in ("train/a", "trunk/b-80", "train/c")]
    assert experiment_wall(tmp_path, jobs).endswith("training: 10 minutes.")
    write_record(tmp_path, "train/c", 1600 + 3000, 1600 + 3300)
    assert experiment_wall(tmp_path, jobs).endswith("training: 15 minutes, without 50 in which it was interrupted.")
    with pytest.raises(UserError, match="train: no record"):
        experiment_wall(tmp_path, [tmp_path / "train/d.jsonl"])
