"""The tables that a design's runs give in a world: those that `pipeline.gather` writes of a sweep, column by column.

A table is made once, without errors; then it can be measured many times, each with the errors of another experiment.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import pandas as pd

from pipeline.analysis.gather import curve_table, marks, run_columns
from pipeline.plan.run import Run
from pipeline.plan.steps import evaluation_steps, snapshot_steps
from pipeline.plan.sweeps import Member
from pipeline.power.schedule import rates
from pipeline.power.world import Losses, World

RATES = ("lr", "lr_final", "schedule", "warmup_steps", "cooldown", "seed")
MODEL = tuple(field.name for field in fields(Run) if field.name not in RATES)
"""Fields in which runs agree that differ in their learning rate, schedule or seed alone."""
GRADIENT = 0.4
"""Norm of a gradient; no claim reads it."""


class SweepTable:
    """The table of a sweep in a world: one row a (run, evaluation).

    Parameters
    ----------
    world : World
    name : str
        Of the sweep.
    members : sequence of Member
    n_train_tokens : int
        Tokens of the whole training set.
    """

    def __init__(self, world: World, name: str, members: Sequence[Member], n_train_tokens: int) -> None:
        self.world, self.runs = world, [member.run for member in members]
        tables, self.losses = [], []
        for member, rate_factor in zip(members, rate_factors(members), strict=True):
            losses = world.losses(member.run, rate_factor)
            table = curve_table(_curve(world, member.run, losses), member.run, "finished", n_train_tokens)
            tables.append(table.assign(label=member.label, fitted=member.fitted))
            self.losses.append(losses)
        self.table = pd.concat(tables, ignore_index=True)
        self.table.insert(self.table.columns.get_loc("label"), "sweep", name)
        self.table["entropy_rate"] = np.nan  # as of a text that nobody knows it of
        self.ends = np.cumsum([0, *map(len, tables)])

    def measured(self, seed: int | None) -> pd.DataFrame:
        """Return the table with the errors of an experiment, which a run has alike in every sweep; None: with none."""
        noise = self.world.noise
        step, loss, train, scale = (
            self.table[name].to_numpy().copy() for name in ("step", "loss", "train_loss", "noise_scale")
        )
        final, best, kept = (np.zeros(len(step), dtype=bool) for _ in range(3))
        status = []
        for run, losses, a, b in zip(self.runs, self.losses, self.ends[:-1], self.ends[1:], strict=True):
            if seed is not None:
                error = np.where(step[a:b] > 0, noise.errors(run, losses.test, seed), 0.0)
                loss[a:b] *= np.exp(error)
                train[a:b] *= np.exp(error)
                if run.noise:
                    scale[a:b] *= np.exp(noise.of_scale(run, b - a, seed))
            end = a + evaluations_made(run, step[a:b], loss[a:b])
            kept[a:end] = True
            final[a:end], best[a:end] = marks(step[a:end], loss[a:end])
            status += ["finished" if end == b else "stopped"] * (b - a)
        columns = {"loss": loss, "train_loss": train, "noise_scale": scale, "final": final, "best": best}
        return self.table.assign(**columns, status=status)[kept].reset_index(drop=True)


class EvaluationTable:
    """The table of a sweep's evaluations in a world: one row a (run, step, corpus, position).

    A run with early stopping is evaluated at the step that would be its best one without errors.

    Parameters
    ----------
    world, name, members, n_train_tokens
        As for `SweepTable`.
    windows : mapping of str to int
        Corpus -> tokens that are scored of it; "train" and "test" are among them.
    """

    def __init__(
        self, world: World, name: str, members: Sequence[Member], n_train_tokens: int, windows: Mapping[str, int]
    ) -> None:
        self.world, self.windows, self.runs, self.places = world, windows, [one.run for one in members], []
        tables = []
        for member, rate_factor in zip(members, rate_factors(members), strict=True):
            run, losses = member.run, world.losses(member.run, rate_factor)
            steps = np.array(evaluation_steps(run))
            made = evaluations_made(run, steps, losses.test)
            last = int(steps[losses.test[:made].argmin() if run.patience else -1])
            evaluated = np.array([*(step for step in snapshot_steps(run) if step < last), last])
            block = self._losses(run, losses, steps, evaluated)
            n_ctx = run.n_ctx
            rows = {
                "step": np.repeat(evaluated, len(windows) * n_ctx),
                "corpus": np.tile(np.repeat(np.array(list(windows), dtype=object), n_ctx), len(evaluated)),
                "position": np.tile(np.arange(1, n_ctx + 1), len(evaluated) * len(windows)),
                "loss": block.ravel(),
                "n": np.tile(np.repeat([self._n_windows(run, name) for name in windows], n_ctx), len(evaluated)),
            }
            table = pd.DataFrame(rows).assign(**run_columns(run, n_train_tokens), status="finished")
            table["final"] = table["step"] == last
            table["n_tokens"] = table["step"] * run.batch_tokens
            tables.append(table.assign(sweep=name, label=member.label, fitted=member.fitted, entropy_rate=np.nan))
            self.places.append((losses.test, np.minimum(np.searchsorted(steps, evaluated), len(steps) - 1)))
        self.table = pd.concat(tables, ignore_index=True)
        self.ends = np.cumsum([0, *map(len, tables)])

    def measured(self, seed: int | None) -> pd.DataFrame:
        """Return the table with the errors of an experiment; None: with none."""
        if seed is None:
            return self.table.copy()
        noise, n_corpora = self.world.noise, len(self.windows)
        loss = self.table["loss"].to_numpy().copy()
        for run, (test, places), a, b in zip(self.runs, self.places, self.ends[:-1], self.ends[1:], strict=True):
            whole = noise.errors(run, test, seed)[places]
            n_windows = [self._n_windows(run, name) for name in self.windows]
            error = noise.by_place(run, len(places), n_windows, seed) + noise.on_corpora(run, list(self.windows), seed)
            error = error + whole[:, None, None]
            loss[a:b] *= np.exp(error).reshape(len(places) * n_corpora * run.n_ctx)
        return self.table.assign(loss=loss)

    def _losses(self, run: Run, losses: Losses, steps: np.ndarray, evaluated: np.ndarray) -> np.ndarray:
        """Return the loss at each (step, corpus, position)."""
        standard = np.exp(np.interp(np.log1p(evaluated), np.log1p(steps), np.log(losses.standard)))
        by_place = self.world.by_place(run, standard)
        offsets = [
            [self.world.transfer.offset(corpus, one.mean(), run, step == evaluated[-1]) for corpus in self.windows]
            for step, one in zip(evaluated, by_place, strict=True)
        ]
        return by_place[:, None, :] + np.array(offsets)[:, :, None]

    def _n_windows(self, run: Run, corpus: str) -> int:
        return max(1, self.windows[corpus] // run.n_ctx)


def rate_factors(members: Sequence[Member]) -> list[float]:
    """Return the peak learning rate of each run over the best one: the middle one of those tried for its model.

    Examples
    --------
    >>> shape = dict(tokens="t", n_layer=1, d_model=8, n_vocab=64, n_steps=9)
    >>> rate_factors([Member(Run(lr=lr, **shape)) for lr in (0.01, 0.02, 0.08)])
    [0.5, 1.0, 4.0]
    """
    keys = [tuple(getattr(one.run, name) for name in MODEL) for one in members]
    tried: dict[tuple, list[float]] = {}
    for key, member in zip(keys, members, strict=True):
        tried.setdefault(key, []).append(member.run.lr)
    middle = {key: statistics.median_high(found) for key, found in tried.items()}
    return [member.run.lr / middle[key] if middle[key] else 1.0 for key, member in zip(keys, members, strict=True)]


def _curve(world: World, run: Run, losses: Losses) -> pd.DataFrame:
    """Return the rows of curve.parquet without errors, as if no run stopped early."""
    steps = np.array(evaluation_steps(run))
    lr, lr_sum = rates(run)
    trained = steps > 0
    scale = world.noise.scale * losses.b_crit if run.noise else np.full(len(steps), np.nan)
    return pd.DataFrame(
        {
            "step": steps,
            "n_tokens": steps * run.batch_tokens,
            "lr": lr,
            "lr_sum": lr_sum,
            "train_loss": np.where(trained, losses.train, np.nan),
            "loss": losses.test,
            "noise_scale": np.where(trained, scale, np.nan),
            "gradient_norm": np.where(trained, GRADIENT, np.nan),
        }
    )


def evaluations_made(run: Run, steps: np.ndarray, loss: np.ndarray) -> int:
    """Return how many evaluations a run makes: with patience it ends after so many without a new lowest loss.

    Examples
    --------
    >>> shape = dict(tokens="t", n_layer=1, d_model=8, n_vocab=64, lr=0.01)
    >>> run = Run(n_steps=50, evaluations=2, evaluate_every=10, patience=2, **shape)
    >>> evaluations_made(run, np.array([0, 1, 10, 20, 30, 40, 50]), np.array([4.0, 3.9, 3.0, 2.0, 2.1, 2.2, 2.3]))
    6
    """
    if not run.patience:
        return len(steps)
    since, lowest = 0, np.inf
    for place, (step, one) in enumerate(zip(steps, loss, strict=True)):
        if one < lowest:
            since, lowest = 0, one
        elif step % run.evaluate_every == 0:
            since += 1
        if since >= run.patience:
            return place + 1
    return len(steps)
