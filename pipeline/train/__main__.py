"""Train one run: its curve and its weights.

    python -m pipeline.train --run JSON --tokens DIR --output results/runs/ID/curve.parquet --scratch results/scratch/ID

The curve and `model.safetensors` (and `snapshots.safetensors`) are functions of the run alone: a killed run continues
from its checkpoint in the scratch folder, and ends on a CPU with the bytes of an uninterrupted one. On SIGTERM or
SIGINT the state is saved and the command exits with code 75 (EX_TEMPFAIL): start it again and it goes on. A run that
diverges is a result: it is recorded with status `diverged`, and the exit code is 0.

A wsd run goes on from the last state of its trunk in results/trunks that it shares (`pipeline.plan.trunk`), and without
one from nothing to the same bytes. States are made with --segment, from the run that ends where they are taken:

    python -m pipeline.train --segment --run JSON --tokens DIR --output results/trunks/ID/step-80.safetensors ...

A run that wants several GPUs and has them is trained by as many processes (`pipeline.engines.distributed`). Each makes
all steps with its share of every batch; the first writes the files.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.engines import distributed, make_engine
from pipeline.errors import UserError, command
from pipeline.files import write_json
from pipeline.plan.counts import count
from pipeline.plan.run import Run
from pipeline.plan.trunk import state_file
from pipeline.tokens.windows import Windows, check_token_files, load_tokens, test_windows
from pipeline.train import finished, results
from pipeline.train.clock import Clock
from pipeline.train.trainer import Trainer

EXIT_PREEMPTED = 75
"""Exit code after SIGTERM or SIGINT, EX_TEMPFAIL of sysexits.h: the state is saved, start the command again."""


@contextmanager
def signals_to(trainer: Trainer) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the loop of `trainer` after its step."""

    def interrupt(number: int, frame: object) -> None:
        trainer.interrupted = True

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def open_data(run: Run, folder: Path) -> tuple[Windows, np.ndarray]:
    """Return the training windows and the fixed test windows of a run.

    Raises
    ------
    UserError
        When a file is missing, damaged, too short for the run, of other tokens, or made with another vocabulary.
    """
    vocabulary = check_token_files(folder, tokens=run.tokens)["vocabulary"]
    if vocabulary != run.n_vocab:
        raise UserError(f"n_vocab: the run has {run.n_vocab}, the tokens in {folder} have {vocabulary}")
    train, test = load_tokens(folder / "train.bin"), load_tokens(folder / "test.bin")
    windows = Windows(train, run.n_ctx, run.batch_sequences, run.n_unique_tokens, run.seed)
    return windows, test_windows(test, run.n_ctx, run.test_tokens)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description="Train one run.")
    parser.add_argument("--run", required=True, help="JSON of the run")
    parser.add_argument("--tokens", required=True, type=Path, help="folder of token files")
    parser.add_argument("--output", required=True, type=Path, help="curve.parquet; the weights go beside it")
    parser.add_argument("--scratch", required=True, type=Path, help="folder of the resume state")
    parser.add_argument("--segment", action="store_true", help="train a trunk to step-N.safetensors, the --output")
    parser.add_argument("--trunks", type=Path, help="folder of trunks, by default the one beside the folder of runs")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--engine", default="auto", help="auto, native or torch")
    parser.add_argument("--threads", type=int, default=1, help="threads on a CPU")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="compile the model; by default long runs on a GPU"
    )
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0, help="seconds between checkpoints")
    parser.add_argument("--keep-weights", action=argparse.BooleanOptionalAction, default=True, help="write weights")
    parser.add_argument("--finished", type=Path, help="folder that keeps the files: found there, they are put back")
    parser.add_argument("--timing", type=Path, help="JSON file for where the time went")
    return parser.parse_args(argv)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Train one run and write its files: weights first, curve last."""
    clock = Clock()
    options = parse(argv)
    run = Run.from_json(options.run)
    if options.segment and run.branch_point != run.n_steps:
        raise UserError("--segment: the run is no trunk: it needs schedule wsd and cooldown 0")
    wanted = state_file(run.n_steps) if options.segment else results.CURVE
    if options.output.name != wanted:
        raise UserError(f"--output: {options.output} does not end in {wanted}")
    folder, files = options.output.parent, results.file_names(run, options.keep_weights)
    if options.finished and finished.put_back(folder, options.finished, files):
        print("finished before: its files are put back", file=sys.stderr)
        return 0
    clock.lap("start-up")
    windows, test = open_data(run, options.tokens)
    clock.lap("data")
    if options.device != "cpu" and options.engine != "native":
        distributed.become_several(run, sys.argv[1:] if argv is None else argv)
    group = distributed.join(options.device)
    engine = make_engine(run, options.device, options.threads, options.engine, options.compile, group)
    trunk = trunk_folder(run, options)
    trainer = Trainer(run, engine, windows.batch, test, options.scratch, clock, group, trunk, options.segment)
    clock.lap("start-up")
    with signals_to(trainer):
        ended = trainer.train(options.checkpoint_seconds)
        if ended and options.segment:
            write_trunk(trainer, options)
        elif ended:
            write(trainer, options, files)
        if group.leads:
            report(trainer, options)
        group.close()
    if not ended:
        if group.leads:
            print(f"interrupted at step {trainer.progress.step} of {run.n_steps}: state saved", file=sys.stderr)
        return EXIT_PREEMPTED
    return 0


def trunk_folder(run: Run, options: argparse.Namespace) -> Path | None:
    """Return the folder of the states of a run's trunk; None for a schedule that has none."""
    if options.segment:
        return options.output.parent
    trunks = options.trunks or options.output.parent.parent.parent / "trunks"
    return trunks / run.trunk_id if run.branch_point else None


def write_trunk(trainer: Trainer, options: argparse.Namespace) -> None:
    """Write the state at the end of a segment of a trunk, and remove what was needed to go on with it."""
    trainer.write_state(options.output, with_snapshots=True)
    if trainer.group.leads:
        shutil.rmtree(options.scratch, ignore_errors=True)
    trainer.clock.lap("writing")


def write(trainer: Trainer, options: argparse.Namespace, files: Sequence[str]) -> None:
    """Write the files of a run that has ended, and remove what was needed to go on with it."""
    run, folder = trainer.run, options.output.parent
    step, weights = trainer.weights() if options.keep_weights else (0, {})
    if not trainer.group.leads:
        return
    if options.keep_weights:
        results.write_weights(folder / results.WEIGHTS, weights, run, step)
        if run.snapshots:
            results.write_snapshots(folder / results.SNAPSHOTS, trainer.snapshots(before=step), run, step)
    results.write_curve(options.output, run, trainer.progress)
    if options.finished:
        finished.keep(folder, options.finished, files)
    shutil.rmtree(options.scratch, ignore_errors=True)
    trainer.clock.lap("writing")


def report(trainer: Trainer, options: argparse.Namespace) -> None:
    """Print where the time of this process went, and write it as JSON where `--timing` asks for it."""
    run, seconds = trainer.run, trainer.clock.seconds
    steps = trainer.progress.step - trainer.first_step
    tokens_per_second = steps * run.batch_tokens / max(seconds.get("steps", 0.0), 1e-9)
    timing = {
        "run": run.id,
        "engine": trainer.engine.name,
        "threads": options.threads,
        "steps": steps,
        "seconds": {part: round(value, 4) for part, value in seconds.items()},
        "total_seconds": round(sum(seconds.values()), 4),
        "tokens_per_second": round(tokens_per_second),
        "flop_per_second": round(tokens_per_second * count(run).flops_all),
    }
    print(
        f"{trainer.clock.line()}; {steps} steps, {tokens_per_second:,.0f} tokens/s, "
        f"{timing['flop_per_second']:.3g} FLOP/s, engine {trainer.engine.name}",
        file=sys.stderr,
    )
    if options.timing:
        write_json(options.timing, timing)


if __name__ == "__main__":
    raise SystemExit(main())
