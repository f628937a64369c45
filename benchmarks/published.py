"""Published points and fits under this tool: is our objective at or below the published one, of the same form?

Download the data yourself (they belong to their authors), then

python -m benchmarks.published --chinchilla FILE    svg_extracted_data.csv of epoch-research/analyzing-chinchilla
python -m benchmarks.published --gadre FOLDER       exp_data/models of mlfoundations/scaling
python -m benchmarks.published --misfitting FILE    data/scaling_results_last_ckpt_only.csv of hadasah/scaling_laws
python -m benchmarks.published --porian FILE        summary_df.pickle.xz of formll/resolving-scaling-law-discrepancies
python -m benchmarks.published --multi-power FOLDER  loss_curve_repo of thu-yao-01-luo/MultiPowerLaw

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
from pipeline.laws.fitting.fit import Fit, short
from pipeline.laws.fitting.point_table import read_points

# E, A, B, alpha, beta as printed: Besiroglu et al. 2024, Table 1; Hoffmann et al. 2022, Eq 10.
BESIROGLU = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
MISFITTING = {"free": 0.00502165, "alpha = beta": 0.0052437}  # objectives of 261 rows, as published
# L_0, A, alpha, B, C, beta, gamma by millions of parameters: src/config.py of Luo et al. 2025.
LUO = {
    25: (3.04045406, 0.52468604, 0.50786857, 363.78751622, 2.06560812, 0.58279013, 0.64142257),
    100: (2.6514477, 0.60115152, 0.45295811, 437.9464276, 2.13245612, 0.59785199, 0.65523644),
    400: (2.37474466, 0.65421216, 0.42878731, 523.42464371, 2.02462735, 0.59350493, 0.63472457),
}
LUO_FITTED = ("cosine_24000", "constant_24000", "wsdcon_9")
LARGE = 1e9  # Gadre et al.'s models of more parameters are held out
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
        f"{q} {e.estimate:.4g}" + ("" if e.low is e.high is None else f" ({short(e.low)} to {short(e.high)})")
        for q, e in fit.parameters.items()
        if e.estimate is not None
    )
    shown = (f"{value:.6g}" if value is not None else "-" for value in (theirs, ours))
    said = f"{numbers} ({fit.reason})" if numbers and fit.reason else numbers or fit.reason
    return f"| {name} | {fit.n_points} | {' | '.join(shown)} | {said} | {seconds:.1f} |"


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
        ours = huber({q: e.estimate for q, e in fit.parameters.items()}, n, d, y)
        for source, p in (("Besiroglu", BESIROGLU), ("Hoffmann", HOFFMANN)):
            rows.append(line(f"chinchilla, {bootstrap}, against {source}", fit, ours, huber(p, n, d, y), taken))
    return rows


def misfitting(path: str) -> list[str]:
    """Fit the last losses of Li et al. 2025, (Mis)Fitting, with the exponents free and with one for both."""
    points = read_points(path)
    points = points.assign(run=range(len(points)))  # two rows are the same
    rows = []
    for name, tie in (("free", None), ("alpha = beta", {"alpha": "beta"})):
        begun = time.perf_counter()
        fit = FORMULAS["chinchilla"].fit(points, columns={"n_params": "N", "n_tokens": "D"}, tie=tie, n_boot=0)
        rows.append(line(f"Misfitting, {name}", fit, fit.objective, MISFITTING[name], time.perf_counter() - begun))
    return rows


def gadre(folder: str) -> list[str]:
    """Fit Gadre et al.'s models in their form by least squares of the loss; then their five small ones alone.

    Those are the four smallest sizes at 20 tokens a parameter and the smallest at 320; the largest runs are held out.
    """
    records = []
    for path in sorted(Path(folder).glob("*.json")):
        record = json.loads(path.read_text())
        settings, own = record["hyperparameters"], record["dataset_name"].split("_")[0]
        losses = {result["val_data"][0].split("/")[-2]: result["loss"] for result in record["results"]}
        on_c4 = [loss for name, loss in losses.items() if "c4_val" in name] or [None]
        records.append((own, settings["params"], settings["tokens"], settings["chinchilla_multiplier"], on_c4[0]))
    table = pd.DataFrame(records, columns=["data", "n_params", "n_tokens", "multiplier", "loss"]).dropna()
    if table.empty:
        raise UserError(f"--gadre {folder}: no .json of a model with a loss on c4_val is there")
    rows = []
    for name, points in table.groupby("data"):
        large = points.n_params > LARGE
        usual = ~large & (points.multiplier == 1)
        five = usual | ((points.multiplier == 16) & (points.n_params == points.n_params.min()))
        for which, some in (("all models", points), ("five small models", points[five])):
            begun = time.perf_counter()
            fit = FORMULAS["gadre"].fit(some, n_boot=0)
            taken = time.perf_counter() - begun
            rows.append(line(f"Gadre, trained on {name}, {which}", fit, fit.objective, least_squares(some), taken))
        held = points[large]
        error = fit.predict(n_params=held.n_params.to_numpy(), n_tokens=held.n_tokens.to_numpy()) / held.loss - 1
        said = ", ".join(
            f"{n:.2g} on {d:.2g}: {e:+.2%}" for n, d, e in zip(held.n_params, held.n_tokens, error, strict=True)
        )
        rows.append(
            f"| Gadre, trained on {name}, error of the five small models' fit | {len(held)} | - | - | {said} | |"
        )
    return rows


def least_squares(points: pd.DataFrame) -> float:
    """Return the mean square that `scipy.optimize.curve_fit` leaves in the form of Gadre et al."""
    n, d, y = (points[column].to_numpy(dtype=float) for column in ("n_params", "n_tokens", "loss"))
    least = np.inf
    for start in ((1.0, 100.0, 100.0, 0.3), (2.0, 300.0, 1000.0, 0.3)):
        e, a, b, s = optimize.curve_fit(
            lambda x, e, a, b, slope: e + a * x[0] ** -slope + b * x[1] ** -slope, (n, d), y, start, maxfev=20000
        )[0]
        least = min(least, float(np.mean((y - e - a * n**-s - b * d**-s) ** 2)))
    return least


def porian(path: str) -> list[str]:
    """Fit the best sizes of Porian et al.'s experiments again, by their interpolation and by parabolas."""
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
        theirs = one["fit_results"]["basic"]["n_exponent"]
        name = "Porian, " + " ".join(str(one[key]) for key in ("dataset", "hparams", "warmup", "decay", "param_count"))
        for law in ("isoflop_akima", "isoflop"):
            begun = time.perf_counter()
            fit = FORMULAS[law].fit(points, objective="mse_log")
            taken = time.perf_counter() - begun
            rows.append(line(f"{name}: exponent a, {law}", fit, fit.parameters["a"].estimate, theirs, taken))
    return rows


def rates(name: str) -> np.ndarray:
    """Return the learning rate of each step from 0 that a file of Luo et al. was trained with."""
    warm, peak, least = 2160, 3e-4, 3e-5
    kind, *numbers = name.split("_")
    steps = int(numbers[-1]) if kind != "wsdcon" else 16000
    k = np.arange(warm, steps)
    part = (k - warm) / (steps - warm)
    falling = np.clip((k - 20000) / (steps - 20000), 0, 1)
    after = {
        "constant": np.full(len(k), peak),
        "cosine": least + (peak - least) * (1 + np.cos(np.pi * part)) / 2,
        "wsd": peak * (least / peak) ** falling,
        "wsdld": peak + (least - peak) * falling,
        "wsdcon": np.where(k < 8000, peak, float(numbers[0]) * 1e-5),
    }[kind]
    return np.concatenate([np.linspace(0, peak, warm), after])


def step_by_step(p: Sequence[float], lr: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The Multi-Power Law as its authors compute it, with the rise of the warmup among the falls."""
    total, (e, a, alpha, b, c, beta, gamma) = np.cumsum(lr), p
    return np.array(
        [
            e
            + a * total[t] ** -alpha
            + b * np.diff(lr[: t + 1]) @ (1 - (1 + c * lr[1 : t + 1] ** -gamma * (total[t] - total[:t])) ** -beta)
            for t in at
        ]
    )


def multi_power(folder: str) -> list[str]:
    """Fit Luo et al.'s three curves of each size, and predict the other six."""
    law, rows = FORMULAS["multi_power"], []
    for size, theirs in LUO.items():
        tables = {}
        for path in sorted(Path(folder, f"csv_{size}").glob("*.csv")):
            lr, measured = rates(path.stem), read_points(path).astype(float)
            measured = measured[measured["step"] < len(lr)]
            table = pd.DataFrame({"run": path.stem, "step": np.arange(1, len(lr) + 1), "lr": lr, "loss": np.nan})
            table.loc[measured["step"].astype(int), "loss"] = measured["loss"].to_numpy()  # step 0 is the first
            tables[path.stem] = table
        begun = time.perf_counter()
        fit = law.fit(pd.concat([tables[name] for name in LUO_FITTED], ignore_index=True), n_boot=0)
        taken, total, errors = time.perf_counter() - begun, 0.0, {}
        for name, table in tables.items():
            at = np.flatnonzero(table["loss"].notna())
            y = table["loss"].to_numpy()[at]
            reference, ours = (
                step_by_step(theirs, table["lr"].to_numpy(), at),
                fit.predict(step=table["step"].to_numpy(), lr=table["lr"].to_numpy())[at],
            )
            if name in LUO_FITTED:
                r = np.abs(np.log(y) - np.log(reference))
                total += float(np.where(r <= 1e-3, r**2 / 2, 1e-3 * (r - 5e-4)).sum())
            else:
                errors[name] = [float(np.mean(np.abs(one / y - 1))) for one in (reference, ours)]
        rows.append(line(f"Multi-Power Law, {size} million", fit, fit.objective, total, taken))
        said = ", ".join(f"{name}: {published:.2%} and {ours:.2%}" for name, (published, ours) in errors.items())
        rows.append(
            f"| mean error elsewhere, published parameters and ours | {len(errors)} curves | - | - | {said} | |"
        )
    return rows


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published", description=__doc__.split("\n")[0])
    parser.add_argument("--chinchilla", metavar="CSV")
    parser.add_argument("--gadre", metavar="FOLDER")
    parser.add_argument("--misfitting", metavar="CSV")
    parser.add_argument("--porian", metavar="PICKLE")
    parser.add_argument("--multi-power", metavar="FOLDER")
    options = parser.parse_args(argv)
    print("| data | points | published objective (Porian: exponent) | ours | parameters, 95 % | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for make in (chinchilla, gadre, misfitting, porian, multi_power):
        path = getattr(options, make.__name__)
        if path is not None:
            print("\n".join(make(path)), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
