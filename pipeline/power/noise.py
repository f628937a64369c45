"""What is left to chance: the seed of a run, the windows of a test, the measurement of the gradient noise."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.laws.algebra.efficiency import Array
from pipeline.plan.counts import count
from pipeline.plan.run import Run
from pipeline.plan.steps import evaluation_steps
from pipeline.power.size import REFERENCE


def stream(seed: int, *names: str) -> np.random.Generator:
    """Return the random numbers of an experiment for something in it: a run has the same in every sweep."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


@dataclass(frozen=True)
class Noise:
    """Standard deviations, as parts of the loss where nothing else is said.

    Parameters
    ----------
    between : float
        Of the loss of a run as a whole, in nats per token: 0.02 in the paper, 0.013 here.
    by_size : float
        Power of N that it grows with, anchored at the reference size: 0 in the paper.
    within : float
        Of what changes along a run besides.
    memory : float
        Correlation of that between evaluations that follow each other.
    trunk : float
        Part of a run's variance that it shares with those that branch off the same trunk. Three seeds differed by 0.024
        nats before their cooldown as after it, and by 0.002 in what they gained in it.
    text : float
        Of the loss between tokens at one place in different windows. Measured on runs of the preset `test`: 0.24.
    alike : float
        Part of that variance which two models share, since they read the same windows: 0.9 in the same runs.
    corpus : float
        Of a run on another text, besides what it is off as a whole.
    scale : float
        Gradient noise scale over B_crit.
    scale_spread : float
        Of the logarithm of a measured noise scale.
    """

    between: float = 0.013
    by_size: float = 0.0
    within: float = 0.001
    memory: float = 0.8
    trunk: float = 0.98
    text: float = 0.24
    alike: float = 0.9
    corpus: float = 0.002
    scale: float = 1.0
    scale_spread: float = 0.3

    def errors(self, run: Run, loss: Array, seed: int) -> Array:
        """Return what ln L is off at the evaluations of a run, whose loss without error is given.

        Runs that branch off one trunk are the same up to there.
        """
        trunk = run.trunk_id if run.schedule == "wsd" else run.id
        random = stream(seed, trunk)
        size = self.between * (max(count(run).n_params, 1) / REFERENCE) ** self.by_size
        whole, fresh = random.normal(), random.normal(size=len(loss))
        for k in range(1, len(loss)):
            fresh[k] = self.memory * fresh[k - 1] + math.sqrt(1 - self.memory**2) * fresh[k]
        nats = np.full(len(loss), size * whole)
        if run.schedule == "wsd":
            own = stream(seed, run.id).normal()
            after = np.array(evaluation_steps(run)) > run.branch_point
            nats[after] = size * (math.sqrt(self.trunk) * whole + math.sqrt(1 - self.trunk) * own)
        return np.log1p(nats / loss) + self.within * fresh

    def of_scale(self, run: Run, n: int, seed: int) -> Array:
        """Return what the logarithm of a measured gradient noise scale is off at the n evaluations of a run."""
        return self.scale_spread * stream(seed, run.id, "noise scale").normal(size=n)

    def on_corpora(self, run: Run, corpora: Sequence[str], seed: int) -> Array:
        """Return what a run is off on each text by itself, in ln L, (n_corpora, 1): nothing on the test text."""
        errors = [0.0 if name == "test" else stream(seed, run.id, name).normal() for name in corpora]
        return self.corpus * np.array(errors)[:, None]

    def by_place(self, run: Run, n_steps: int, n_windows: Sequence[int], seed: int) -> Array:
        """Return what ln L is off at each place of the context, (n_steps, n_corpora, n_ctx).

        It is measured on so many windows of each corpus, which all runs of a context share. The mean over the context
        is 0: the mean loss is what the curve says.
        """
        shape = (len(n_windows), run.n_ctx)
        shared = stream(seed, f"windows of {run.n_ctx}").normal(size=shape)
        own = stream(seed, run.id, "windows").normal(size=(n_steps, *shape))
        errors = math.sqrt(self.alike) * shared + math.sqrt(1 - self.alike) * own
        return self.text / np.sqrt(n_windows)[:, None] * (errors - errors.mean(-1, keepdims=True))
