"""Measure how fast this machine trains, in two seconds: what `plan` and the progress of a workflow reckon with.

    python -m pipeline.engines.speed --cores 2

Processors differ from one another, and cores share caches, power and arithmetic units. So as many processes as train at
once make steps of a narrow and of a wide model at the same time, and what they do is held against
`pipeline.plan.cost.CORE_GFLOPS`. A machine that is busy is measured as busy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from pipeline.engines import Pending, make_engine
from pipeline.errors import UserError, command
from pipeline.plan.cost import Speed, core_gflops
from pipeline.plan.counts import count
from pipeline.plan.run import Run

WIDTHS = (32, 128)
"""d_model of the models that are measured; they have two layers."""
SECONDS = 0.5
"""How long each is trained."""
WARM_STEPS = 3
"""Steps before the clock runs."""


def model(d_model: int, precision: str) -> Run:
    """Return a run to measure, with batches of 1,024 tokens as the laptop experiment has them."""
    shape = {"n_layer": 2, "d_model": d_model, "n_head": d_model // 32, "n_vocab": 512, "batch_sequences": 8}
    return Run(tokens="random", n_steps=10, lr=0.01, precision=precision, **shape)


def factor(run: Run, seconds: float = SECONDS) -> float:
    """Train a run on random tokens for some seconds; return this core's rate over that of `CORE_GFLOPS`."""
    engine = make_engine(run, device="cpu")
    size = (run.batch_sequences, run.n_ctx + 1)
    tokens = np.random.default_rng(0).integers(0, run.n_vocab, size).astype(np.uint16)
    steps, begun = -WARM_STEPS, 0.0
    while steps <= 0 or time.perf_counter() - begun < seconds:
        if steps == 0:
            begun = time.perf_counter()
        result = engine.step(tokens, run.lr)
        if isinstance(result, Pending):
            result.read()
        steps += 1
    rate = steps * run.batch_tokens * count(run).flops_all / (time.perf_counter() - begun)
    return rate / 1e9 / core_gflops(run)


def measure(cores: int, precision: str = "bfloat16") -> Speed:
    """Measure on all cores at once.

    Parameters
    ----------
    cores : int
        Processes that train at the same time, 1 or more.
    precision : str
        Of the runs: float32 or bfloat16.

    Raises
    ------
    UserError
        When a process ends with an error, with its last line.
    """
    build = [sys.executable, "-m", "pipeline.engines.speed", "--one", precision, "--seconds"]
    _outputs([subprocess.Popen([*build, "0"], **_PIPES)])  # so that one process alone compiles what is not there yet
    found = _outputs([subprocess.Popen([*build, str(SECONDS)], **_PIPES) for _ in range(cores)])
    return Speed({width: float(np.mean([one[str(width)] for one in found])) for width in WIDTHS})


_PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def _outputs(processes: Sequence[subprocess.Popen[str]]) -> list[dict[str, float]]:
    found = []
    for process in processes:
        output, errors = process.communicate()
        if process.returncode:
            said = errors.strip().splitlines() or ["no message"]
            raise UserError(f"the speed of this machine could not be measured: {said[-1]}")
        found.append(json.loads(output))
    return found


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Print the speed of this machine as JSON: d_model -> rate of a core over that of pipeline.plan.cost."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.engines.speed", description=main.__doc__)
    parser.add_argument("--cores", type=int, default=1, help="processes that train at once")
    parser.add_argument("--precision", default="bfloat16", help="of the runs: float32 or bfloat16")
    parser.add_argument("--one", metavar="PRECISION", help=argparse.SUPPRESS)  # a process of `measure`
    parser.add_argument("--seconds", type=float, default=SECONDS, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.cores < 1:
        raise UserError(f"--cores: {options.cores} is below 1")
    if options.one:
        print(json.dumps({width: factor(model(width, options.one), options.seconds) for width in WIDTHS}))
    else:
        print(json.dumps(dict(measure(options.cores, options.precision).factors)))


if __name__ == "__main__":
    raise SystemExit(main())
