"""Learning rates by group: both engines against torch's own optimizers with parameter groups, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline import models
from pipeline.engines import Engine, make_engine
from pipeline.engines.native import available
from pipeline.models import transformer
from pipeline.models.initial import initial, split
from pipeline.plan.run import Run

torch = pytest.importorskip("torch")

FAMILIES = [
    {"family": "transformer"},
    {"family": "recurrent", "n_layer": 1, "n_reuse": 3},
    {"family": "lstm"},
]
HIDDEN = ("qkv", "out", "up", "down", "input", "recurrent")
"""Ends of the names of hidden matrices."""
NATIVE = pytest.param("native", marks=pytest.mark.skipif(not available(), reason="no C++ compiler"))
ENGINES = [NATIVE, "torch"]


def make_run(**fields) -> Run:
    base = {"tokens": "t", "n_layer": 2, "d_model": 30, "n_head": 2, "d_ff": 77, "n_vocab": 61, "n_ctx": 12}
    return Run(**base | {"batch_sequences": 5, "n_steps": 100, "lr": 0.01, "lr_hidden": 0.25} | fields)


def batch_of(run: Run, seed: int = 0) -> np.ndarray:
    shape = (run.batch_sequences, run.n_ctx + 1)
    return np.random.default_rng(seed).integers(0, run.n_vocab, shape).astype(np.uint16)


def shaken(run: Run) -> dict[str, np.ndarray]:
    """First weights, with gains and biases away from one and zero."""
    flat = initial(run)
    return split(flat + np.float32(0.05) * np.random.default_rng(5).standard_normal(len(flat), dtype=np.float32), run)


def engine_for(run: Run, name: str) -> Engine:
    engine = make_engine(run, "cpu", engine=name)
    engine.set_weights(shaken(run))
    return engine


def hidden(name: str) -> bool:
    return name.split(".")[-1] in HIDDEN


def leaves_of(run: Run) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in shaken(run).items()}


def groups_of(leaves: dict[str, torch.Tensor], weight_decay: float) -> list[dict]:
    """Hidden matrices, all else that decays, and what does not."""
    others = {name: leaf for name, leaf in leaves.items() if not hidden(name)}
    return [
        {"params": [leaf for name, leaf in leaves.items() if hidden(name)], "weight_decay": weight_decay},
        {"params": [leaf for leaf in others.values() if leaf.ndim == 2], "weight_decay": weight_decay},
        {"params": [leaf for leaf in others.values() if leaf.ndim == 1], "weight_decay": 0.0},
    ]


def assert_steps_agree(engine: Engine, optimizer: torch.optim.Optimizer, leaves: dict, clip: float) -> None:
    """Some steps of an engine and of an optimizer of such groups, and then the weights."""
    run = engine.run
    for step in range(12):
        tokens, lr = batch_of(run, step), 0.001 * (step + 1)
        index = torch.from_numpy(tokens.astype(np.int64))
        logits = transformer.head(leaves, models.family(run.family).hidden(leaves, index[:, :-1], run))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), index[:, 1:].flatten()).backward()
        norm = torch.nn.utils.clip_grad_norm_(leaves.values(), clip or math.inf)
        assert not clip or step or norm > clip  # or clipping would not be tested
        for group, part in zip(optimizer.param_groups, (run.lr_hidden, 1, 1), strict=True):
            group["lr"] = lr * part
        optimizer.step()
        assert engine.step(tokens, lr).gradient_norm == pytest.approx(norm.item(), rel=1e-4)
    for name, value in engine.weights().items():
        np.testing.assert_allclose(value, leaves[name].detach().numpy(), rtol=0, atol=1e-4, err_msg=name)


def test_the_families_say_which_matrices_are_hidden() -> None:
    for fields in (*FAMILIES, {"n_layer": 0}):
        names = [(one.name, one.role == "matrix") for one in models.weights(make_run(**fields))]
        assert names == [(name, hidden(name)) for name, _ in names]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("clip", [0.0, 0.3])
@pytest.mark.parametrize("part", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("fields", FAMILIES, ids=str)
def test_many_steps_equal_adamw_with_parameter_groups(fields: dict, part: float, clip: float, name: str) -> None:
    numbers = {"weight_decay": 0.1, "beta1": 0.8, "beta2": 0.97, "eps": 1e-6}
    run = make_run(**fields, **numbers, lr_hidden=part, clip=clip)
    leaves = leaves_of(run)
    optimizer = torch.optim.AdamW(groups_of(leaves, 0.1), betas=(0.8, 0.97), eps=1e-6)
    assert_steps_agree(engine_for(run, name), optimizer, leaves, clip)


@pytest.mark.parametrize("fields", FAMILIES, ids=str)
def test_many_steps_equal_adafactor_with_parameter_groups(fields: dict) -> None:
    run = make_run(**fields, optimizer="adafactor", weight_decay=0.1, lr_hidden=0.25)
    leaves = leaves_of(run)
    optimizer = torch.optim.Adafactor(groups_of(leaves, 0.1))
    assert_steps_agree(engine_for(run, "torch"), optimizer, leaves, run.clip)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [pytest.param("native", "adamw", marks=NATIVE.marks), ("torch", "adamw"), ("torch", "adafactor")],
)
@pytest.mark.parametrize("fields", FAMILIES, ids=str)
def test_at_rate_0_the_hidden_matrices_stay_and_all_else_moves(fields: dict, name: str, optimizer: str) -> None:
    """So what the kernel calls a hidden matrix is what the families call so."""
    run = make_run(**fields, lr_hidden=0.0, optimizer=optimizer, weight_decay=0.1)
    engine, before = engine_for(run, name), shaken(run)
    engine.step(batch_of(run), 0.01)
    moved = {weight: bool(np.any(value != before[weight])) for weight, value in engine.weights().items()}
    assert moved == {one.name: one.role != "matrix" for one in models.weights(run)}


@pytest.mark.parametrize("name", ENGINES)
def test_a_model_without_hidden_matrices_has_one_rate(name: str) -> None:
    one, other = (engine_for(make_run(n_layer=0, lr_hidden=part), name) for part in (1.0, 0.25))
    for step in range(3):
        assert one.step(batch_of(one.run, step), 0.01) == other.step(batch_of(one.run, step), 0.01)
    for weight, value in one.weights().items():
        np.testing.assert_array_equal(value, other.weights()[weight])


def test_in_a_cuda_graph_each_group_has_a_rate_of_its_own() -> None:
    """The optimizer of a graph, whose rates are tensors, makes the plain one's steps; also when it goes on."""
    from pipeline.engines.torch_engine import TorchEngine, _optimizer

    plain, graph = TorchEngine(make_run()), TorchEngine(make_run())
    graph._optimizer = _optimizer(graph.run, graph._weights, graph=True)
    for step in range(4):
        batch, lr = batch_of(plain.run, step), 0.01 / (step + 1)
        assert graph.step(batch, lr).loss == pytest.approx(plain.step(batch, lr).loss, rel=1e-6)
        rates = [group["lr"] for group in graph._optimizer.param_groups]
        assert all(isinstance(rate, torch.Tensor) for rate in rates)
        assert [rate.item() for rate in rates] == pytest.approx([lr, 0.25 * lr, lr])
        graph.load(graph.state())
    for name, value in plain.weights().items():
        np.testing.assert_allclose(graph.weights()[name], value, atol=1e-6, err_msg=name)


def test_a_part_makes_another_run_and_another_curve(tiny_run, train) -> None:
    """The schedule's rate is written down, that of the embeddings; the hidden matrices move as far as their part."""
    import pandas as pd

    from pipeline.train.results import read_weights

    curves, moved = {}, {}
    for part in (1.0, 0.1):
        run = tiny_run(lr_hidden=part)
        assert (run.id == tiny_run().id) == (part == 1.0)
        folder = train(run, folder=f"part-{part}")
        curves[part] = pd.read_parquet(folder / "curve.parquet")
        first, last = split(initial(run), run), read_weights(folder / "model.safetensors")[0]
        moved[part] = {name: float(np.abs(last[name] - first[name]).mean()) for name in first}
    assert curves[1.0].lr.tolist() == curves[0.1].lr.tolist()
    assert curves[1.0].loss.iloc[0] == curves[0.1].loss.iloc[0]
    assert (curves[1.0].loss.iloc[1:] != curves[0.1].loss.iloc[1:]).all()
    for name in moved[1.0]:
        ratio = moved[0.1][name] / moved[1.0][name]
        assert 0.05 < ratio < 0.25 if hidden(name) else 0.5 < ratio < 2, (name, ratio)
