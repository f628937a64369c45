"""A world in which the paper's laws hold exactly: what a run of any kind would measure there, before any error.

    L(N, S, B) = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S,  S_min = S / (1 + B_crit(L) / B),
    B_crit(L) = B_* / L^(1 / alpha_B)

(Eq 1.6, 5.4 and 1.4) is the mean test loss of a finished run on fresh text. What else a run has (few data, a shape, a
schedule, another family or context) is a module of this folder each. A world is data: one that is wrong in a claim
differs in a constant (`pipeline.power.cases`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np

from pipeline.errors import UserError
from pipeline.laws.algebra.efficiency import Array, Laws, minimum_steps
from pipeline.plan.counts import count
from pipeline.plan.run import Run
from pipeline.plan.steps import evaluation_steps
from pipeline.power.context import Context
from pipeline.power.noise import Noise
from pipeline.power.overfitting import Overfitting
from pipeline.power.scales import scales
from pipeline.power.schedule import Schedule
from pipeline.power.shape import FIGURE_5, Shape
from pipeline.power.size import REFERENCE, Size
from pipeline.power.transfer import Transfer

EXPONENTS = {"alpha_N": 0.072, "alpha_S": 0.74, "alpha_B": 0.235, "alpha_D": 0.097}
"""Exponents of the world of the paper.

The paper's own (0.076, 0.76, 0.21, 0.095) are not quite those of one world: by Eq 1.7 the best size would go as C^0.68,
where 0.73 was measured. These are nearest to all of its numbers together: N_opt ~ C^0.71, B ~ C^0.22, S ~ C^0.07,
D ~ C^0.29, L(C_min) ~ C^-0.051, alpha_N / alpha_S = 0.097 and alpha_N / alpha_D = 0.74.
"""


class Losses(NamedTuple):
    """A run's losses at its evaluations, nats per token, and the critical batch size there, tokens."""

    test: Array
    train: Array
    b_crit: Array
    standard: Array
    """Test loss of a standard model of the same N, steps and data: over the context of the laws."""


@dataclass(frozen=True)
class World:
    """The laws, and one part for each thing that a run's loss depends on besides.

    Parameters
    ----------
    laws : Laws
        N_c in parameters, S_c in steps, B_star in tokens.
    overfitting, context, size, shape, schedule, transfer, noise
        By default few data do no harm, and neither shape nor schedule costs anything.
    sharpness : float
        Power of B_crit / B in Eq 5.4: the paper's hyperbola has 1.
    delay : float
        Power of N that S_c grows with: with the paper's shared constants 0.
    batch_by_size : float
        Power of N that B_crit grows with at a given loss: 0 in the paper.
    most : float
        Most loss that a run has, over that of a uniform guess; infinite: curves follow the laws from the first step.
    """

    laws: Laws
    overfitting: Overfitting = field(default_factory=Overfitting)
    context: Context = field(default_factory=Context)
    size: Size = field(default_factory=Size)
    shape: Shape = field(default_factory=Shape)
    schedule: Schedule = field(default_factory=Schedule)
    transfer: Transfer = field(default_factory=Transfer)
    noise: Noise = field(default_factory=Noise)
    sharpness: float = 1.0
    delay: float = 0.0
    batch_by_size: float = 0.0
    most: float = math.inf

    @classmethod
    def of_paper(
        cls,
        n_vocab: int,
        n_ctx: int,
        alpha_N: float = EXPONENTS["alpha_N"],
        alpha_S: float = EXPONENTS["alpha_S"],
        alpha_B: float = EXPONENTS["alpha_B"],
        alpha_D: float = EXPONENTS["alpha_D"],
    ) -> World:
        """Return the world in which the paper is right, on a text of a vocabulary and for a context.

        Exponents turn about the places where the scales of the text are known, so that another one changes a trend and
        not how large losses are.

        Examples
        --------
        >>> world = World.of_paper(1024, 128, alpha_N=0.1)
        >>> round(float(world.laws.loss_at_batch(1e5, 1e12, 1e9)), 2)
        3.36
        """
        text = scales(n_vocab)
        laws = Laws(
            alpha_N=alpha_N,
            N_c=REFERENCE * text.converged ** (1 / alpha_N),
            alpha_S=alpha_S,
            S_c=text.steps,
            alpha_B=alpha_B,
            B_star=text.batch * text.converged ** (1 / alpha_B),
        )
        return cls(
            laws=laws,
            overfitting=Overfitting(alpha_D=alpha_D, D_c=1e6 * text.limited ** (1 / alpha_D)),
            context=Context(n_ctx=n_ctx),
            shape=replace(FIGURE_5, one_layer_from=text.one_layer),
            most=1.0,
        )

    def changed(self, change: Mapping[str, float]) -> World:
        """Return the world with constants changed: "sharpness", or "shape.heads" of a part.

        Raises
        ------
        UserError
            For a constant that there is not.

        Examples
        --------
        >>> World.of_paper(1024, 128).changed({"shape.heads": 0.1, "delay": 0.5}).shape.heads
        0.1
        """
        world = self
        for name, value in change.items():
            part, _, constant = name.rpartition(".")
            owner = getattr(world, part, None) if part else world
            if owner is None or constant not in {one.name for one in fields(owner)}:
                raise UserError(f"world: {name} is no constant of it")
            changed = replace(owner, **{constant: value})
            world = replace(world, **{part: changed}) if part else changed
        return world

    def laws_of(self, run: Run) -> Laws:
        """Return the laws as they are for the size of a run."""
        ratio = max(count(run).n_params, 1) / REFERENCE
        laws = self.laws
        return replace(laws, S_c=laws.S_c * ratio**self.delay, B_star=laws.B_star * ratio**self.batch_by_size)

    def losses(self, run: Run, rate_factor: float = 1.0) -> Losses:
        """Return the losses of a run at its evaluations (`evaluation_steps`) without any error.

        Parameters
        ----------
        run : Run
        rate_factor : float
            Its peak learning rate over the best one.

        Examples
        --------
        >>> run = Run(tokens="t", n_layer=2, d_model=64, n_head=2, n_vocab=1024, n_steps=8000, lr=0.01, evaluations=3)
        >>> World.of_paper(1024, 128).losses(run).test.round(2).tolist()
        [6.93, 6.93, 4.94, 3.52]
        """
        laws, steps = self.laws_of(run), np.array(evaluation_steps(run), dtype=float)
        n, batch = self.size.equivalent(run, laws), run.batch_tokens
        test = laws.loss_at_batch(n, np.maximum(steps, 0.5), batch, self.sharpness)
        b_crit = laws.B_star / test ** (1 / laws.alpha_B)
        train = test
        if self.overfitting.limits(run):
            s_min = minimum_steps(np.maximum(steps, 0.5), batch, batch * (b_crit / batch) ** self.sharpness)
            converged = float((laws.N_c / n) ** laws.alpha_N)
            test, train = self.overfitting.losses(run, converged, s_min, laws)
        factor = (1 + self.shape.cost(run)) * self.schedule.factor(run, rate_factor)
        guess = math.log(run.n_vocab)
        test, train = (np.where(steps > 0, np.minimum(one * factor, self.most * guess), guess) for one in (test, train))
        over_own = self.by_place(run, test).mean(-1)
        return Losses(over_own, train * over_own / test, b_crit, test)

    def by_place(self, run: Run, standard: Array) -> Array:
        """Return the test loss at each place of a run's context, (n_evaluations, n_ctx); see `Losses.standard`."""
        n_params = max(count(run).n_params, 1)
        return np.minimum(self.context.by_place(standard, run, n_params), self.most * math.log(run.n_vocab))
