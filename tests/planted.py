"""Sweep tables with a planted truth: real runs, real counts, losses from known laws and a little noise.

Everything that is drawn or tabulated can be tested on them without training. The truth:

L(N, S) = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S,  S_min = S / (1 + B_crit(L) / B),  B_crit(L) = B_* L^(-1/alpha_B)
L(N, D) = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D

Losses are those of a small model on a small vocabulary: 2 to 6 nats.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from pipeline.analysis.gather import curve_table, run_columns
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.points import RECIPES
from pipeline.laws import FORMULAS, Estimate, Fit
from pipeline.plan import catalog
from pipeline.plan.counts import count
from pipeline.plan.run import Run

TRUTH = {
    "alpha_N": 0.080,
    "N_c": 2.5e10,
    "alpha_D": 0.100,
    "D_c": 2.0e10,
    "alpha_S": 0.76,
    "S_c": 40.0,
    "alpha_B": 0.21,
    "B_star": 4.0e5,
}
"""The planted constants: parameters, tokens, steps."""

VOCABULARY = 512
TRAIN_TOKENS = 20_000_000
"""Tokens of the whole training set."""
NOISE = 0.0025
"""Standard deviation of a run's loss over seeds, relative."""

LADDER = [(1, 16), (2, 16), (2, 24), (2, 32), (2, 48), (2, 64), (2, 96), (2, 128), (4, 128)]
"""Shapes of the sizes sweep, (n_layer, d_model)."""
SHOWN = [(1, 16)]
"""Shapes that are shown but not fitted."""
FEW = [(1, 16), (2, 16), (2, 32), (2, 48), (2, 64)]
"""A ladder as small as that of the test preset."""


def loss_n(n_params: Any) -> Any:
    """Return L(N), all data, to convergence."""
    return (TRUTH["N_c"] / n_params) ** TRUTH["alpha_N"]


def loss_d(n_tokens: Any) -> Any:
    """Return L(D), a large model, early stopping."""
    return (TRUTH["D_c"] / n_tokens) ** TRUTH["alpha_D"]


def loss_n_d(n_params: Any, n_tokens: Any) -> Any:
    """Return L(N, D), early stopping (Eq 1.5)."""
    ratio = TRUTH["alpha_N"] / TRUTH["alpha_D"]
    return ((TRUTH["N_c"] / n_params) ** ratio + TRUTH["D_c"] / n_tokens) ** TRUTH["alpha_D"]


def critical_batch(loss: Any) -> Any:
    """Return B_crit(L) in tokens (Eq 5.3)."""
    return TRUTH["B_star"] * np.asarray(loss, float) ** (-1 / TRUTH["alpha_B"])


def loss_n_s(n_params: Any, steps: Any, batch_tokens: float = np.inf, floor: float | None = None) -> np.ndarray:
    """Return L(N, S) at a batch of `batch_tokens` (Eq 5.6, 5.4); infinite batch: S is S_min.

    `floor` takes the place of the first term, the loss at convergence.
    """
    steps = np.maximum(np.asarray(steps, float), 1e-3)
    floor = loss_n(n_params) if floor is None else floor
    low, high = np.full(steps.shape, floor), np.full(steps.shape, 1e4)
    for _ in range(80):  # bisection: the right side falls in L, since B_crit does
        middle = np.sqrt(low * high)
        adjusted = steps / (1 + critical_batch(middle) / batch_tokens)
        above = floor + (TRUTH["S_c"] / adjusted) ** TRUTH["alpha_S"] > middle
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return low


def random(*names: Any) -> np.random.Generator:
    """Return the random stream of some names: the same in every process."""
    return np.random.default_rng(zlib.crc32(repr(names).encode()))


def make_run(n_layer: int, d_model: int, **changes: Any) -> Run:
    """Return a run of the planted experiment; 3,000 steps of 2,048 tokens unless told otherwise."""
    settings: dict[str, Any] = {
        "tokens": "planted-0000000000",
        "n_layer": n_layer,
        "d_model": d_model,
        "n_head": max(1, d_model // 32) if d_model % max(1, d_model // 32) == 0 else 1,
        "n_vocab": VOCABULARY,
        "n_steps": 3000,
        "warmup_steps": 100,
        "lr": float(f"{0.01 * (32 / d_model) ** 0.6:.3g}"),
    }
    return Run(**settings | changes)


def steps_of(run: Run) -> np.ndarray:
    """Return the steps at which a run is evaluated: 0 and log-spaced ones, and every `evaluate_every`."""
    steps = set(np.unique(np.geomspace(1, run.n_steps, run.evaluations).round().astype(int)))
    if run.evaluate_every:
        steps |= set(range(run.evaluate_every, run.n_steps + 1, run.evaluate_every))
    return np.array([0, *sorted(steps)])


def rates(run: Run, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the learning rate at each step, and its sum so far: warmup, then the run's schedule."""
    s = np.arange(run.n_steps + 1)
    part = np.clip((s - run.warmup_steps) / max(1, run.n_steps - run.warmup_steps), 0, 1)
    shapes: dict[str, Callable[[], np.ndarray]] = {
        "cosine": lambda: 0.5 + 0.5 * np.cos(np.pi * part),
        "linear": lambda: 1 - part,
        "constant": lambda: np.ones_like(part),
        "inverse_sqrt": lambda: np.sqrt(max(run.warmup_steps, 1) / np.maximum(s, max(run.warmup_steps, 1))),
        "cosine_cycles": lambda: 0.5 + 0.5 * np.cos(np.pi * (3 * part % 1)),
        "step": lambda: 0.1 ** np.floor(3 * part.clip(0, 0.999)),
        "wsd": lambda: (
            1 - np.sqrt(np.clip((s - (1 - run.cooldown) * run.n_steps) / (run.cooldown * run.n_steps), 0, 1))
        ),
    }
    shape = run.lr_final + (1 - run.lr_final) * shapes[run.schedule]()
    rate = run.lr * np.minimum(1, s / max(1, run.warmup_steps)) * shape
    return rate[steps], np.cumsum(rate)[steps]


def curve(run: Run, floor: float | None = None, early_stop: bool = False, noise: float = NOISE) -> pd.DataFrame:
    """Return the planted learning curve of a run: the columns of curve.parquet.

    Parameters
    ----------
    floor
        Loss at convergence; L(N) if not given.
    early_stop
        The test loss reaches `floor`, then rises, and the curve ends; the train loss goes on falling.
    noise
        Relative standard deviation of the whole run's loss.
    """
    n_params = max(count(run).n_params_reuse, 1)
    steps = steps_of(run)
    stream = random(run.id)
    floor = loss_n(n_params) if floor is None else floor
    clean = loss_n_s(n_params, steps, run.batch_tokens, floor)
    start = math.log(VOCABULARY)
    clean = np.minimum(clean, start)
    if early_stop:
        s_stop = (TRUTH["S_c"] / max(floor - loss_n(n_params), 0.02)) ** (1 / TRUTH["alpha_S"])
        late = np.maximum(np.log(np.maximum(steps, 1) / s_stop), 0)
        scale = floor / np.interp(s_stop, steps, clean)
        train = clean - 0.6 * late
        clean = np.where(steps <= s_stop, clean * np.minimum(1, scale ** (steps / s_stop)), floor + 0.25 * late)
    else:
        train = clean * 0.99
    loss = clean * (1 + noise * stream.standard_normal()) * (1 + 0.2 * noise * stream.standard_normal(len(steps)))
    train = np.where(steps > 0, np.maximum(train, 0.3), np.nan)
    rate, summed = rates(run, steps)
    table = pd.DataFrame(
        {
            "step": steps.astype("int64"),
            "n_tokens": steps.astype("int64") * run.batch_tokens,
            "lr": rate,
            "lr_sum": summed,
            "train_loss": train,
            "loss": loss,
            "noise_scale": np.nan,
            "gradient_norm": 0.5 + 2 / np.sqrt(steps + 1.0),
        }
    )
    if run.noise:
        table["noise_scale"] = critical_batch(loss) * np.exp(0.3 * stream.standard_normal(len(steps)))
    if early_stop:  # patience: ten evaluations after the lowest
        table = table.iloc[: int(table.loss.argmin()) + 11]
    return table


def sweep_table(name: str, runs: Iterable[tuple[Run, dict[str, Any]]]) -> pd.DataFrame:
    """Return a sweep table, as `pipeline.analysis.gather` makes it.

    Each run comes with options: label, fitted, status, and whatever `curve` takes. A run that comes twice is there
    once, with both labels and the options of the first.
    """
    once: dict[str, tuple[Run, dict[str, Any]]] = {}
    for run, options in runs:
        _, first = once.setdefault(run.id, (run, dict(options)))
        if options.get("label", "") not in first.get("label", "").split(","):
            first["label"] = f"{first['label']},{options['label']}"
    tables = []
    for run, options in once.values():
        more = {"label": "", "fitted": True, "status": "finished"} | options
        label, fitted, status = more.pop("label"), more.pop("fitted"), more.pop("status")
        table = curve_table(curve(run, **more), run, status, TRAIN_TOKENS)
        tables.append(table.assign(sweep=name, label=label, fitted=fitted))
    return pd.concat(tables, ignore_index=True)


def sizes(shapes: Sequence[tuple[int, int]] = LADDER, seeds: Sequence[int] = (0, 1), **changes: Any) -> pd.DataFrame:
    """Return the sizes sweep: a ladder of shapes on all data; one layer is 6 % above L(N)."""
    return sweep_table("sizes", _sizes(shapes, seeds, **changes))


def data(
    shapes: Sequence[tuple[int, int]] = ((2, 16), (2, 32), (2, 64), (4, 128)),
    tokens: Sequence[int | None] = (100_000, 250_000, 630_000, 1_600_000, 4_000_000, 10_000_000, None),
    seeds: Sequence[int] = (0,),
) -> pd.DataFrame:
    """Return the data sweep: N x D with dropout and early stopping; None is the whole training set."""
    return sweep_table("data", _data(shapes, tokens, seeds))


Members = list[tuple[Run, dict[str, Any]]]


def _sizes(shapes: Sequence[tuple[int, int]], seeds: Sequence[int], **changes: Any) -> Members:
    members = []
    for shape in shapes:
        for seed in seeds:
            run = make_run(*shape, seed=seed, **changes)
            floor = loss_n(count(run).n_params) * (1.06 if run.n_layer == 1 else 1)
            members.append((run, {"fitted": shape not in SHOWN, "floor": float(floor)}))
    return members


def _data(shapes: Sequence[tuple[int, int]], tokens: Sequence[int | None], seeds: Sequence[int]) -> Members:
    early = {"dropout": 0.1, "evaluate_every": 50, "patience": 10, "n_steps": 6000}
    members = []
    for shape in shapes:
        for n_unique in tokens:
            for seed in seeds:
                run = make_run(*shape, seed=seed, n_unique_tokens=n_unique, **early)
                floor = float(loss_n_d(count(run).n_params, n_unique or TRAIN_TOKENS))
                members.append((run, {"floor": floor, "early_stop": True}))
    return members


def _depths(few: bool) -> Members:
    """0, 1, 2, 3, 6 layers at several widths: 0 layers hardly improve with width, 1 layer is 6 % above the rest."""
    members = []
    for n_layer in (0, 1, 2, 3, 6):
        for d_model in (16, 64) if few else (16, 24, 32, 48, 64, 96):
            run = make_run(n_layer, d_model)
            floor = (
                4.9 * d_model**-0.03 if n_layer == 0 else loss_n(count(run).n_params) * (1.06 if n_layer == 1 else 1)
            )
            members.append((run, {"floor": float(floor), "fitted": n_layer > 1}))
    return members


def _batches(few: bool) -> Members:
    """Two sizes, batches of 256 to 16,384 tokens, all near convergence; the noise scale is measured."""
    members = []
    for shape in ((2, 24), (2, 96)):
        for sequences in (4, 16, 64) if few else (2, 4, 8, 16, 32, 64, 128):
            steps = int(600 * (1 + 4000 / (sequences * 128)))
            members.append((make_run(*shape, batch_sequences=sequences, n_steps=steps, noise=True), {"label": ""}))
    return members


def _shapes(few: bool) -> Members:
    """Feed-forward ratio, aspect ratio and head size at N of about 98,304: a few percent at the extremes."""
    members = []

    def add(label: str, run: Run, away: float) -> None:
        members.append((run, {"label": label, "floor": float(loss_n(count(run).n_params) * (1 + 0.02 * away**2))}))

    for ratio, d_model in ((0.5, 100), (1, 90), (2, 78), (4, 64), (8, 50), (16, 36), (40, 24))[:: 3 if few else 1]:
        add("d_ff_ratio", make_run(2, d_model, n_head=1, d_ff=round(ratio * d_model)), math.log10(ratio / 2))
    more = () if few else ((3, 52), (6, 37))
    for n_layer, d_model in (*((1, 90), (2, 64), (4, 46), (8, 32), (16, 22), (32, 16))[:: 2 if few else 1], *more):
        add("aspect", make_run(n_layer, d_model, n_head=1), math.log10(d_model / n_layer / 12))
    for d_model, n_layer in ((32, 8), (64, 2)) if few else ((32, 8), (64, 2), (128, 1)):
        for n_head in (1, 2, 4, 8, 16):
            add("heads", make_run(n_layer, d_model, n_head=n_head), 0.5 * math.log10(d_model / n_head / 16))
    return members


def _lstms(few: bool) -> Members:
    """LSTMs of 1, 2, 4 layers: as good as Transformers at the smallest N, worse as N grows."""
    members = []
    for n_layer in (1, 2, 4):
        for d_model in (16, 64) if few else (16, 32, 64, 128):
            run = make_run(n_layer, d_model, family="lstm", n_head=1)
            n_params = count(run).n_params
            floor = loss_n(n_params) * (n_params / 2000) ** (0.02 + 0.01 / n_layer)
            members.append((run, {"floor": float(floor)}))
    return members


def _recurrent(few: bool) -> Members:
    """Reuse 2, 4, 8: better than a plain Transformer of the same N, worse than one of N times the reuse."""
    members = []
    for n_reuse in (2, 4, 8):
        for d_model in (32, 96) if few else (16, 32, 48, 96):
            run = make_run(2, d_model, family="recurrent", n_reuse=n_reuse)
            floor = loss_n(count(run).n_params * n_reuse**0.3)
            members.append((run, {"floor": float(floor)}))
    return members


def _short(few: bool) -> Members:
    """A context of 8 tokens, the same tokens a batch."""
    return [
        (run, {"floor": float(1.18 * loss_n(count(run).n_params))})
        for run in (make_run(*shape, n_ctx=8, batch_sequences=256) for shape in (FEW if few else LADDER))
    ]


def _schedules(few: bool) -> Members:
    """One size: schedules and rates; the loss depends on the summed rate, and a little on noise."""
    members = []
    for schedule in ("cosine", "linear", "constant", "inverse_sqrt", "cosine_cycles", "step", "wsd"):
        for lr in (0.003, 0.01) if few else (0.001, 0.003, 0.01, 0.02):
            run = make_run(2, 32, schedule=schedule, lr=lr)
            summed = rates(run, np.array([run.n_steps]))[1][0]
            decays = 0 if schedule in ("constant", "inverse_sqrt") else 1
            floor = loss_n(count(run).n_params) * (1.02 - 0.015 * decays + 0.08 * math.exp(-summed / 5))
            members.append((run, {"floor": float(floor), "label": schedule}))
    return members


def _transfer(few: bool) -> Members:
    """Depth at N of about 98,304."""
    return [
        (make_run(n_layer, d_model, n_head=1), {})
        for n_layer, d_model in ((1, 90), (2, 64), (4, 46), (8, 32), (16, 22))[:: 2 if few else 1]
    ]


def _lr_scan(few: bool) -> Members:
    """Learning rates by size, best at the rule's rate."""
    members = []
    for shape in ((2, 16), (2, 64)) if few else ((2, 16), (2, 32), (2, 64), (2, 128)):
        for factor in (0.25, 0.5, 1, 2, 4):
            base = make_run(*shape)
            floor = loss_n(count(base).n_params) * (1 + 0.01 * math.log2(factor) ** 2)
            members.append((make_run(*shape, lr=base.lr * factor), {"floor": float(floor)}))
    return members


def _precision(few: bool) -> Members:
    """Sizes in two precisions, which change nothing."""
    return [
        (make_run(*shape, seed=seed, precision=precision), {})
        for shape in LADDER[2:7]
        for seed in (0, 1)
        for precision in ("float32", "bfloat16")
    ]


def members(name: str, few: bool = False) -> Members:
    """Return the runs of a sweep of the config with what is planted in each; `few`: as few as the test preset's."""
    if name == "sizes":
        return _sizes(FEW, (0,)) if few else _sizes(LADDER, (0, 1))
    if name == "data":
        shapes = ((2, 16), (2, 32)) if few else ((2, 16), (2, 32), (2, 64), (4, 128))
        tokens = (
            (100_000, 630_000, None) if few else (100_000, 250_000, 630_000, 1_600_000, 4_000_000, 10_000_000, None)
        )
        return _data(shapes, tokens, (0,))
    if name == "one_large":
        return [(make_run(*(FEW if few else LADDER)[-1], snapshots=6 if few else 12), {})]
    kinds = {
        "depths": _depths,
        "batches": _batches,
        "shapes": _shapes,
        "lstms": _lstms,
        "recurrent": _recurrent,
        "short": _short,
        "schedules": _schedules,
        "transfer": _transfer,
        "lr_scan": _lr_scan,
        "precision": _precision,
    }
    return kinds[name](few)


SWEEPS = (
    "sizes",
    "data",
    "depths",
    "batches",
    "shapes",
    "lstms",
    "recurrent",
    "short",
    "schedules",
    "transfer",
    "one_large",
    "lr_scan",
    "precision",
)
"""Every sweep of the config."""
OFFSETS = {"train": -0.02, "test": 0.0, "wikipedia": 0.25, "speeches": 0.45, "tweets": 1.1, "films": 0.6, "code": 1.4}
"""Corpus -> what its loss is above the test loss."""


@cache
def sweep(name: str, few: bool = False) -> pd.DataFrame:
    """Return the table of a sweep."""
    return sweep_table(name, members(name, few))


@cache
def evaluations(name: str, few: bool = False) -> pd.DataFrame:
    """Return the evaluation table of a sweep: loss by corpus and position at the end, and at a run's snapshots.

    The loss falls as T^-0.5 (1 + log10 N / 40) to a constant; an LSTM's is flat after 30 tokens. Its mean over
    positions is the run's test loss at that step plus the corpus's offset.
    """
    tables = []
    for run, options in members(name, few):
        more = {key: value for key, value in options.items() if key in ("floor", "early_stop", "noise")}
        points = curve(run, **more)
        rows = points.loc[[points.loss.idxmin() if run.patience else points.index[-1]]]
        if run.snapshots:
            marks = np.geomspace(1, points.step.max(), run.snapshots)
            rows = points.iloc[sorted({int(np.abs(points.step - mark).to_numpy().argmin()) for mark in marks})]
        position = np.arange(1, run.n_ctx + 1)
        n_params = max(count(run).n_params, 1000)
        reach = np.minimum(position, 30) if run.family == "lstm" else position
        falling = reach ** -(0.5 * (1 + math.log10(n_params) / 40))
        for step, loss in zip(rows.step, rows.loss, strict=True):
            for corpus, offset in OFFSETS.items():
                amplitude = 2.2 * (1 - math.exp(-step / 300))
                by_position = loss + offset + amplitude * (falling - falling.mean())
                block = pd.DataFrame({"step": step, "corpus": corpus, "position": position, "loss": by_position})
                block = block.assign(n=1024, **run_columns(run, TRAIN_TOKENS), status=options.get("status", "finished"))
                block["final"] = step == rows.step.max()
                block["n_tokens"] = step * run.batch_tokens
                block = block.assign(sweep=name, label=options.get("label", ""), fitted=options.get("fitted", True))
                tables.append(block)
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class PlantedFit:
    """A law with the planted truth, with the interface of `pipeline.laws.fit.Fit`."""

    law: str
    equation: str
    parameters: dict[str, Estimate]
    function: Callable[..., Any]
    text: str
    identified: bool = True
    reason: str | None = None
    n_points: int = 8
    n_runs: int = 8
    r_squared: float = 0.999
    runs: tuple[str, ...] = ()

    def predict(self, **inputs: Any) -> np.ndarray:
        """Return the law's response."""
        return np.asarray(self.function(**{name: np.asarray(value, float) for name, value in inputs.items()}))

    def formula(self) -> str:
        """Return the law with its numbers."""
        return self.text

    def value(self, name: str) -> float:
        """Return an estimate."""
        return self.parameters[name].estimate


def _fit(law: str, equation: str, function: Callable[..., Any], text: str, **values: tuple[float, float]) -> PlantedFit:
    parameters = {
        name: Estimate(ours, ours * 0.97, ours * 1.03, paper, "" if name.startswith("alpha") else "some")
        for name, (ours, paper) in values.items()
    }
    return PlantedFit(law, equation, parameters, function, text)


@cache
def fits() -> dict[str, Any]:
    """Return every law, fitted to a few points of the planted truth with a little noise.

    B_crit and L(N, S) have exactly the planted constants.
    """
    n = np.geomspace(6e3, 8e5, 12)
    d = np.geomspace(1e5, 2e7, 12)
    grid_n, grid_d = (values.ravel() for values in np.meshgrid(n[::2], d[::2]))
    points = {
        "L_N": pd.DataFrame({"n_params": n, "loss": loss_n(n)}),
        "log_N": pd.DataFrame({"n_params": n, "loss": loss_n(n)}),
        "L_D": pd.DataFrame({"n_tokens": d, "loss": loss_d(d)}),
        "L_N_D": pd.DataFrame({"n_params": grid_n, "n_tokens": grid_d, "loss": loss_n_d(grid_n, grid_d)}),
        "L_C": compute_points(adjusted=False),
        "L_C_min": compute_points(adjusted=True),
    }
    known: dict[str, Any] = {}
    for name, table in points.items():
        noisy = table.loss * (1 + NOISE * random(name).standard_normal(len(table)))
        known[name] = FORMULAS[name].fit(table.assign(loss=noisy), n_boot=200)
    t = TRUTH
    known["B_crit"] = _fit(
        "B_crit",
        "5.3",
        lambda loss: critical_batch(loss),
        "B_crit = 4e5 L^-4.76",
        alpha_B=(t["alpha_B"], 0.21),
        B_star=(t["B_star"], 2e8),
    )
    known["L_N_S"] = _fit(
        "L_N_S",
        "5.6",
        lambda n_params, steps: loss_n(n_params) + (t["S_c"] / steps) ** t["alpha_S"],
        "L = (2.5e10 / N)^0.080 + (40 / S_min)^0.760",
        alpha_N=(t["alpha_N"], 0.077),
        alpha_S=(t["alpha_S"], 0.76),
        N_c=(t["N_c"], 6.5e13),
        S_c=(t["S_c"], 2.1e3),
    )
    return known


@cache
def compute_points(adjusted: bool) -> pd.DataFrame:
    """Return the least loss at each of some computes, of models of any size."""
    n, steps = (values.ravel() for values in np.meshgrid(np.geomspace(5e3, 8e5, 60), np.geomspace(150, 3000, 60)))
    batch = 2048.0
    loss = loss_n_s(n, steps, batch)
    flops = 6 * n * batch * steps
    if adjusted:
        flops = flops / (1 + batch / critical_batch(loss))
    bins = np.digitize(flops, np.geomspace(flops.min(), flops.max(), 21))
    rows = pd.DataFrame({"flops": flops, "loss": loss}).loc[
        lambda table: table.groupby(bins).loss.idxmin().sort_index().iloc[4:18]
    ]
    return rows.reset_index(drop=True)


@cache
def points(law: str, few: bool = False) -> pd.DataFrame:
    """Return the points of a law: those in compute from the planted truth, others from the planted sweeps."""
    if law in ("L_C", "L_C_min"):
        return compute_points(law == "L_C_min")
    sweeps = {name: sweep(name, few) for name in catalog.LAWS[law].sweeps}
    return RECIPES[law].points(Inputs.of(sweeps, laws=fits())).reset_index(drop=True)


def unidentified(fit: Any, reason: str = "all points on one side") -> Any:
    """Return the law as it is when the points can't decide it."""
    nothing = {name: replace(value, estimate=None, low=None, high=None) for name, value in fit.parameters.items()}
    if isinstance(fit, Fit):
        return replace(fit, identified=False, reason=reason, parameters=nothing, vector=None, draws=fit.draws[:0])
    return replace(fit, identified=False, reason=reason, parameters=nothing)


def inputs(
    sweeps: Iterable[str] = (),
    evaluated: Iterable[str] = (),
    laws: Iterable[str] | None = None,
    few: bool = False,
    of: Iterable[str] = (),
) -> Inputs:
    """Return what a figure is given: sweeps and evaluations by name, laws (None: all), the points `of` some."""
    known = fits()
    return Inputs.of(
        {name: sweep(name, few) for name in sweeps},
        {name: evaluations(name, few) for name in evaluated},
        known if laws is None else {name: known[name] for name in laws},
        {name: points(name, few) for name in of},
        preset="planted",
        title="planted text",
    )
