"""Train one run: its curve and its weights.

    python -m pipeline.train --run JSON --tokens DIR --output results/runs/ID/curve.parquet --scratch results/scratch/ID

The curve and `model.safetensors` (and `snapshots.safetensors`) are functions of the run alone: a killed run continues
from its checkpoint in the scratch folder, and ends on a CPU with the bytes of an uninterrupted one. On SIGTERM or
SIGINT the state is saved and the command exits with code 75 (EX_TEMPFAIL): start it again and it goes on. A run that
diverges is a result: it is recorded with status `diverged`, and the exit code is 0.

A run that wants several GPUs and has them is trained by as many processes (`pipeline.distributed`). Each makes all
steps with its share of every batch; the first writes the files.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from pipeline import checkpoint, distributed, finished, results
from pipeline.checkpoint import Arrays, Progress
from pipeline.clock import Clock
from pipeline.counts import count
from pipeline.distributed import Group
from pipeline.engines import Engine, Pending, StepResult, make_engine
from pipeline.errors import UserError, command
from pipeline.files import read_json, write_json
from pipeline.optim import learning_rate
from pipeline.run import Run
from pipeline.steps import evaluation_steps, snapshot_steps
from pipeline.windows import Windows, load_tokens, test_windows

EXIT_PREEMPTED = 75
"""Exit code after SIGTERM or SIGINT, EX_TEMPFAIL of sysexits.h: the state is saved, start the command again."""
DIVERGENCE_MARGIN = 0.5
"""A training loss this much above the initial test loss, in nats, is a sign of divergence."""
DIVERGENCE_STEPS = 100
"""So many such steps in a row are divergence."""
PENDING_STEPS = 64
"""Steps of a GPU whose results are read together at most."""


class Trainer:
    """One run on its way: an engine, its data, and where it stands.

    Parameters
    ----------
    run
        The run.
    engine
        The model and its optimizer.
    batches
        Number of the batch, from 0 -> batch of shape (batch_sequences, n_ctx + 1).
    test
        The fixed test windows, of shape (M, n_ctx + 1).
    scratch
        Folder of the checkpoint and the snapshots of the run in progress.
    clock
        Takes the time of each part.
    group
        The processes that train this run.
    """

    def __init__(
        self,
        run: Run,
        engine: Engine,
        batches: Callable[[int], np.ndarray],
        test: np.ndarray,
        scratch: Path,
        clock: Clock,
        group: Group | None = None,
    ) -> None:
        self.run, self.engine, self.batches, self.test = run, engine, batches, test
        self.scratch, self.clock, self.group = scratch, clock, group or Group()
        self.pending: list[tuple[StepResult | Pending, float]] = []
        self.interrupted = False
        self.best: Arrays = {}
        self.progress = Progress()
        saved = checkpoint.load(scratch, run, engine.name)
        if saved:
            self.progress, state, self.best = saved
            engine.load(state)
            clock.lap("checkpoints")
        self.first_step = self.progress.step

    def train(self, checkpoint_seconds: float) -> bool:
        """Make steps until the run ends; return False when it was interrupted and its state is saved."""
        run, progress, clock = self.run, self.progress, self.clock
        evaluated, kept = set(evaluation_steps(run)), set(snapshot_steps(run))
        if not progress.rows:
            self.evaluate(lr=0.0)
        next_save = clock.last + checkpoint_seconds
        (stop,) = self.group.agree(self.interrupted)
        while progress.status == "running" and not stop:
            step = progress.step + len(self.pending) + 1
            lr = learning_rate(run, step)
            batch = self.batches(step - 1)
            clock.lap("data")
            result = self.engine.step(batch, lr, run.noise)
            self.pending.append((result, lr))
            clock.lap("steps")
            on_record = step in kept or step in evaluated or step == run.n_steps
            if isinstance(result, StepResult) or on_record or len(self.pending) == PENDING_STEPS:
                self.settle()
            if progress.status == "running":
                if step in kept:
                    self.save_snapshot(step)
                if step in evaluated:
                    self.evaluate(lr)
                if step == run.n_steps and progress.status == "running":
                    progress.status = "finished"
            stop, save = self.group.agree(self.interrupted, clock.last >= next_save)
            if stop or save:
                self.settle()
            if save:
                self.save()
                next_save = clock.last + checkpoint_seconds
        if progress.status == "running":
            self.save()
            return False
        return True

    def settle(self) -> None:
        """Account for the steps whose results have not been read yet, up to one that ends the run."""
        for result, lr in self.pending:
            if self.progress.status == "running":
                self.account(result if isinstance(result, StepResult) else result.read(), lr)
        self.pending = []
        self.clock.lap("steps")

    def account(self, result: StepResult, lr: float) -> None:
        """Add one step to the running means, and judge whether the run diverges."""
        progress = self.progress
        progress.step += 1
        if not math.isfinite(result.loss):
            progress.status, progress.reason = "diverged", f"the training loss is not finite at step {progress.step}"
            return
        progress.lr_sum += lr
        progress.loss_sum += result.loss
        progress.gradient_norm_sum += result.gradient_norm
        progress.count += 1
        if result.noise is not None:
            progress.noise.add(result.noise, self.run.batch_sequences)
        above = result.loss > progress.rows[0]["loss"] + DIVERGENCE_MARGIN
        progress.steps_above = progress.steps_above + 1 if above else 0
        if progress.steps_above >= DIVERGENCE_STEPS:
            progress.status = "diverged"
            progress.reason = (
                f"the training loss was {DIVERGENCE_MARGIN} nats and more above the initial loss "
                f"for {DIVERGENCE_STEPS} steps to step {progress.step}"
            )

    def evaluate(self, lr: float) -> None:
        """Measure the test loss, add a row to the curve, and judge whether the run stops early."""
        run, progress = self.run, self.progress
        self.clock.lap("steps")
        loss = float(self.engine.evaluate(self.test).sum() / (len(self.test) * run.n_ctx))
        self.clock.lap("evaluation")
        count = progress.count
        progress.rows.append(
            {
                "step": progress.step,
                "n_tokens": progress.step * run.batch_tokens,
                "lr": lr,
                "lr_sum": progress.lr_sum,
                "train_loss": progress.loss_sum / count if count else math.nan,
                "loss": loss,
                "noise_scale": progress.noise.tokens(run.n_ctx),
                "gradient_norm": progress.gradient_norm_sum / count if count else math.nan,
            }
        )
        progress.loss_sum = progress.gradient_norm_sum = 0.0
        progress.count = 0
        progress.noise = type(progress.noise)()
        if not math.isfinite(loss):
            progress.status, progress.reason = "diverged", f"the test loss is not finite at step {progress.step}"
            return
        if loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.evaluations_since_best = loss, progress.step, 0
            if run.patience:
                self.best = self.engine.weights()
        elif run.evaluate_every and progress.step % run.evaluate_every == 0:
            progress.evaluations_since_best += 1
        if run.patience and progress.evaluations_since_best >= run.patience:
            progress.status = "stopped"
            progress.reason = f"no test loss below that of step {progress.best_step} in {run.patience} evaluations"

    def weights(self) -> tuple[int, Arrays]:
        """Return the weights to keep and their step: the best of a run with early stopping, else the last."""
        if self.best and self.progress.status != "diverged":
            return self.progress.best_step, self.best
        return self.progress.step, self.engine.weights()

    def save(self) -> None:
        """Write a checkpoint."""
        state = self.engine.state()
        if self.group.leads:
            checkpoint.save(self.scratch, self.run, self.engine.name, self.progress, state, self.best)
        self.clock.lap("checkpoints")

    def save_snapshot(self, step: int) -> None:
        """Put the weights of this step aside in the scratch folder."""
        weights = self.engine.weights()
        if self.group.leads:
            results.write_weights(self.scratch / f"snapshot-{step}.safetensors", weights, self.run, step)
        self.clock.lap("writing")

    def snapshots(self, before: int) -> Arrays:
        """Return the weights put aside at steps below `before`, named step/weight."""
        return {
            f"{step}/{name}": value
            for step in snapshot_steps(self.run)
            if step < min(before, self.progress.step)
            for name, value in load_file(self.scratch / f"snapshot-{step}.safetensors").items()
        }


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


def read_run(text: str) -> Run:
    """Return the run of a JSON text given on the command line."""
    try:
        return Run.from_json(text)
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(f"--run: not the JSON of a run ({error})") from error


def open_data(run: Run, folder: Path) -> tuple[Windows, np.ndarray]:
    """Return the training windows and the fixed test windows of a run.

    Raises
    ------
    UserError
        When a file is missing, too short for the run, or made with another vocabulary.
    """
    meta = folder / "meta.json"
    if not meta.exists():
        raise UserError(f"{meta}: no such file: make the token files first")
    vocabulary = read_json(meta)["vocabulary"]
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


def file_names(run: Run, options: argparse.Namespace) -> list[str]:
    """Return the names of the files that the run leaves, the curve last."""
    weights = ["model.safetensors"] + ["snapshots.safetensors"] * bool(run.snapshots)
    return weights * options.keep_weights + [options.output.name]


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Train one run and write its files: weights first, curve last."""
    clock = Clock()
    options = parse(argv)
    run = read_run(options.run)
    folder, files = options.output.parent, file_names(run, options)
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
    trainer = Trainer(run, engine, windows.batch, test, options.scratch, clock, group)
    clock.lap("start-up")
    with signals_to(trainer):
        ended = trainer.train(options.checkpoint_seconds)
        if ended:
            write(trainer, options, files)
        if group.leads:
            report(trainer, options)
        group.close()
    if not ended:
        if group.leads:
            print(f"interrupted at step {trainer.progress.step} of {run.n_steps}: state saved", file=sys.stderr)
        return EXIT_PREEMPTED
    return 0


def write(trainer: Trainer, options: argparse.Namespace, files: Sequence[str]) -> None:
    """Write the files of a run that has ended, and remove what was needed to go on with it."""
    run, folder = trainer.run, options.output.parent
    step, weights = trainer.weights() if options.keep_weights else (0, {})
    if not trainer.group.leads:
        return
    if options.keep_weights:
        results.write_weights(folder / "model.safetensors", weights, run, step)
        if run.snapshots:
            results.write_weights(folder / "snapshots.safetensors", trainer.snapshots(before=step), run, step)
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
