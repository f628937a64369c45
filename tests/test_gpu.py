"""What is done for a GPU, as far as a CPU can tell: pieces make the whole, late results the same curve."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.engines import Pending, StepResult
from pipeline.models import family
from pipeline.plan.placement import Placement, card_bytes, card_slots, cards, place
from pipeline.plan.run import Run

torch = pytest.importorskip("torch")

from pipeline.engines.cuda_graph import WARM_UP, Replayed  # noqa: E402
from pipeline.engines.torch_engine import TorchEngine  # noqa: E402


def tiny(**fields) -> Run:
    base = {"tokens": "t", "n_layer": 2, "d_model": 16, "n_head": 2, "n_vocab": 64, "n_ctx": 12, "batch_sequences": 7}
    return Run(**base | {"n_steps": 400, "lr": 0.01} | fields)


def batch_of(run: Run, seed: int = 0) -> np.ndarray:
    shape = (run.batch_sequences, run.n_ctx + 1)
    return np.random.default_rng(seed).integers(0, run.n_vocab, shape).astype(np.uint16)


@pytest.mark.parametrize("fields", [{}, {"family": "recurrent", "n_reuse": 2}, {"family": "lstm"}], ids=str)
@pytest.mark.parametrize(
    "fit",
    [
        Placement(2),
        Placement(7, chunk=3),
        Placement(3, chunk=1),
        Placement(2, recompute=True, chunk=1),
        Placement(1, recompute=True),
    ],
    ids=str,
)
def test_a_batch_in_pieces_makes_the_step_of_the_whole(fields: dict, fit: Placement) -> None:
    run = tiny(**fields, noise=True)
    whole, pieces = TorchEngine(run, "cpu"), TorchEngine(run, "cpu", placement=fit)
    for step in range(4):
        results = [engine.step(batch_of(run, step), 0.01, noise=True) for engine in (whole, pieces)]
        assert results[1][:2] == pytest.approx(results[0][:2], rel=1e-4)
        assert results[1].noise == pytest.approx(results[0].noise, rel=1e-4)
    for name, value in whole.weights().items():
        np.testing.assert_allclose(pieces.weights()[name], value, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(pieces.evaluate(batch_of(run)), whole.evaluate(batch_of(run)), rtol=1e-4)


def test_recomputed_dropout_is_the_dropout_of_the_forward_pass() -> None:
    run = tiny(dropout=0.3)
    kept, made_again = (
        TorchEngine(run, "cpu", placement=Placement(7)),
        TorchEngine(run, "cpu", placement=Placement(7, recompute=True, chunk=7)),
    )
    for step in range(3):
        results = [engine.step(batch_of(run, step), 0.01) for engine in (kept, made_again)]
        assert results[1].loss == pytest.approx(results[0].loss, rel=1e-5)
        assert results[1].gradient_norm == pytest.approx(results[0].gradient_norm, rel=1e-4)


@pytest.mark.parametrize("fields", [{"noise": True, "snapshots": 4}, {"lr": 3.0, "clip": 0.0, "schedule": "constant"}])
def test_results_that_are_read_late_make_the_same_curve(fields: dict, tiny_run, train, monkeypatch) -> None:
    """On a GPU a step's loss is read steps later: rows, and the step of a divergence, are the same."""
    from pipeline.train import __main__ as module

    reads = []

    class Late(Pending):
        def read(self) -> StepResult:
            reads.append(self)
            return super().read()

    def late(*arguments: object) -> object:
        engine = make_engine(*arguments)
        step = engine.step

        def pending_step(*step_arguments: object) -> Late:
            loss, norm, noise = step(*step_arguments)
            values = [loss, norm] if noise is None else [loss, norm, *[math.sqrt(noise[0])] * 2, math.sqrt(noise[1])]
            return Late(torch.tensor(values, dtype=torch.float64))

        engine.step = pending_step
        return engine

    run = tiny_run(n_steps=300, **fields)
    plain = train(run, "--engine", "torch", folder="plain")
    make_engine = module.make_engine
    monkeypatch.setattr(module, "make_engine", late)
    delayed = train(run, "--engine", "torch", "--checkpoint-seconds", "0.01", folder="late")
    assert reads
    import pandas as pd
    import pyarrow.parquet as pq

    tables = [pq.read_table(folder / "curve.parquet") for folder in (plain, delayed)]
    pd.testing.assert_frame_equal(tables[0].to_pandas(), tables[1].to_pandas(), rtol=1e-12)
    assert (
        tables[0].schema.metadata == tables[1].schema.metadata
    )  # status, and the step of the divergence in its reason


@pytest.mark.parametrize("precision", ["float32"])
@pytest.mark.parametrize("shape", [(4, 64, 2), (2, 128, 4)], ids=str)
def test_activations_are_those_that_are_counted(precision: str, shape: tuple, monkeypatch) -> None:
    """The bytes that autograd keeps for a layer, by its own account, are within a fifth of `block_bytes`."""
    n_layer, d_model, n_head = shape

    def kept(layers: int) -> int:
        run = tiny(n_layer=layers, d_model=d_model, n_head=n_head, n_ctx=64, precision=precision)
        engine = TorchEngine(run, "cpu", placement=Placement(7))
        own = {leaf.untyped_storage().data_ptr() for leaf in engine._leaves}
        sizes = {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            losses = engine._losses(engine._to_device(batch_of(run)), 0.0)
        assert losses.shape == (7, 64)
        return sum(sizes.values())

    run = tiny(n_layer=n_layer, d_model=d_model, n_head=n_head, n_ctx=64, precision=precision)
    counted = family(run.family).kept_bytes(run, {"float32": 4, "bfloat16": 2}[run.precision]) * 7 * 64 * n_layer
    assert kept(2 * n_layer) - kept(n_layer) == pytest.approx(counted, rel=0.2)


def large(n_layer: int, d_model: int, **fields) -> Run:
    base = {"tokens": "t", "n_vocab": 50_257, "n_ctx": 1024, "batch_sequences": 512, "n_steps": 250_000, "lr": 1e-3}
    return Run(n_layer=n_layer, d_model=d_model, **base | {"precision": "bfloat16"} | fields)


def test_a_run_gets_what_it_needs_and_no_more() -> None:
    small, middle, xl = large(2, 64, n_steps=1000), large(12, 768), large(48, 1600, optimizer="adafactor")
    assert (cards(small), card_slots(small)) == (1, 2)
    assert place(middle).micro_batch >= 8
    assert cards(xl) == 8 and not place(xl, n_cards=8).sharded
    assert cards(xl, most=2) == 2 and cards(xl, most=1) == 1
    assert cards(large(48, 1600, batch_sequences=3)) == 1  # a batch is shared in equal parts
    assert place(large(48, 4096)) is None  # 190 GB of weights and moments
    assert place(large(48, 4096), n_cards=8).sharded
    assert place(large(48, 4096, optimizer="adafactor"), memory=40e9, n_cards=8) is None
    for run in (small, middle, xl):
        for memory in (16e9, 40e9, 80e9):
            fit = place(run, memory)
            assert fit is None or card_bytes(run, fit) <= memory
    ways = [
        card_bytes(middle, fit) for fit in (Placement(8, chunk=5), Placement(4, chunk=5), Placement(4, True, chunk=5))
    ]
    assert ways == sorted(ways, reverse=True)


def test_a_function_that_cant_be_captured_is_called() -> None:
    """No card here: the calls that need one fail as they would on a card that can't capture."""
    calls = []

    def function(tensor):
        calls.append(float(tensor))
        return tensor + 1

    replayed = Replayed(function)
    replayed._plain_calls = WARM_UP
    if not torch.cuda.is_available():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "CUDAGraph", object)
            patch.setattr(torch.cuda, "synchronize", lambda: None)
            patch.setattr(torch.cuda, "graph", _refuse)
            assert [float(replayed(torch.tensor(float(n)))) for n in range(3)] == [1.0, 2.0, 3.0]
        assert calls == [0.0, 1.0, 2.0]


def _refuse(graph: object) -> None:
    raise RuntimeError("operation not permitted when stream is capturing")
