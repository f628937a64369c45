"""How fast the laws are fitted, and how often their intervals hold the truth.

python -m benchmarks.laws                 1,000 refits and every tenth of a grid of 4,500 starts, on 240 planted points
python -m benchmarks.laws --coverage      the share of simulated data sets whose interval holds the truth
python -m benchmarks.laws --chain         the same of whole experiments, through B_crit, S_min and the frontier

All write what they found into benchmarks/results.json, under "laws".
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import chain
from pipeline.files import read_json, write_json
from pipeline.laws import FORMULAS
from pipeline.laws.fitting.estimate import Objective, minimise
from pipeline.laws.fitting.forms import PowerSum
from pipeline.laws.formulas.chinchilla import Chinchilla

RESULTS = Path(__file__).with_name("results.json")
TRUTH = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}  # Besiroglu et al. 2024


def chinchilla_points(rng: np.random.Generator, n: int = 240, noise: float = 0.005) -> pd.DataFrame:
    """Return runs like those of Hoffmann et al.: 6e18 to 3e21 FLOP, 5 to 500 tokens a parameter."""
    flops = np.exp(rng.uniform(np.log(6e18), np.log(3e21), n))
    ratio = np.exp(rng.uniform(np.log(5), np.log(500), n))
    size = np.sqrt(flops / (6 * ratio))
    tokens = size * ratio
    loss = TRUTH["E"] + TRUTH["A"] / size ** TRUTH["alpha"] + TRUTH["B"] / tokens ** TRUTH["beta"]
    return pd.DataFrame({"n_params": size, "n_tokens": tokens, "loss": loss * np.exp(noise * rng.normal(size=n))})


def keep(found: dict[str, Any]) -> None:
    """Write results beside what this and other benchmarks wrote before."""
    results = read_json(RESULTS) if RESULTS.exists() else {}
    write_json(RESULTS, results | {"laws": results.get("laws", {}) | found})


def speed(n_points: int, n_boot: int, every: int, workers: int) -> dict[str, Any]:
    """Print and return the two figures: bootstrap refits, and the grid of starts."""
    points = chinchilla_points(np.random.default_rng(0), n_points)
    law, objective = Chinchilla(), Objective("huber", 1e-3)
    found: dict[str, Any] = {"points": n_points}
    for bootstrap in ("wild", "pairs"):
        begun = time.perf_counter()
        fit = law.fit(points, bootstrap=bootstrap, n_boot=n_boot)
        taken = time.perf_counter() - begun
        record = fit.bootstrap
        found[f"{bootstrap}_refits"] = {
            "refits": record["replicates"],
            "seconds": round(taken, 2),
            "not_converged": record["not_converged"],
            "largest_gradient": record["largest_gradient"],
        }
        print(
            f"{record['replicates']} {bootstrap} refits on {n_points} points: {taken:.2f} s with the fit itself; "
            f"{record['not_converged']} did not converge, largest gradient {record['largest_gradient']:.1e}"
        )
    model, y = law.model(points), points["loss"].to_numpy()
    starts = law.hoffmann_starts(model)[::every]
    begun = time.perf_counter()
    with ProcessPoolExecutor(workers) as pool:
        values = np.concatenate(
            list(pool.map(partial(minima, model, y, objective), np.array_split(starts, 4 * workers)))
        )
    taken = time.perf_counter() - begun
    lowest = values.min()
    reached = int((values <= lowest * (1 + 1e-7)).sum())
    print(
        f"{len(starts)} starts on {n_points} points, {workers} processes: {taken:.2f} s; "
        f"{reached} reached the lowest, {lowest:.9g}"
    )
    found["grid"] = {"starts": len(starts), "processes": workers, "seconds": round(taken, 2), "reached": reached}
    return {"speed": found}


def minima(model: PowerSum, y: np.ndarray, objective: Objective, starts: np.ndarray) -> np.ndarray:
    """Return the objective that each start ends at."""
    return minimise(model, y, starts, np.ones((1, len(y))), objective).objective


@dataclass(frozen=True)
class Simulation:
    """A law, what its data sets are like, its true parameters, and how a data set of it is drawn."""

    law: str
    data: str
    truth: dict[str, float]
    draw: Callable[[np.random.Generator], pd.DataFrame]


def noisy(table: pd.DataFrame, rng: np.random.Generator, noise: float, within: float = 0.0) -> pd.DataFrame:
    """Multiply the last column by a run's own noise, and by a smaller one of each point."""
    column, runs = table.columns[-1], table["run"] if "run" in table else pd.Series(range(len(table)))
    by_run = dict(zip(runs.unique(), noise * rng.normal(size=runs.nunique()), strict=True))
    factor = np.exp(runs.map(by_run).to_numpy() + within * rng.normal(size=len(table)))
    return table.assign(**{column: table[column] * factor})


def draw_l_n(rng: np.random.Generator, n: int = 8) -> pd.DataFrame:
    """A ladder of sizes, a run each."""
    size = np.geomspace(1e4, 1e7, n)
    return noisy(pd.DataFrame({"n_params": size, "loss": (8.8e13 / size) ** 0.076}), rng, 0.01)


def draw_constant(rng: np.random.Generator) -> pd.DataFrame:
    """A ladder of computes towards a floor, a run each."""
    flops = np.geomspace(1e15, 1e21, 12)
    return noisy(pd.DataFrame({"flops": flops, "loss": 1.7 + 400 / flops**0.15}), rng, 0.005)


def draw_l_n_d(rng: np.random.Generator) -> pd.DataFrame:
    """A grid of sizes and data, a run each."""
    n, d = (g.ravel() for g in np.meshgrid(np.geomspace(4e5, 7e8, 5), np.geomspace(2e7, 2e10, 6)))
    loss = ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103
    return noisy(pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss}), rng, 0.01)


def draw_l_n_s(rng: np.random.Generator) -> pd.DataFrame:
    """Learning curves, twelve points a run."""
    n, s = (g.ravel() for g in np.meshgrid(np.geomspace(1e5, 1e9, 10), np.geomspace(3e2, 1e5, 12), indexing="ij"))
    loss = (6.5e13 / n) ** 0.077 + (2.1e3 / s) ** 0.76
    return noisy(pd.DataFrame({"run": n.astype(str), "n_params": n, "steps": s, "loss": loss}), rng, 0.005, 0.005)


def draw_isoflop(rng: np.random.Generator) -> pd.DataFrame:
    """Planted parabolas: nine budgets of seven sizes, off centre."""
    flops = np.repeat(np.geomspace(6e18, 3e21, 9), 7)
    best = 0.1 * flops**0.5
    size = best * np.tile(np.geomspace(0.25, 3, 7), 9)
    loss = 170 * flops**-0.1 * (1 + 0.02 * np.log(size / best) ** 2)
    return noisy(pd.DataFrame({"flops": flops, "n_params": size, "loss": loss}), rng, 0.003)


L_N_TRUTH = {"N_c": 8.8e13, "alpha_N": 0.076}
SIMULATIONS = (
    *(Simulation("L_N", f"{n} runs", L_N_TRUTH, partial(draw_l_n, n=n)) for n in (6, 8, 12)),
    Simulation("power_plus_constant", "12 runs", {"E": 1.7, "A": 400.0, "alpha": 0.15}, draw_constant),
    Simulation("L_N_D", "30 runs", {"N_c": 6.4e13, "alpha_N": 0.076, "D_c": 1.8e13, "alpha_D": 0.103}, draw_l_n_d),
    Simulation(
        "L_N_S",
        "10 runs of 12 checkpoints",
        {"N_c": 6.5e13, "alpha_N": 0.077, "S_c": 2.1e3, "alpha_S": 0.76},
        draw_l_n_s,
    ),
    Simulation("chinchilla", "60 runs", TRUTH, partial(chinchilla_points, n=60)),
    Simulation("chinchilla", "60 runs, 3 % noise", TRUTH, partial(chinchilla_points, n=60, noise=0.03)),
    Simulation("isoflop", "9 budgets of 7 runs", {"k_N": 0.1, "a": 0.5, "b": 0.5, "c": 0.1}, draw_isoflop),
)


def holds(simulation: Simulation, n_boot: int, seed: int) -> tuple[bool, dict[str, bool]] | None:
    """Draw and fit one data set: whether it is identified, and which intervals hold; None where it has no optimum.

    An end that is open holds whatever lies beyond.
    """
    points = simulation.draw(np.random.default_rng(seed))
    fit = FORMULAS[simulation.law].fit(points, n_boot=n_boot, seed=seed)
    if not fit.found:
        return None
    found = {}
    for name, value in simulation.truth.items():
        ends = {name: (fit.parameters[name].low, fit.parameters[name].high)}
        if name in fit.likelihood:
            ends[f"{name}, by likelihood"] = fit.likelihood[name]
        for what, (low, high) in ends.items():
            found[what] = bool((low is None or low <= value) and (high is None or value <= high))
    return fit.identified, found


def coverage(data_sets: int, n_boot: int, laws: Sequence[str], workers: int) -> None:
    """Print and keep a table: law, parameter, share of data sets with an optimum whose interval holds the truth."""
    print(
        f"{data_sets} data sets, {n_boot} replicates; 95 % intervals (chance alone: "
        f"+- {196 * np.sqrt(0.95 * 0.05 / data_sets):.1f} %)"
    )
    print("| law | data | parameter | covered | no optimum | identified |\n| --- | --- | --- | --- | --- | --- |")
    with ProcessPoolExecutor(workers) as pool:
        for simulation in SIMULATIONS:
            if laws and simulation.law not in laws:
                continue
            results = list(pool.map(partial(holds, simulation, n_boot), range(data_sets), chunksize=4))
            known = [result for result in results if result is not None]
            lost, told = len(results) - len(known), sum(identified for identified, _ in known)
            names = dict.fromkeys(name for _, found in known for name in found)
            shares = {name: float(np.mean([found[name] for _, found in known if name in found])) for name in names}
            for name, share in shares.items():
                print(f"| {simulation.law} | {simulation.data} | {name} | {share:.1%} | {lost} | {told} |", flush=True)
            record = {
                "data_sets": data_sets,
                "replicates": n_boot,
                "no_optimum": lost,
                "identified": told,
                "covered": {name: round(share, 4) for name, share in shares.items()},
            }
            known_before = read_json(RESULTS).get("laws", {}).get("coverage", {}) if RESULTS.exists() else {}
            keep({"coverage": known_before | {f"{simulation.law}, {simulation.data}": record}})


def chain_coverage(experiments: int, n_boot: int, workers: int) -> None:
    """Print and keep a table for each design: how often the intervals of the chain's laws hold the truth."""
    for name in chain.WIDTHS:
        truth = chain.simulated(name, 0, None)
        with ProcessPoolExecutor(workers) as pool:
            found = list(pool.map(partial(chain.simulated, name, n_boot), range(experiments), chunksize=2))
        rows = chain.table(truth, found)
        print(f"{name}: {experiments} experiments, {n_boot} replicates")
        print(pd.DataFrame(rows).to_string(index=False, float_format="%.4g"), flush=True)
        known_before = read_json(RESULTS).get("laws", {}).get("chain", {}) if RESULTS.exists() else {}
        keep({"chain": known_before | {name: {"replicates": n_boot, "rows": rows}}})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.laws", description=__doc__)
    parser.add_argument("--coverage", action="store_true", help="simulate coverage, not speed")
    parser.add_argument("--points", type=int, default=240)
    parser.add_argument("--refits", type=int, default=None, help="bootstrap replicates (1000; coverage: 400)")
    parser.add_argument("--every", type=int, default=10, help="which part of the 4,500 starts: one in so many")
    parser.add_argument("--data-sets", type=int, default=400)
    parser.add_argument("--laws", nargs="*", default=[], choices=sorted(FORMULAS), metavar="LAW")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chain", action="store_true", help="simulate coverage of the chain of laws")
    options = parser.parse_args()
    if options.chain:
        chain_coverage(options.data_sets, options.refits or 199, options.workers)
    elif options.coverage:
        coverage(options.data_sets, options.refits or 400, options.laws, options.workers)
    else:
        keep(speed(options.points, options.refits or 1000, options.every, options.workers))


if __name__ == "__main__":
    main()
