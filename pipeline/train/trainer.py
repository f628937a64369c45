"""One run on its way: steps, evaluations, early stopping, divergence, checkpoints; which weights are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.engines import Engine, Pending, StepResult
from pipeline.engines.distributed import Group
from pipeline.plan.run import Run
from pipeline.train import checkpoint, results
from pipeline.train.arrays import Arrays
from pipeline.train.checkpoint import Progress
from pipeline.train.clock import Clock
from pipeline.train.optim import rate_at_step
from pipeline.plan.steps import evaluation_steps, snapshot_steps

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
            lr = rate_at_step(run, step)
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

    def snapshots(self, before: int) -> dict[int, Arrays]:
        """Return the weights put aside at steps below `before`, by step."""
        return {
            step: results.read_weights(self.scratch / f"snapshot-{step}.safetensors", self.run)[0]
            for step in snapshot_steps(self.run)
            if step < min(before, self.progress.step)
        }
