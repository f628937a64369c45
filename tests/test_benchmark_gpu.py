"""The benchmark of GPUs, on a CPU with tiny shapes: real processes, one table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_it_measures_processes_alone_and_together() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny", "--no-write", "--seconds", "0.2"]
    before = gpu.RESULTS.read_bytes()
    done = subprocess.run([*command, "--processes", "1", "2"], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    head, columns, *rows = done.stdout.splitlines()
    assert head.startswith("a CPU, torch ") and "utilisation" in columns
    assert [row.split()[2] for row in rows] == ["1", "2", "1", "2"]
    assert all(int(row.split()[3].replace(",", "")) > 0 for row in rows)
    assert gpu.RESULTS.read_bytes() == before


def test_a_failure_is_a_row(monkeypatch) -> None:
    options = gpu.argparse.Namespace(device="tpu", tiny=True, seconds=0.1, compile=None)
    monkeypatch.chdir(ROOT)
    row = gpu.measure((1, 16), 1, options)
    assert "tpu" in row["failed"] and "tokens_per_second" not in row
    results = {"card": "NVIDIA H100", "torch": "2", "peak_flop_per_second": 1e12, "training": [row]}
    assert row["failed"] in gpu.table(results)


def test_without_a_card_it_says_so_in_one_line(monkeypatch, capsys) -> None:
    monkeypatch.setattr(gpu, "card", lambda: None)
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == "no GPU: torch sees no CUDA device here, nothing was measured\n"


def test_the_shapes_are_the_sizes_that_are_named() -> None:
    sizes = [gpu.count(gpu.make_run(shape, tiny=False)).n_params for shape in gpu.SHAPES]
    assert sizes == pytest.approx([1e5, 1e6, 1e7, 1e8], rel=0.1)
