"""What a run costs that is not training steps, and what a new machine pays once.

Every run is the real command, `python -m pipeline.train`, with the settings of the laptop experiment, and one such
process a core at the same time, as the workflow has them. Its steps are a part of the experiment's: the share of what
is not steps is given for the whole of them, since start-up, evaluations and writing don't depend on their number.

    python -m benchmarks.overheads [--tokens 400000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.training import N_VOCAB, Result, make_run, record
from pipeline.files import read_json, write_json
from pipeline.plan.run import Run
from pipeline.tokens.windows import TOKEN_TYPE

SHAPES = ((2, 32), (2, 64), (2, 128), (2, 192))
EXPERIMENT_TOKENS = 6_000_000
"""What a run of the laptop experiment trains on at least."""


def write_tokens(folder: Path) -> None:
    """Write random token files, in the form of `pipeline.tokens`, of the experiment's size."""
    rng, sizes = np.random.default_rng(0), {"train": 25_000_000, "test": 500_000}
    folder.mkdir()
    for name, size in sizes.items():
        rng.integers(0, N_VOCAB, size).astype(TOKEN_TYPE).tofile(folder / f"{name}.bin")
    files = {name: {"file": f"{name}.bin", "tokens": size} for name, size in sizes.items()}
    write_json(folder / "meta.json", {"vocabulary": N_VOCAB} | files)


def laptop_run(shape: Sequence[int], tokens: int) -> Run:
    """Return a run as the laptop experiment has it, of so many tokens."""
    run = make_run(shape, "bfloat16")
    return replace(run, n_steps=tokens // run.batch_tokens, evaluations=25, test_tokens=32_768)


def time_of_run(run: Run, tokens: Path, folder: Path) -> Result:
    """Return the seconds by part of a run that has the machine to itself and its likes, one a core: their mean."""
    processes = []
    for core in range(os.cpu_count() or 1):
        place = folder / f"{run.id}-{core}"
        place.mkdir(parents=True)
        files = {"--output": "curve.parquet", "--scratch": "scratch", "--timing": "timing.json"}
        command = [sys.executable, "-m", "pipeline.train", "--run", run.to_json(), "--tokens", str(tokens)]
        command += [part for option, name in files.items() for part in (option, str(place / name))]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        processes.append((place, subprocess.Popen([*command, "--device", "cpu"], env=environment)))
    for _, process in processes:
        if process.wait():
            raise RuntimeError(f"benchmarks: pipeline.train ended with {process.returncode}; its error is above")
    seconds = [read_json(place / "timing.json")["seconds"] for place, _ in processes]
    return {part: float(np.mean([one[part] for one in seconds])) for part in seconds[0]}


def compile_seconds() -> dict[str, float]:
    """Return the seconds that the compiler takes for each kernel that this machine uses."""
    from pipeline.engines import native

    taken = {}
    for operands in dict.fromkeys(("float32", native.short_operands())):
        with tempfile.TemporaryDirectory() as cache:
            code = f"from pipeline.engines import native; native.build({operands!r})"
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], env=os.environ | {"XDG_CACHE_HOME": cache}, check=True)
            taken[operands] = round(time.perf_counter() - start, 1)
    return taken


def measure(tokens: int) -> Result:
    """Return the table: a row by shape, and what is paid once."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(Path(folder) / "tokens")
        for shape in SHAPES:
            run = laptop_run(shape, tokens)
            seconds = time_of_run(run, Path(folder) / "tokens", Path(folder))
            steps = seconds["steps"] * EXPERIMENT_TOKENS / (run.n_steps * run.batch_tokens)
            rest = sum(seconds.values()) - seconds["steps"]
            rows.append(
                {
                    "shape": list(shape),
                    "seconds": {part: round(value, 3) for part, value in seconds.items()},
                    "not_steps": round(rest / (rest + steps), 4),
                }
            )
    return {"compile_seconds": compile_seconds(), "tokens": tokens, "runs": rows}


def table(overheads: Result) -> str:
    """Return the results as text."""
    parts = list(overheads["runs"][0]["seconds"])
    head = f"{'shape':>8}" + "".join(f"{p:>13}" for p in parts) + f"{'not steps, of 6M tokens':>26}"
    lines = [f"seconds of a run of {overheads['tokens']:,} tokens", head]
    for row in overheads["runs"]:
        line = f"{row['shape'][0]:>4},{row['shape'][1]:>3}" + "".join(f"{row['seconds'][p]:>13.2f}" for p in parts)
        lines.append(line + f"{row['not_steps']:>26.1%}")
    once = ", ".join(f"{name} {seconds} s" for name, seconds in overheads["compile_seconds"].items())
    return "\n".join([*lines, f"compiled once: {once}"])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it into results.json beside what other benchmarks wrote there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=400_000, help="of each run")
    options = parser.parse_args(argv)
    from pipeline.engines import native

    if not native.available():
        print(native.missing(), file=sys.stderr)
        return 2
    native.short_operands()  # in the cache before a run is timed
    overheads = measure(options.tokens)
    record({"overheads": overheads})
    print(table(overheads))
    return 0


if __name__ == "__main__":
    sys.exit(main())
