"""One run on its way: steps, evaluations, early stopping, divergence, checkpoints; which weights are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.engines import Engine, Pending, StepResult
from pipeline.engines.distributed import Group
from pipeline.plan.run import Run
from pipeline.plan.steps import evaluation_steps, snapshot_steps
from pipeline.train import branch, checkpoint, results
from pipeline.train.arrays import Arrays
from pipeline.train.checkpoint import Progress, State
from pipeline.train.clock import Clock
from pipeline.train.optim import rate_at_step

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
    trunk
        Folder of the states of the run's trunk: it goes on from the last one that it shares.
    segment
        The run is a segment of the trunk: it ends before it is looked at after its last step.
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
        trunk: Path | None = None,
        segment: bool = False,
    ) -> None:
        self.run, self.engine, self.batches, self.test = run, engine, batches, test
        self.scratch, self.clock, self.group = scratch, clock, group or Group()
        self.pending: list[tuple[StepResult | Pending, float]] = []
        self.interrupted = False
        self.best: Arrays = {}
        self.progress = Progress()
        self.segment = segment
        self.evaluated, self.kept = set(evaluation_steps(run)), set(snapshot_steps(run))
        saved = checkpoint.load(scratch / checkpoint.FILE, run, engine.name)
        if trunk:
            most = run.branch_point - 1 if segment else run.branch_point
            saved = branch.further(saved, trunk, run, engine.name, most)
        if saved:
            self.progress, self.best = saved.progress, saved.best
            engine.load(saved.engine)
            for step, weights in saved.snapshots.items():
                self.write_snapshot(step, weights)
            clock.lap("checkpoints")
        self.first_step = self.progress.step

    @property
    def ended(self) -> bool:
        """Whether there is no step left to make."""
        return self.progress.status != "running" or self.progress.step == self.run.n_steps

    def train(self, checkpoint_seconds: float) -> bool:
        """Make steps until the run ends; return False when it was interrupted and its state is saved."""
        run, progress, clock = self.run, self.progress, self.clock
        looked_at = progress.rows and progress.rows[-1]["step"] == progress.step
        if progress.status == "running" and not looked_at:
            self.look()
        next_save = clock.last + checkpoint_seconds
        (stop,) = self.group.agree(self.interrupted)
        while not self.ended and not stop:
            step = progress.step + len(self.pending) + 1
            lr = rate_at_step(run, step)
            batch = self.batches(step - 1)
            clock.lap("data")
            result = self.engine.step(batch, lr, run.noise)
            self.pending.append((result, lr))
            clock.lap("steps")
            on_record = step in self.kept or step in self.evaluated or step == run.n_steps
            if isinstance(result, StepResult) or on_record or len(self.pending) == PENDING_STEPS:
                self.settle()
            if on_record and progress.status == "running":
                self.look()
            stop, save = self.group.agree(self.interrupted, clock.last >= next_save)
            if stop or save:
                self.settle()
            if save:
                self.save()
                next_save = clock.last + checkpoint_seconds
        if not self.ended:
            self.save()
        return self.ended

    def look(self) -> None:
        """Do what is due after the last step: put the weights aside, evaluate them, end the run."""
        step = self.progress.step
        if self.segment and step == self.run.n_steps:
            return
        if step in self.kept:
            self.write_snapshot(step, self.engine.weights())
        if step in self.evaluated:
            self.evaluate(rate_at_step(self.run, step))
        if step == self.run.n_steps and self.progress.status == "running":
            self.progress.status = "finished"

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
        self.write_state(self.scratch / checkpoint.FILE)
        self.clock.lap("checkpoints")

    def write_state(self, path: Path, with_snapshots: bool = False) -> None:
        """Write the whole state."""
        state = State(self.progress, self.engine.state(), self.best)
        if self.group.leads:
            if with_snapshots:
                state.snapshots = self.snapshots(before=self.progress.step)
            checkpoint.save(path, self.run, self.engine.name, state)

    def write_snapshot(self, step: int, weights: Arrays) -> None:
        """Put the weights of a step aside in the scratch folder."""
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
