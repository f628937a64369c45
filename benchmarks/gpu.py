"""Training speed of one GPU: tokens per second and model-FLOPs utilisation, for runs alone and sharing the card.

    python -m benchmarks.gpu [--seconds 10]
    python -m benchmarks.gpu --device cpu --tiny --no-write      the same code on a CPU, with tiny shapes

N of about 1e5, 1e6, 1e7 and 1e8, n_ctx 1024, vocabulary 50,257, batches of 131,072 tokens, bfloat16. Each measurement
is so many processes at once (1, 2, 4, 8), each with its own model and as much of the card's memory as its part; they
warm up, start together and train for the same time, and their rates are summed. Utilisation is Table 1's FLOP of the
tokens (6 N + head + attention over the context) by the card's dense bfloat16 peak, where it is known. What does not fit
or fails is said in the table. Nothing was measured where this was written: no GPU was at hand.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import read_json, write_json
from pipeline.plan import placement
from pipeline.plan.counts import count
from pipeline.plan.run import Run

SHAPES = ((2, 64), (5, 128), (6, 384), (14, 768))
"""(n_layer, d_model) of N = 9.8e4, 9.8e5, 1.1e7 and 9.9e7."""
TINY_SHAPES = ((1, 16), (2, 16))
PROCESSES = (1, 2, 4, 8)
PEAKS = {"H200": 989e12, "H100": 989e12, "H800": 989e12, "A100": 312e12, "A800": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bfloat16 FLOP/s by a word of the card's name (SXM where there are several), of their data sheets."""
WARM_UP_STEPS = 8
"""Compiling, and the capture of the CUDA graph, come in these."""
RESULTS = Path(__file__).with_name("results.json")

Result = dict[str, Any]


def make_run(shape: Sequence[int], tiny: bool) -> Run:
    """Return the run of a shape, in the settings of the preset h100, or tiny ones."""
    n_layer, d_model = shape
    size = {"n_ctx": 16, "n_vocab": 64, "batch_sequences": 4} if tiny else {}
    size = size or {"n_ctx": 1024, "n_vocab": 50_257, "batch_sequences": 128}
    n_head = max(1, d_model // 64)
    return Run(
        tokens="benchmark", n_layer=n_layer, d_model=d_model, n_head=n_head, n_steps=10_000, lr=1e-3,
        precision="bfloat16", embedding_std=0.02, **size,
    )  # fmt: skip


def work(shape: Sequence[int], processes: int, device: str, tiny: bool, seconds: float, compile: bool | None) -> None:
    """Be one of the processes: get ready, say so, and on a line of standard input train for `seconds`."""
    import torch

    from pipeline.engines.torch_engine import TorchEngine

    run = make_run(shape, tiny)
    engine = TorchEngine(run, device, compile=compile, slots=placement.CARD_SLOTS // processes)
    rng = np.random.default_rng(os.getpid())
    batches = rng.integers(0, run.n_vocab, (8, run.batch_sequences, run.n_ctx + 1)).astype(np.uint16)

    def wait() -> None:
        if engine.device.type == "cuda":
            torch.cuda.synchronize()

    def train(steps: int) -> None:
        for step in range(steps):
            engine.step(batches[step % len(batches)], 1e-4)
        wait()

    train(WARM_UP_STEPS)
    start = time.perf_counter()
    train(2)
    steps = max(3, round(seconds / 4 * 2 / (time.perf_counter() - start)))  # between two looks at the clock
    print("ready", flush=True)
    sys.stdin.readline()
    taken, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        train(steps)
        taken += steps
    print(json.dumps({"tokens_per_second": taken * run.batch_tokens / (time.perf_counter() - start)}), flush=True)


def measure(shape: Sequence[int], processes: int, options: argparse.Namespace) -> Result:
    """Return a row of the table: the sum of the rates of processes that train at once."""
    run = make_run(shape, options.tiny)
    row: Result = {"shape": list(shape), "n_params": count(run).n_params, "processes": processes}
    request = {"shape": list(shape), "processes": processes, "device": options.device}
    request |= {"tiny": options.tiny, "seconds": options.seconds, "compile": options.compile}
    command = [sys.executable, "-m", "benchmarks.gpu", "--work", json.dumps(request)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    try:
        ready = [worker.stdout.readline().strip() == "ready" for worker in workers]
        if all(ready):
            for worker in workers:
                worker.stdin.write("go\n")
                worker.stdin.flush()
            answers = [worker.stdout.readline() for worker in workers]
            ready = [bool(line) for line in answers]
        if all(ready):
            rate = sum(json.loads(line)["tokens_per_second"] for line in answers)
            row |= {"tokens_per_second": round(rate), "flop_per_second": float(f"{rate * count(run).flops_all:.3g}")}
        else:
            failed = workers[ready.index(False)]
            row["failed"] = (failed.communicate()[1].strip().splitlines() or ["ended without a word"])[-1][:200]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    return row


def card() -> str | None:
    """Return the name of the first card, None where there is none."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def peak_of(name: str) -> float | None:
    """Return the dense bfloat16 FLOP/s of a card, None where it is not known.

    Examples
    --------
    >>> peak_of("NVIDIA H100 80GB HBM3"), peak_of("Some Card")
    (989000000000000.0, None)
    """
    return next((peak for word, peak in PEAKS.items() if word in name), None)


def table(results: Result) -> str:
    """Return the results as text."""
    peak = results["peak_flop_per_second"]
    lines = [f"{results['card']}, torch {results['torch']}; peak {f'{peak:.3g} FLOP/s' if peak else 'unknown'}"]
    lines.append(f"{'shape':>8} {'N':>9} processes {'tokens/s':>12} {'FLOP/s':>9} utilisation   gain")
    alone: dict[tuple, float] = {}
    for row in results["training"]:
        start = f"{'{},{}'.format(*row['shape']):>8} {row['n_params']:>9.2g} {row['processes']:>9}"
        if "failed" in row:
            lines.append(f"{start}  {row['failed']}")
            continue
        rate = row["tokens_per_second"]
        first = alone.setdefault(tuple(row["shape"]), rate)
        share = f"{row['flop_per_second'] / peak:.1%}" if peak else "-"
        lines.append(f"{start} {rate:>12,} {row['flop_per_second']:>9.3g} {share:>11} {rate / first:>6.2f}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it into results.json beside what other benchmarks wrote there."""
    from importlib.metadata import version

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu is for a test of this code")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one measurement")
    parser.add_argument("--processes", type=int, nargs="+", default=PROCESSES, help="at once: 1, 2, 4 or 8")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="by default as in training")
    parser.add_argument("--write", action=argparse.BooleanOptionalAction, default=True, help="into results.json")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.work:
        work(**options.work)
        return 0
    name = card() if options.device == "cuda" else "a CPU"
    if name is None:
        print("no GPU: torch sees no CUDA device here, nothing was measured", file=sys.stderr)
        return 2
    rows = []
    for shape in TINY_SHAPES if options.tiny else SHAPES:
        for processes in options.processes:
            rows.append(measure(shape, processes, options))
            print(f"{shape}, {processes}: {rows[-1].get('tokens_per_second', 'failed')}", file=sys.stderr)
    results = {
        "card": name,
        "torch": version("torch"),
        "peak_flop_per_second": peak_of(name),
        "seconds": options.seconds,
        "training": rows,
    }
    if options.write:
        write_json(RESULTS, (read_json(RESULTS) if RESULTS.exists() else {}) | {"gpu": results})
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
