"""Which sizes of a budget IsoFLOP's parabola should go through: the error of the exponent and of the best sizes.

python -m benchmarks.isoflop                 a table: law, design, noise, and the error of each curve
python -m benchmarks.isoflop --coverage      how often the interval of the default window holds the exponent

The truth is Chinchilla's law, with the constants of Besiroglu et al. 2024 and with two exponents that differ more;
nine budgets go from 1e18 to 1e22 FLOP. Sizes are evenly spaced in the logarithm. Those of a budget go from `reach`
times below to `reach` times above a middle, which lies off the best size by a factor between the cube roots of
1 / reach and reach, another one in each budget. With reach "one" all budgets have the same sizes, from a quarter of the
least best one to four times the largest. Noise is normal in the logarithm of the loss.

Both write what they found into benchmarks/results.json, under "laws".
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pandas as pd

from benchmarks.laws import TRUTH, keep
from pipeline.laws import FORMULAS
from pipeline.laws.fitting.estimate import Objective
from pipeline.laws.formulas.chinchilla import best_split
from pipeline.laws.formulas.isoflop import IsoFLOP
from pipeline.laws.formulas.optimum import through

LAWS = {"Besiroglu": TRUTH, "steep": {"E": 1.7, "A": 200.0, "B": 3000.0, "alpha": 0.3, "beta": 0.45}}
BUDGETS = np.geomspace(1e18, 1e22, 9)
SIZES = (5, 8, 11)
REACHES = (4.0, 10.0, 30.0, "one")
NOISES = (0.0, 0.001, 0.003, 0.01)
CURVES: dict[str, IsoFLOP] = {
    "all": IsoFLOP("all"),
    "all, cubic": IsoFLOP("all", 3),
    **{window: IsoFLOP(window) for window in ("nearest=3", "nearest=5", "nearest=7")},
    **{window: IsoFLOP(window) for window in ("factor=4", "factor=10", "factor=16")},
    "factor=16, cubic": IsoFLOP("factor=16", 3),
    "akima": FORMULAS["isoflop_akima"],
}


def best(truth: dict[str, float]) -> np.ndarray:
    """Return the true best size of each budget."""
    return best_split(BUDGETS, np.log(truth["A"]), np.log(truth["B"]), truth["alpha"], truth["beta"])[0]


def exponent(truth: dict[str, float]) -> float:
    """Return the true exponent of the best size."""
    return truth["beta"] / (truth["alpha"] + truth["beta"])


def design(truth: dict[str, float], sizes: int, reach: float | str) -> np.ndarray:
    """Return the sizes of each budget, (n_budgets, sizes)."""
    optima = best(truth)
    if reach == "one":
        return np.tile(np.geomspace(optima[0] / 4, optima[-1] * 4, sizes), (len(BUDGETS), 1))
    off = np.random.default_rng(0).uniform(-1 / 3, 1 / 3, len(BUDGETS))
    return (optima * reach**off)[:, None] * np.geomspace(1 / reach, reach, sizes)


def loss(truth: dict[str, float], n: np.ndarray) -> np.ndarray:
    """Return the true loss of sizes (n_budgets, sizes)."""
    d = BUDGETS[:, None] / (6 * n)
    return truth["E"] + truth["A"] / n ** truth["alpha"] + truth["B"] / d ** truth["beta"]


def errors(
    law: IsoFLOP, truth: dict[str, float], sizes: int, reach: float | str, noise: float, data_sets: int
) -> tuple[float, float]:
    """Return rms errors of the exponent and of the ln of the best sizes, over data sets."""
    n, objective = design(truth, sizes, reach), Objective("mse")
    y = loss(truth, n) * np.exp(noise * np.random.default_rng(1).normal(size=(data_sets, *n.shape)))
    ln_n = np.empty((data_sets, len(BUDGETS)))
    for k, x in enumerate(np.log(n)):
        inside = law.inside(x, y[:, k])
        found = law.minimum(pd.DataFrame({"n_params": n[k]}), y[:, k], inside.astype(float), objective)[0]
        low, high = (np.where(inside, x, end) for end in (np.inf, -np.inf))
        lowest = y[:, k].argmin(-1)
        told = (found > low.min(-1)) & (found < high.max(-1)) & (lowest > 0) & (lowest < sizes - 1)
        ln_n[:, k] = np.where(told, found, np.nan)
    off = (through(np.log(BUDGETS), [ln_n] * 3)[:, 1] - exponent(truth), ln_n - np.log(best(truth)))
    return float(np.sqrt(np.nanmean(off[0] ** 2))), float(np.sqrt(np.nanmean(off[1] ** 2)))


def table(data_sets: int) -> None:
    """Print the errors of each curve, and keep their root mean square and largest over the designs."""
    print(f"| law | sizes | reach | noise | {' | '.join(CURVES)} |\n|{' --- |' * (4 + len(CURVES))}")
    summary: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, truth in LAWS.items():
        for noise in NOISES:
            found = defaultdict(list)
            for sizes, reach in [(k, r) for k in SIZES for r in REACHES]:
                for curve, law in CURVES.items():
                    found[curve].append(errors(law, truth, sizes, reach, noise, data_sets if noise else 1))
                cells = " | ".join(f"{one[-1][0]:.4f} {one[-1][1]:.2f}" for one in found.values())
                print(f"| {name} | {sizes} | {reach} | {noise:g} | {cells} |", flush=True)
            both = {curve: np.array(one) for curve, one in found.items()}
            summary[f"{name}, noise {noise:g}"] = {
                curve: {
                    "exponent, rms and largest": [round(float(f(one[:, 0])), 4) for f in (rms, np.max)],
                    "ln size, rms and largest": [round(float(f(one[:, 1])), 3) for f in (rms, np.max)],
                }
                for curve, one in both.items()
            }
    keep({"isoflop_window": {"data_sets": data_sets, "designs": len(SIZES) * len(REACHES), "errors": summary}})
    for which, one in summary.items():
        print(which, {curve: list(numbers.values()) for curve, numbers in one.items()})


def rms(values: np.ndarray) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(values**2)))


def covered(sizes: int, reach: float | str, noise: float, n_boot: int, seed: int) -> bool | None:
    """Return whether the interval of the exponent holds the truth; None where there is no interval."""
    n = design(TRUTH, sizes, reach)
    y = loss(TRUTH, n) * np.exp(noise * np.random.default_rng(seed).normal(size=n.shape))
    points = pd.DataFrame({"flops": np.repeat(BUDGETS, sizes), "n_params": n.ravel(), "loss": y.ravel()})
    a = FORMULAS["isoflop"].fit(points, n_boot=n_boot, seed=seed).parameters["a"]
    return None if a.low is None or a.high is None else bool(a.low <= exponent(TRUTH) <= a.high)


def coverage(data_sets: int, n_boot: int, workers: int) -> None:
    """Print and keep how often the default window's intervals hold the exponent."""
    print("| sizes | reach | noise | covered | of |\n| --- | --- | --- | --- | --- |")
    rows = []
    with ProcessPoolExecutor(workers) as pool:
        for sizes, reach, noise in [(k, r, e) for k in SIZES for r in REACHES for e in NOISES[1:]]:
            results = list(pool.map(partial(covered, sizes, reach, noise, n_boot), range(data_sets), chunksize=4))
            known = [one for one in results if one is not None]
            share = round(float(np.mean(known)), 3) if known else None
            rows.append({"sizes": sizes, "reach": reach, "noise": noise, "covered": share, "of": len(known)})
            print("| " + " | ".join(f"{value}" for value in rows[-1].values()) + " |", flush=True)
    keep({"isoflop_coverage": {"data_sets": data_sets, "replicates": n_boot, "rows": rows}})


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.isoflop", description=__doc__)
    parser.add_argument("--coverage", action="store_true", help="simulate coverage, not errors")
    parser.add_argument("--data-sets", type=int, default=200)
    parser.add_argument("--refits", type=int, default=199, help="bootstrap replicates")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.coverage:
        coverage(options.data_sets, options.refits, options.workers)
    else:
        table(options.data_sets)


if __name__ == "__main__":
    main()
