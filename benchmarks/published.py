"""Published points and fits under this tool: is our objective at or below the published one?

Download the data yourself (they belong to their authors), then

python -m benchmarks.published --chinchilla FILE    svg_extracted_data.csv of epoch-research/analyzing-chinchilla
python -m benchmarks.published --gadre FOLDER       exp_data/models of mlfoundations/scaling
python -m benchmarks.published --porian FILE        summary_df.pickle.xz of formll/resolving-scaling-law-discrepancies

A pickle can run code when it is read: take it from its authors only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize

from pipeline.errors import UserError, command
from pipeline.laws import FORMULAS
from pipeline.laws.fitting.fit import Fit
from pipeline.laws.fitting.point_table import read_points

# E, A, B, alpha, beta as printed: Besiroglu et al. 2024, Table 1; Hoffmann et al. 2022, Eq 10.
BESIROGLU = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
OUTLIERS = 5  # points of highest loss that Besiroglu et al. leave out


def curve(p: dict[str, float], n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """E + A / N^alpha + B / D^beta."""
    return p["E"] + p["A"] / n ** p["alpha"] + p["B"] / d ** p["beta"]


def huber(p: dict[str, float], n: np.ndarray, d: np.ndarray, loss: np.ndarray, delta: float = 1e-3) -> float:
    """Return the objective of Hoffmann et al., on its own: the sum of Huber's function of the log residual."""
    r = np.abs(np.log(loss) - np.log(curve(p, n, d)))
    return float(np.where(r <= delta, r**2 / 2, delta * (r - delta / 2)).sum())


def line(name: str, fit: Fit, ours: float | None, theirs: float | None, seconds: float) -> str:
    """Return a row of the table."""
    numbers = "; ".join(
        f"{q} {e.estimate:.4g}" + ("" if e.low is None else f" ({e.low:.4g} to {e.high:.4g})")
        for q, e in fit.parameters.items()
        if e.estimate is not None
    )
    shown = (f"{value:.6g}" if value is not None else "-" for value in (theirs, ours))
    return f"| {name} | {fit.n_points} | {' | '.join(shown)} | {numbers or fit.reason} | {seconds:.1f} |"


def chinchilla(path: str) -> list[str]:
    """Fit the points that Besiroglu et al. read off Hoffmann et al.'s Figure 4."""
    points = read_points(path)
    loss = points["loss"].astype(float)
    points = points[loss < np.sort(loss)[-OUTLIERS]]
    rows = []
    for bootstrap in ("wild", "pairs"):
        begun = time.perf_counter()
        fit = FORMULAS["chinchilla"].fit(
            points, columns={"n_params": "Model Size", "flops": "Training FLOP"}, bootstrap=bootstrap
        )
        taken = time.perf_counter() - begun
        n = points["Model Size"].to_numpy(dtype=float)
        d = points["Training FLOP"].to_numpy(dtype=float) / (6 * n)
        y = points["loss"].to_numpy(dtype=float)
        ours = huber({q: fit.value(q) for q in fit.parameters}, n, d, y)
        for source, p in (("Besiroglu", BESIROGLU), ("Hoffmann", HOFFMANN)):
            rows.append(line(f"chinchilla, {bootstrap}, against {source}", fit, ours, huber(p, n, d, y), taken))
    return rows


def gadre(folder: str) -> list[str]:
    """Fit Gadre et al.'s models; their form is ours with alpha = beta, by least squares of the loss."""
    records = []
    for path in sorted(Path(folder).glob("*.json")):
        record = json.loads(path.read_text())
        settings, own = record["hyperparameters"], record["dataset_name"].split("_")[0]
        losses = {result["val_data"][0].split("/")[-2]: result["loss"] for result in record["results"]}
        held_out = [loss for name, loss in losses.items() if "c4_val" in name] or [None]
        records.append((own, settings["params"], settings["tokens"], held_out[0]))
    table = pd.DataFrame(records, columns=["data", "n_params", "n_tokens", "loss"]).dropna()
    if table.empty:
        raise UserError(f"--gadre {folder}: no .json of a model with a loss on c4_val is there")
    rows = []
    for name, points in table.groupby("data"):
        n, d, y = (points[column].to_numpy(dtype=float) for column in ("n_params", "n_tokens", "loss"))
        found = [
            optimize.curve_fit(
                lambda x, e, a, b, slope: e + a * x[0] ** -slope + b * x[1] ** -slope, (n, d), y, start, maxfev=20000
            )[0]
            for start in ((1.0, 100.0, 100.0, 0.3), (2.0, 300.0, 1000.0, 0.3))
        ]
        theirs = min(float(np.mean((y - e - a * n**-s - b * d**-s) ** 2)) for e, a, b, s in found)
        begun = time.perf_counter()
        fit = FORMULAS["chinchilla"].fit(points, objective="mse")
        taken = time.perf_counter() - begun
        rows.append(line(f"Gadre, trained on {name}, loss on C4, mse", fit, fit.objective, theirs, taken))
    return rows


def porian(path: str) -> list[str]:
    """Fit the best sizes of Porian et al.'s experiments again, from the losses at each budget."""
    rows = []
    for _, one in pd.read_pickle(path).iterrows():
        parts = []
        for _, budget in one["optimal_pairs"].iterrows():
            sizes, losses = np.asarray(budget["n_vals"], dtype=float), np.asarray(budget["loss_vals"], dtype=float)
            tokens = np.asarray(budget["t_vals"], dtype=float)
            parts.append(
                pd.DataFrame({"flops": budget["flops"], "n_params": sizes, "n_tokens": tokens, "loss": losses})
            )
        points = pd.concat(parts).dropna().reset_index(drop=True)
        begun = time.perf_counter()
        fit = FORMULAS["isoflop_akima"].fit(points, objective="mse_log")
        taken = time.perf_counter() - begun
        theirs = one["fit_results"]["basic"]["n_exponent"]
        name = "Porian, " + " ".join(str(one[key]) for key in ("dataset", "hparams", "warmup", "decay", "param_count"))
        ours = fit.parameters["a"].estimate
        rows.append(line(f"{name}: exponent a", fit, ours, theirs, taken))
    return rows


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published", description=__doc__.split("\n")[0])
    parser.add_argument("--chinchilla", metavar="CSV")
    parser.add_argument("--gadre", metavar="FOLDER")
    parser.add_argument("--porian", metavar="PICKLE")
    options = parser.parse_args(argv)
    print("| data | points | published objective (Porian: exponent) | ours | parameters, 95 % | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for make, path in ((chinchilla, options.chinchilla), (gadre, options.gadre), (porian, options.porian)):
        if path is not None:
            print("\n".join(make(path)), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
