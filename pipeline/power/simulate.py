"""Simulated experiments: the tables of a world through the workflow's own fits and claims, in memory.

Nothing is made before it is asked for: a claim's verdict takes the sweeps, evaluations and laws that its checks read.
"""

from __future__ import annotations

import logging
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd

from pipeline.analysis.fit import fit_law
from pipeline.analysis.inputs import Inputs
from pipeline.claims import CLAIMS, VERDICTS
from pipeline.claims.verdict import Outcome
from pipeline.plan import catalog
from pipeline.power.cases import Case
from pipeline.power.design import Design
from pipeline.power.tables import EvaluationTable, SweepTable
from pipeline.power.world import World

DRAWS = 199
"""Bootstrap draws of an interval in a simulated experiment; the workflow takes the config's fits/bootstrap."""


class Lazy(Mapping[str, Any]):
    """A mapping whose values are made when they are first asked for.

    Examples
    --------
    >>> made = Lazy(("a", "b"), lambda name: print(f"making {name}") or name.upper())
    >>> made["b"], made["b"], "c" in made
    making b
    ('B', 'B', False)
    """

    def __init__(self, names: tuple[str, ...], make: Callable[[str], Any]) -> None:
        self.names, self.make, self.made = names, make, {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.names:
            raise KeyError(name)
        if name not in self.made:
            self.made[name] = self.make(name)
        return self.made[name]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Laboratory:
    """A design in a world: an experiment there can be made again and again, each time with other errors.

    Parameters
    ----------
    world : World
    design : Design
    draws : int
        Bootstrap draws of an interval.
    """

    def __init__(self, world: World, design: Design, draws: int = DRAWS) -> None:
        self.world, self.design, self.draws = world, design, draws
        needs = catalog.TABLES["claims"]
        there = set(design.sweeps)
        self.sweeps = Lazy(tuple(name for name in needs.sweeps if name in there), self._sweep)
        self.evaluations = Lazy(tuple(name for name in needs.evaluations if name in there), self._evaluation)
        self.laws = tuple(
            name
            for name in catalog.all_laws([needs])
            if catalog.all_sweeps([catalog.LAWS[name], catalog.Needs(laws=(name,))]) <= there
        )

    def _sweep(self, name: str) -> SweepTable:
        return SweepTable(self.world, name, self.design.sweeps[name], self.design.n_train_tokens)

    def _evaluation(self, name: str) -> EvaluationTable:
        design = self.design
        return EvaluationTable(self.world, name, design.sweeps[name], design.n_train_tokens, design.windows)

    def experiment(self, seed: int | None) -> Inputs:
        """Return what the claims of one experiment are given; without a seed nothing has an error.

        The seed is that of the bootstrap, too.
        """
        sweeps = Lazy(self.sweeps.names, lambda name: self.sweeps[name].measured(seed))
        evaluations = Lazy(self.evaluations.names, lambda name: self.evaluations[name].measured(seed))

        def fitted(name: str) -> tuple[Any, pd.DataFrame]:
            return fit_law(name, Inputs(sweeps, evaluations, laws), self.draws, seed or 0)

        fits = Lazy(self.laws, fitted)
        laws = Lazy(self.laws, lambda name: fits[name][0])
        points = Lazy(self.laws, lambda name: fits[name][1])
        return Inputs(sweeps, evaluations, laws, points)


def world_of(case: Case, design: Design) -> World:
    """Return the world of a case on a design's text."""
    return World.of_paper(design.n_vocab, design.n_ctx, **case.exponents).changed(case.constants)


def outcomes(case: Case, design: Design, experiments: int, seed: int, draws: int = DRAWS) -> dict[str, Any]:
    """Return how often each verdict was given in simulated experiments, and what each check found.

    Parameters
    ----------
    case : Case
        Its own claim is looked at; all of them where it has none.
    design : Design
    experiments : int
    seed : int
        Experiment k has the seed `seed` + k.
    draws : int
        Bootstrap draws of an interval.

    Returns
    -------
    dict
        "claims" maps the number of a claim to `verdicts` (verdict -> experiments) and `checks`: what is measured, in
        how many experiments it was met, failed or open, the median of the number, and the reason that it was open for
        most often.
    """
    laboratory = Laboratory(world_of(case, design), design, draws)
    asked = [claim for claim in CLAIMS if case.claim in (None, claim.number)]
    verdicts = {claim.number: Counter() for claim in asked}
    found: dict[int, list[list[Outcome]]] = {claim.number: [] for claim in asked}
    for number in range(experiments):
        given = laboratory.experiment(seed + number)
        for claim in asked:
            verdict = claim.decide(given)
            verdicts[claim.number][verdict.verdict] += 1
            found[claim.number].append(verdict.outcomes)
        logging.info("%s: experiment %d of %d", case.name, number + 1, experiments)
    claims = {
        str(number): {
            "verdicts": {kind: verdicts[number][kind] for kind in VERDICTS},
            "checks": [_summary(list(column)) for column in zip(*found[number], strict=True)],
        }
        for number in verdicts
    }
    return {"case": case.name, "experiments": experiments, "seed": seed, "draws": draws, "claims": claims}


def _summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return what one check found in all experiments."""
    numbers = [outcome.number.value for outcome in outcomes if outcome.number is not None]
    reasons = Counter(outcome.reason for outcome in outcomes if outcome.reason)
    met = Counter(outcome.met for outcome in outcomes)
    return {
        "check": outcomes[0].what,
        "met": met[True],
        "failed": met[False],
        "open": met[None],
        "median": statistics.median(numbers) if numbers else None,
        "reason": reasons.most_common(1)[0][0] if reasons else "",
    }
