"""Training speed of the whole machine: the native engine against a plain loop, in turns.

Ours is one process of one thread for each core, all at once; plain is one process of torch in eager mode with a thread
for each core: same model, weights, batch, context, vocabulary and optimizer, one step after the other. With
NANOGPT=path, a checkout of nanoGPT runs its own model in the same loop. The machine's own matrix products (torch.mm,
all cores, the better of 1024 and 2048 square) are measured in between, in float32 and bfloat16.

`predicted` is what pipeline/plan/cost.py expects of this machine, over what was measured.

Every number is the median of the rounds; compare only numbers of one run. Shapes are (n_layer, d_model); FLOP are
counted as 6 (N + n_vocab d_model) + 6 n_layer n_ctx d_model a token.

    python -m benchmarks.training [--rounds 3] [--seconds 1] [--shapes 2,32 2,64]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import read_json, write_json
from pipeline.plan.cost import core_gflops
from pipeline.plan.run import Run

SHAPES = ((1, 16), (2, 32), (2, 64), (2, 96), (2, 128), (2, 160), (2, 192), (4, 128), (6, 256))
"""The sizes of the laptop experiment, and two above."""
N_VOCAB, N_CTX, BATCH, HEAD = 512, 128, 8, 32
PRECISIONS = ("float32", "bfloat16")
RESULTS = Path(__file__).with_name("results.json")

Result = dict[str, Any]


def make_run(shape: Sequence[int], precision: str = "float32") -> Run:
    """Return the run of a shape, in the settings of the laptop experiment."""
    n_layer, d_model = shape
    return Run(
        tokens="benchmark",
        n_layer=n_layer,
        d_model=d_model,
        n_head=max(1, d_model // HEAD),
        n_ctx=N_CTX,
        n_vocab=N_VOCAB,
        batch_sequences=BATCH,
        n_steps=1000,
        lr=0.003,
        precision=precision,
    )


def flops_per_token(run: Run) -> float:
    """Return the FLOP of a training step by token.

    Examples
    --------
    >>> flops_per_token(make_run((2, 64)))
    884736
    """
    matrices = 12 * run.n_layer * run.d_model**2 + run.n_vocab * run.d_model
    return 6 * matrices + 6 * run.n_layer * run.n_ctx * run.d_model


def batches(run: Run, count: int = 8) -> list[np.ndarray]:
    """Return token batches that repeat: a text that can be learnt, so that losses mean something."""
    rng = np.random.default_rng(0)
    text = rng.integers(0, run.n_vocab, 4096)
    starts = rng.integers(0, len(text) - run.n_ctx - 1, (count, run.batch_sequences))
    return [text[start[:, None] + np.arange(run.n_ctx + 1)].astype(np.uint16) for start in starts]


def native_step(run: Run) -> Callable[[np.ndarray], float]:
    """Return our step: tokens -> loss."""
    from pipeline.engines.native import NativeEngine

    engine = NativeEngine(run)
    return lambda tokens: engine.step(tokens, run.lr).loss


def plain_step(run: Run) -> Callable[[np.ndarray], float]:
    """Return the step of the plain loop."""
    from pipeline.engines.torch_engine import TorchEngine

    engine = TorchEngine(run, "cpu", os.cpu_count() or 1)
    return lambda tokens: engine.step(tokens, run.lr).loss


def nanogpt_step(run: Run) -> Callable[[np.ndarray], float]:
    """Return the step of nanoGPT's model in its own loop, without gradient accumulation."""
    import torch

    sys.path.insert(0, os.environ["NANOGPT"])
    from model import GPT, GPTConfig  # of nanoGPT

    torch.set_num_threads(os.cpu_count() or 1)
    config = GPTConfig(
        block_size=run.n_ctx,
        vocab_size=run.n_vocab,
        n_layer=run.n_layer,
        n_head=run.n_head,
        n_embd=run.d_model,
        dropout=0.0,
        bias=False,
    )
    model = GPT(config)
    optimizer = model.configure_optimizers(run.weight_decay, run.lr, (run.beta1, run.beta2), "cpu")

    def step(tokens: np.ndarray) -> float:
        batch = torch.from_numpy(tokens.astype(np.int64))
        _, loss = model(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), run.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


STEPS = {"ours": native_step, "plain": plain_step, "nanogpt": nanogpt_step}


def training_rate(kind: str, shape: Sequence[int], precision: str, seconds: float) -> Result:
    """Return tokens per second over `seconds`, after a few steps, and the losses of the first 20 steps."""
    run = make_run(shape, precision)
    step, data = STEPS[kind](run), batches(run)
    losses = [step(data[i % len(data)]) for i in range(20)]
    taken, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        step(data[taken % len(data)])
        taken += 1
    return {"tokens_per_second": taken * run.batch_tokens / elapsed, "losses": losses}


def matrix_rate(dtype: str, seconds: float) -> Result:
    """Return the FLOP/s of a square matrix product on all cores, the better of two sizes."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    best = 0.0
    for size in (1024, 2048):
        a, b = (torch.ones(size, size, dtype=getattr(torch, dtype)) for _ in range(2))
        torch.mm(a, b)
        taken, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds / 2:
            torch.mm(a, b)
            taken += 1
        best = max(best, 2 * size**3 * taken / elapsed)
    return {"flop_per_second": best}


def work() -> None:
    """Answer requests, one JSON line each: how the processes that measure are told what to do."""
    for line in sys.stdin:
        request = json.loads(line)
        function = {"training": training_rate, "matrix": matrix_rate}[request.pop("measure")]
        with contextlib.redirect_stdout(sys.stderr):  # nanoGPT talks
            result = function(**request)
        print(json.dumps(result), flush=True)


class Worker:
    """A process that measures when asked, and sleeps otherwise."""

    def __init__(self, threads: int) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training", "--work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **request: Any) -> None:
        """Start a measurement."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Result:
        """Wait for its result."""
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("benchmarks: a process that measures ended; its error is above")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def together(workers: Sequence[Worker], **request: Any) -> list[Result]:
    """Let workers measure the same at the same time."""
    for worker in workers:
        worker.ask(**request)
    return [worker.answer() for worker in workers]


def measure(shapes: Sequence[Sequence[int]], rounds: int, seconds: float) -> Result:
    """Return the table: a row by shape and precision, and the rates of the machine's matrix products."""
    cores = os.cpu_count() or 1
    ours, plain = [Worker(1) for _ in range(cores)], Worker(cores)
    rates: dict[tuple, list[float]] = {}
    losses: dict[tuple, list[float]] = {}
    kinds = ["plain", "nanogpt"] if os.environ.get("NANOGPT") else ["plain"]
    try:
        for _ in range(rounds):
            for dtype in ("float32", "bfloat16"):
                (result,) = together([plain], measure="matrix", dtype=dtype, seconds=seconds)
                rates.setdefault(("matrix", dtype), []).append(result["flop_per_second"])
            for shape in shapes:
                for precision in PRECISIONS:
                    results = together(
                        ours, measure="training", kind="ours", shape=shape, precision=precision, seconds=seconds
                    )
                    key = ("ours", tuple(shape), precision)
                    rates.setdefault(key, []).append(sum(result["tokens_per_second"] for result in results))
                    losses[key] = results[0]["losses"]
                for kind in kinds:
                    (result,) = together(
                        [plain], measure="training", kind=kind, shape=shape, precision="float32", seconds=seconds
                    )
                    key = (kind, tuple(shape), "float32")
                    rates.setdefault(key, []).append(result["tokens_per_second"])
                    losses[key] = result["losses"]
    finally:
        for worker in [*ours, plain]:
            worker.close()
    matrix = {dtype: statistics.median(rates["matrix", dtype]) for dtype in ("float32", "bfloat16")}
    rows = []
    for shape in shapes:
        plain_key = ("plain", tuple(shape), "float32")
        for precision in PRECISIONS:
            key = ("ours", tuple(shape), precision)
            rate = statistics.median(rates[key])
            ratios = [a / b for a, b in zip(rates[key], rates[plain_key], strict=True)]
            flops = rate * flops_per_token(make_run(shape))
            row = {
                "shape": list(shape),
                "precision": precision,
                "ours": round(rate),
                "plain": round(statistics.median(rates[plain_key])),
                "ratio": round(statistics.median(ratios), 2),
                "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
                "gflop_per_second": round(flops / 1e9, 1),
                "matrix_share": round(flops / matrix["bfloat16"], 3),
                "matrix_share_float32": round(flops / matrix["float32"], 3),
                "predicted": round(cores * core_gflops(make_run(shape, precision)) * 1e9 / (flops / rate)),
                "loss_difference": round(
                    max(abs(a - b) for a, b in zip(losses[key], losses[plain_key], strict=True)), 5
                ),
            }
            if "nanogpt" in kinds:
                row["nanogpt"] = round(statistics.median(rates["nanogpt", tuple(shape), "float32"]))
            rows.append(row)
    return {
        "training": rows,
        "matrix_gflop_per_second": {dtype: round(rate / 1e9, 1) for dtype, rate in matrix.items()},
        "training_settings": {
            "n_ctx": N_CTX,
            "n_vocab": N_VOCAB,
            "batch_sequences": BATCH,
            "rounds": rounds,
            "seconds": seconds,
        },
    }


def machine() -> Result:
    """Return what the numbers depend on: processor, cores, versions."""
    from importlib.metadata import version

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "vector_formats": [
            flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16") if flag in flags
        ],
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }


def record(found: Result) -> Result:
    """Put what was found, and the machine, into results.json beside what other benchmarks wrote; return it all."""
    results = (read_json(RESULTS) if RESULTS.exists() else {}) | {"machine": machine()} | found
    write_json(RESULTS, results)
    return results


def table(results: Result) -> str:
    """Return the results as text."""
    cores = results["machine"]["cores"]
    head = f"{'shape':>8} {'operands':>9} {'ours':>10} {'plain':>9} {'ratio':>6} {'range':>12}"
    head += f" {'of fp32':>8} {'of bf16':>8} {'predicted':>9}"
    if any("nanogpt" in row for row in results["training"]):
        head += f" {'nanoGPT':>9}"
    lines = [f"tokens a second, {cores} cores; matrix products {results['matrix_gflop_per_second']} GFLOP/s", head]
    for row in results["training"]:
        low, high = row["ratio_range"]
        line = (
            f"{row['shape'][0]:>4},{row['shape'][1]:>3} {row['precision']:>9} {row['ours']:>10,} {row['plain']:>9,} "
            f"{row['ratio']:>6.2f} {low:>5.2f}-{high:<6.2f} {row['matrix_share_float32']:>8.0%}"
            f" {row['matrix_share']:>8.0%} {row['predicted'] / row['ours']:>9.2f}"
        )
        lines.append(line + (f" {row['nanogpt']:>9,}" if "nanogpt" in row else ""))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it into results.json beside what other benchmarks wrote there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="every number is the median of so many")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    parser.add_argument("--shapes", nargs="+", default=None, help="such as 2,32 2,64")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.work:
        work()
        return 0
    from pipeline.engines import native

    if not native.available():
        print(native.missing(), file=sys.stderr)
        return 2
    shapes = [tuple(map(int, shape.split(","))) for shape in options.shapes] if options.shapes else SHAPES
    native.short_operands()  # compiles before anything is timed
    print(table(record(measure(shapes, options.rounds, options.seconds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
