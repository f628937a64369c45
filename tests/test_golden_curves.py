"""The meaning of a run, held still: a short curve of every family in float32, with its numbers written down.

A run's id is its address in the cache, so a change of what training computes (the order of the data, the first
weights, the model, the optimizer, the schedule) that moves no id would mix old runs with new ones.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.engines import native
from pipeline.files import write_json
from pipeline.models import FAMILIES, initial, transformer
from pipeline.plan.run import Run
from pipeline.tokens import windows
from pipeline.train.__main__ import main

MESSAGE = "training computes something else than it did: raise Run.recipe (RECIPE in pipeline/plan/run.py), or undo"
TOLERANCE = 2e-4
"""Relative; the two engines, and processors without wide vectors, are within 1e-5 of each other."""
CASES = {
    "transformer": {"family": "transformer", "n_layer": 2, "position_sinusoids": 0.25},
    "recurrent": {"family": "recurrent", "n_layer": 1, "n_reuse": 3},
    "lstm": {"family": "lstm", "n_layer": 2},
    "hidden": {"family": "transformer", "n_layer": 2, "lr_hidden": 0.25},
    "dropout": {"family": "transformer", "n_layer": 2, "dropout": 0.3},  # masks are the native engine's own
}
COLUMNS = ("loss", "train_loss", "gradient_norm", "noise_scale", "lr")
GOLDEN: dict[str, dict[str, list[float]]] = {
    "transformer": {
        "loss": [4.219235, 4.215676, 4.214755, 4.220265, 4.209827, 4.184982, 4.170192],
        "train_loss": [math.nan, 4.245736, 4.292248, 4.201944, 4.214006, 4.200758, 4.186482],
        "gradient_norm": [math.nan, 0.9190592, 1.215903, 1.038858, 0.692062, 0.5860591, 0.5149534],
        "noise_scale": [math.nan, math.nan, 79.00076, 73.85631, 1787.365, 256.9682, 561.7988],
        "lr": [0, 0.002, 0.004, 0.008, 0.009683994, 0.006890576, 0.001],
    },
    "recurrent": {
        "loss": [4.229158, 4.215301, 4.209463, 4.201693, 4.193032, 4.204979, 4.136259],
        "train_loss": [math.nan, 4.265529, 4.272771, 4.244721, 4.190664, 4.19904, 4.157448],
        "gradient_norm": [math.nan, 1.410329, 1.301067, 0.8661472, 0.7799752, 0.8674579, 0.89568],
        "noise_scale": [math.nan, 309.3522, 88.22171, 107.5365, 634.1431, 363.9788, 153.8298],
        "lr": [0, 0.002, 0.004, 0.008, 0.009683994, 0.006890576, 0.001],
    },
    "lstm": {
        "loss": [4.259089, 4.254995, 4.245648, 4.210314, 4.123615, 4.013572, 3.925452],
        "train_loss": [math.nan, 4.163729, 4.292822, 4.184222, 4.133205, 4.034381, 3.947455],
        "gradient_norm": [math.nan, 0.9349594, 1.100593, 0.922856, 0.8983067, 0.7690142, 0.7792187],
        "noise_scale": [math.nan, math.nan, 366.7888, 444.6793, 1295.999, 1826.825, 656.362],
        "lr": [0, 0.002, 0.004, 0.008, 0.009683994, 0.006890576, 0.001],
    },
    "hidden": {
        "loss": [4.237564, 4.234899, 4.230947, 4.207062, 4.177908, 4.134214, 4.082412],
        "train_loss": [math.nan, 4.282732, 4.335136, 4.216346, 4.180816, 4.148734, 4.123139],
        "gradient_norm": [math.nan, 1.460727, 1.57065, 1.382507, 1.016106, 0.8560319, 0.9144231],
        "noise_scale": [math.nan, math.nan, 74.28944, 177.6176, 726.0294, 202.1075, 616.616],
        "lr": [0, 0.002, 0.004, 0.008, 0.009683994, 0.006890576, 0.001],
    },
    "dropout": {
        "loss": [4.237564, 4.232627, 4.225284, 4.207499, 4.172555, 4.143182, 4.114102],
        "train_loss": [math.nan, 4.258463, 4.268507, 4.229858, 4.170192, 4.219303, 4.156775],
        "gradient_norm": [math.nan, 1.573775, 1.431213, 1.578807, 1.233764, 0.9418313, 0.8037863],
        "noise_scale": [math.nan, math.nan, 1594.339, 1772.133, math.nan, 654.9939, math.nan],
        "lr": [0, 0.002, 0.004, 0.008, 0.009683994, 0.006890576, 0.001],
    },
}
ENGINES = ["torch"] + ["native"] * native.available()
RUNS = [(case, engine) for case in CASES for engine in ENGINES if case != "dropout" or engine == "native"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of token files of a language with a rule and some chance, made by arithmetic alone."""
    folder = tmp_path_factory.mktemp("tokens") / "golden-0000000000"
    folder.mkdir()
    text, token, chance = [], 0, 1
    for _ in range(12_000):
        chance = (1_103_515_245 * chance + 12_345) % 2**31
        token = (5 * token + (chance >> 16) % 4) % 64
        text.append(token)
    np.array(text[:10_000], "<u2").tofile(folder / "train.bin")
    np.array(text[10_000:], "<u2").tofile(folder / "test.bin")
    write_json(folder / "meta.json", {"vocabulary": 64})
    return folder


def curve(case: str, tokens: Path, folder: Path, engine: str) -> dict[str, list[float]]:
    """Train a golden run and return its curve."""
    run = Run(
        tokens=tokens.name,
        d_model=16,
        n_head=2,
        n_vocab=64,
        n_ctx=16,
        batch_sequences=4,
        n_steps=30,
        warmup_steps=5,
        lr=0.01,
        weight_decay=0.1,
        clip=0.5,
        lr_final=0.1,
        test_tokens=512,
        evaluations=6,
        noise=True,
        **CASES[case],
    )
    output = folder / "curve.parquet"
    options = {"--run": run.to_json(), "--tokens": tokens, "--output": output, "--scratch": folder / "scratch"}
    arguments = [str(part) for pair in options.items() for part in pair]
    assert main([*arguments, "--device", "cpu", "--engine", engine]) == 0
    table = pq.read_table(output).to_pydict()
    return {name: table[name] for name in COLUMNS}


def distance(found: dict[str, list[float]], wanted: dict[str, list[float]]) -> float:
    """Return the largest relative difference of two curves."""
    pairs = [(np.array(found[name]), np.array(wanted[name])) for name in COLUMNS]
    return max(float(np.nanmax(np.abs(one - other) / np.maximum(np.abs(other), 1e-3))) for one, other in pairs)


def test_every_family_has_a_golden_curve() -> None:
    assert {settings["family"] for settings in CASES.values()} == set(FAMILIES)
    assert set(GOLDEN) == set(CASES)


@pytest.mark.parametrize(("case", "engine"), RUNS)
def test_a_run_means_what_it_meant(case: str, engine: str, tokens: Path, tmp_path: Path) -> None:
    assert distance(curve(case, tokens, tmp_path, engine), GOLDEN[case]) < TOLERANCE, MESSAGE


def data_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "text_hash", lambda text: 1 + hash(text) % 2**31)


def first_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    real = initial._first
    monkeypatch.setattr(initial, "_first", lambda weight, seed: real(weight, seed + 1))


def residual_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    real = transformer.blocks

    def unscaled(shape):
        return [
            transformer.Weight(one.name, one.shape, transformer.Normal(one.shape[0] ** -0.5), one.role)
            if one.name.endswith(("out", "down"))
            else one
            for one in real(shape)
        ]

    monkeypatch.setattr(transformer, "blocks", unscaled)


@pytest.mark.parametrize("change", [data_order, first_weights, residual_scale])
def test_a_change_of_meaning_is_seen(change, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these once passed every test while no id moved."""
    change(monkeypatch)
    assert distance(curve("transformer", tokens, tmp_path, ENGINES[-1]), GOLDEN["transformer"]) > 20 * TOLERANCE
