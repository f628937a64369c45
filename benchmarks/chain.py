"""Simulated experiments with a planted truth through the chain of laws, for `benchmarks.laws --chain`.

Two designs of sweeps: the sizes of `laptop` trained on 100 tokens a parameter, and twelve sizes. The truth of a trend
is what the same design gives without noise, so that the count is of the intervals; the truth by algebra is in the table
too (`planted`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from pipeline.analysis.fit import fit_law
from pipeline.analysis.inputs import Inputs
from pipeline.claims.measure import derived
from pipeline.laws import Fit
from pipeline.laws.algebra.efficiency import Laws
from pipeline.plan.run import Run
from pipeline.plan.sweeps import Member
from pipeline.power.tables import SweepTable
from pipeline.power.world import World

LAWS = Laws(alpha_N=0.08, N_c=1e11, alpha_S=0.6, S_c=300.0, alpha_B=0.2, B_star=1.2e6)
TRENDS = ("L_C", "N_opt", "S_opt", "L_C_min", "N_opt_min", "S_opt_min", "D_opt_min", "B_opt_min")
PLANTED = {
    ("B_crit", "B_star"): LAWS.B_star,
    ("B_crit", "alpha_B"): LAWS.alpha_B,
    ("L_N_S", "N_c"): LAWS.N_c,
    ("L_N_S", "alpha_N"): LAWS.alpha_N,
    ("L_N_S", "S_c"): LAWS.S_c,
    ("L_N_S", "alpha_S"): LAWS.alpha_S,
    ("L_C_min", "alpha_C_min"): LAWS.alpha_C,
    ("N_opt_min", "p"): LAWS.alpha_C / LAWS.alpha_N,
    ("S_opt_min", "p"): LAWS.alpha_C / LAWS.alpha_S,
    ("B_opt_min", "p"): LAWS.alpha_C / LAWS.alpha_B,
    ("D_opt_min", "p"): 1 - LAWS.alpha_C / LAWS.alpha_N,
    ("alpha_C of L(N, S) and B_crit", ""): LAWS.alpha_C,
}
"""(law, parameter) -> its value by the algebra of Appendix B."""

WIDTHS = {
    "8 sizes": [(40, 2), (48, 2), (64, 2), (80, 2), (96, 2), (128, 1), (160, 1), (192, 1)],
    "12 sizes": [(d_model, 1) for d_model in (24, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256)],
}
"""Design -> d_model of the models of 2 layers in `sizes`, and how many seeds each has."""


def member(d_model: int, batch: int, tokens: float, evaluations: int, seed: int = 0) -> Member:
    """Return a run of 2 layers and a context of 128 tokens."""
    steps = int(tokens / (128 * batch))
    shape = {"n_layer": 2, "d_model": d_model, "n_vocab": 512, "n_ctx": 128, "batch_sequences": batch}
    return Member(
        Run(tokens="t", lr=0.01, n_steps=steps, warmup_steps=steps // 20, evaluations=evaluations, seed=seed, **shape)
    )


@cache
def design(name: str) -> dict[str, SweepTable]:
    """Return the sweeps of a design in the planted world."""
    sizes = [
        member(width, 8, max(6e6, 2400 * width**2), 25, seed) for width, seeds in WIDTHS[name] for seed in range(seeds)
    ]
    tokens = {1: 2.5e6, 2: 3.5e6, 4: 4.5e6, 8: 6e6, 32: 1e7, 128: 2e7}
    sweeps = {"sizes": sizes, "batches": [member(w, b, tokens[b], 60) for w in (32, 96) for b in tokens]}
    return {sweep: SweepTable(World(LAWS), sweep, members, 10**9) for sweep, members in sweeps.items()}


def fit_chain(name: str, seed: int | None, n_boot: int) -> dict[str, Fit]:
    """Fit the laws of one simulated experiment in turn, as the workflow does; without a seed there is no noise."""
    sweeps = {sweep: table.measured(seed) for sweep, table in design(name).items()}
    laws: dict[str, Fit] = {}
    for law in ("B_crit", "L_N_S", *TRENDS):
        laws[law] = fit_law(law, Inputs.of(sweeps, laws=laws), n_boot, seed or 0)[0]
    return laws


def numbers(laws: dict[str, Fit]) -> dict[tuple[str, str], tuple[float, float | None, float | None]]:
    """Return (law, parameter) -> estimate and interval, with numbers that rest on several laws."""
    found = {
        (law, name): (one.estimate, one.low, one.high)
        for law, fit in laws.items()
        if fit.identified
        for name, one in fit.parameters.items()
    }
    chain = [laws["L_N_S"], laws["B_crit"]]
    if all(fit.identified for fit in chain):
        one = derived(lambda p, q: 1 / (1 / p["alpha_N"] + 1 / p["alpha_S"] + 1 / q["alpha_B"]), *chain)
        found["alpha_C of L(N, S) and B_crit", ""] = (one.value, one.low, one.high)
    return found


def simulated(name: str, n_boot: int, seed: int | None) -> dict[tuple[str, str], Any]:
    """Return the numbers of one simulated experiment."""
    return numbers(fit_chain(name, seed, n_boot))


def table(truth: dict, experiments: list[dict]) -> list[dict[str, Any]]:
    """Return a row a number: how often its interval held the truth, and its width over the ideal one.

    The ideal width is that of 1.96 standard deviations of the estimates over the experiments, each way.
    """
    rows = []
    for key, (value, _, _) in truth.items():
        found = [one[key] for one in experiments if key in one]
        known = [one for one in found if None not in one]
        if not known:
            continue
        positive = all(number > 0 for one in known for number in one) and value > 100
        scale = np.log if positive else np.asarray
        estimate, low, high = (scale(np.array(column, dtype=float)) for column in zip(*known, strict=True))
        spread = scale(np.array([one[0] for one in found], dtype=float)).std()
        row = {"law": key[0], "parameter": key[1], "experiments": len(experiments), "with interval": len(known)}
        row |= {"covered": float(np.mean((low <= scale(value)) & (scale(value) <= high)))}
        row |= {"width over ideal": float(np.median(high - low) / (2 * 1.96 * spread)), "truth": float(value)}
        row |= {
            "planted": PLANTED.get(key),
            "mean estimate": float(np.exp(estimate.mean()) if positive else estimate.mean()),
        }
        rows.append(row)
    return rows
