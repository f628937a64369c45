"""The second name of a finished run's files: kept, put back, forgotten."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.train import finished
from pipeline.train.__main__ import main


def arguments(run, tokens: Path, folder: Path, *options: str) -> list[str]:
    start = ["--run", run.to_json(), "--tokens", str(tokens), "--output", str(folder / "run" / "curve.parquet")]
    return [*start, "--scratch", str(folder / "scratch"), "--finished", str(folder / "finished"), *options]


@pytest.mark.parametrize("links", [True, False])
def test_files_that_were_deleted_are_put_back_without_training(
    links: bool, tiny_run, tiny_tokens, tmp_path: Path, monkeypatch, capsys
) -> None:
    """Also where the file system has no hard links."""
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    command = arguments(tiny_run(snapshots=3), tiny_tokens, tmp_path)
    assert main(command) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert before.keys() == {"curve.parquet", "model.safetensors", "snapshots.safetensors"}
    for name in before:
        assert os.path.samefile(tmp_path / "run" / name, tmp_path / "finished" / name) == links
    shutil.rmtree(tmp_path / "run")
    capsys.readouterr()
    monkeypatch.setattr("pipeline.train.__main__.Trainer", None)  # no training now
    assert main([*command, "--timing", str(tmp_path / "timing.json")]) == 0
    assert capsys.readouterr().err == "finished before: its files are put back\n"
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert not (tmp_path / "timing.json").exists()  # where the time went was said by the call that trained


def _no_links(source: Path, target: Path) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_run_that_is_not_whole_is_trained(tiny_run, tiny_tokens, tmp_path: Path, capsys) -> None:
    command = arguments(tiny_run(), tiny_tokens, tmp_path)
    assert main([*command, "--no-keep-weights"]) == 0
    assert main(command) == 0  # the weights are missing
    assert " 60 steps" in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_run_in_its_place_is_forgotten_and_one_that_is_lost_is_not(tmp_path: Path) -> None:
    finished.forget(tmp_path / "finished", tmp_path / "runs")  # nothing there: nothing to do
    for run in ("here", "lost"):
        curve = tmp_path / "runs" / run / "curve.parquet"
        curve.parent.mkdir(parents=True)
        curve.write_text(run)
        finished.keep(curve.parent, tmp_path / "finished" / run, [curve.name])
    (tmp_path / "runs" / "lost" / "curve.parquet").unlink()
    finished.forget(tmp_path / "finished", tmp_path / "runs")
    assert [path.name for path in (tmp_path / "finished").iterdir()] == ["lost"]
