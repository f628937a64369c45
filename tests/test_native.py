"""The native kernel against torch in float64, against finite differences, and against itself.

What depends on the length of vectors also runs with older instruction sets than this processor's.
"""

from __future__ import annotations

import math
import platform
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.engines import native
from pipeline.errors import UserError
from pipeline.models import lstm, transformer
from pipeline.models import parameters as layout
from pipeline.models.initial import initial
from pipeline.models.initial import split as views
from pipeline.plan.run import Run

if not native.available():
    pytest.skip(native.missing(), allow_module_level=True)


def _march(name: str, *flags: str) -> object:
    """An instruction set, skipped where this processor lacks it. Its tests share a worker, and so a compilation."""
    words = native._processor().split()
    here = platform.machine() in ("x86_64", "AMD64") and all(flag in words for flag in flags)
    skip = pytest.mark.skipif(not here, reason=f"this processor does not run {name}")
    return pytest.param(name, marks=[skip, pytest.mark.xdist_group(name), pytest.mark.slow])  # compiles for a minute


# Vectors of 16 floats or what the processor has, of 8, and of 4.
MARCHES = [pytest.param("native"), _march("haswell", "avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"), _march("x86-64")]

SHAPES = [
    # n_layer, d_model, n_head, d_ff, n_ctx, n_vocab, n_reuse, batch
    (2, 32, 2, 128, 128, 512, 1, 3),
    (0, 16, 1, 64, 16, 64, 1, 3),  # embedding, final norm, de-embedding
    (1, 16, 1, 64, 8, 32, 1, 37),  # many short sequences a chunk, the last chunk not full
    (2, 48, 3, 100, 33, 257, 1, 5),  # three heads, no size a power of two
    (2, 30, 5, 77, 20, 1000, 1, 7),  # no size a whole number of vectors
    (1, 3, 1, 5, 9, 2, 1, 2),
    (1, 8, 2, 32, 12, 50257, 1, 3),  # logits in several chunks
    (1, 32, 1, 64, 300, 300, 1, 2),  # attention in several blocks of queries
    (2, 32, 2, 128, 16, 100, 2, 4),
    (1, 32, 2, 128, 16, 100, 4, 20),
    (1, 288, 4, 1100, 24, 300, 1, 6),  # products in several segments of depth
    (1, 288, 1, 40, 12, 40, 1, 2),  # in float16 also those of attention
    (1, 528, 8, 40, 12, 40, 1, 2),  # in all formats also those that become GELU
]


def make_run(n_layer, d_model, n_head, d_ff, n_ctx, n_vocab, n_reuse=1, **changes) -> Run:
    family = "recurrent" if n_reuse > 1 else "transformer"
    settings = {"n_steps": 10, "lr": 0.01, "tokens": "t", "family": family, "n_reuse": n_reuse} | changes
    return Run(n_layer=n_layer, d_model=d_model, n_head=n_head, d_ff=d_ff, n_ctx=n_ctx, n_vocab=n_vocab, **settings)


SMALL = make_run(2, 32, 2, 96, 24, 61)


def make_parameters(run: Run) -> np.ndarray:
    """Initial parameters with gains and biases moved away from one and zero."""
    flat = initial(run)
    return flat + np.float32(0.05) * np.random.default_rng(5).standard_normal(len(flat), dtype=np.float32)


def make_tokens(run: Run, batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, run.n_vocab, (batch, run.n_ctx + 1)).astype(np.uint16)


def make_engine(run: Run, march: str = "native") -> native.NativeEngine:
    return native.NativeEngine(run, parameters=make_parameters(run), march=march)


def residual_stream(w: dict[str, torch.Tensor], run: Run, x: torch.Tensor, masks=None) -> torch.Tensor:
    """Return what the blocks make of tokens x: (batch, n_ctx, d_model). masks[site] multiplies what dropout acts on."""
    batch, d, d_head = len(x), run.d_model, run.d_model // run.n_head
    causal = torch.ones(run.n_ctx, run.n_ctx, dtype=torch.bool).tril()

    def dropped(value, site):
        return value if masks is None else value * masks[site]

    h = dropped(w["embedding"][x] + w["position"], 0)
    site = 1
    for reuse in range(run.n_reuse):
        if run.n_reuse > 1:
            h = h + w["depth"][reuse]
        for block in range(run.n_layer):
            own = {name.split(".", 2)[2]: v for name, v in w.items() if name.startswith(f"block.{block}.")}
            a = F.layer_norm(h, (d,), own["norm1.gain"], own["norm1.bias"], 1e-5)
            q, k, v = ((a @ own["qkv"]).view(batch, -1, 3, run.n_head, d_head).permute(2, 0, 3, 1, 4)).unbind(0)
            scores = (q @ k.mT / math.sqrt(d_head)).masked_fill(~causal, -math.inf)
            a = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, -1, d)
            h = h + dropped(a @ own["out"], site)
            a = F.layer_norm(h, (d,), own["norm2.gain"], own["norm2.bias"], 1e-5)
            h = h + dropped(F.gelu(a @ own["up"], approximate="tanh") @ own["down"], site + 1)
            site += 2
    return h


def reference(flat: torch.Tensor, run: Run, tokens: np.ndarray, masks=None) -> torch.Tensor:
    """Return the loss of every token: (batch, n_ctx)."""
    w = views(flat, run)
    tokens = torch.from_numpy(tokens.astype(np.int64))
    x, y = tokens[:, :-1], tokens[:, 1:]
    h, d = residual_stream(w, run, x, masks), run.d_model
    h = F.layer_norm(h, (d,), w["norm.gain"], w["norm.bias"], 1e-5)
    return F.cross_entropy((h @ w["embedding"].T).transpose(1, 2), y, reduction="none")


def reference_gradient(flat: np.ndarray, run: Run, tokens: np.ndarray, masks=None) -> tuple[float, np.ndarray]:
    leaf = torch.tensor(flat, dtype=torch.float64, requires_grad=True)
    loss = reference(leaf, run, tokens, masks).mean()
    loss.backward()
    return loss.item(), leaf.grad.numpy()


def assert_gradients_agree(got: np.ndarray, wanted: np.ndarray, run: Run) -> None:
    """Each tensor within a few float32 roundings of its largest element; torch in float32 is 1 to 2e-6 off."""
    got, wanted = views(got, run), views(wanted, run)
    for name, _ in layout(run):
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=5e-6 * scale, err_msg=name)


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_and_every_gradient_equal_torch(shape, march):
    *sizes, batch = shape
    run = make_run(*sizes)
    tokens = make_tokens(run, batch)
    loss, gradient = make_engine(run, march).gradient(tokens)
    wanted_loss, wanted = reference_gradient(make_parameters(run), run, tokens)
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    assert_gradients_agree(gradient, wanted, run)


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_evaluation_sums_the_loss_by_position(shape, march):
    *sizes, batch = shape
    run = make_run(*sizes, dropout=0.5)
    tokens = make_tokens(run, batch)
    sums = make_engine(run, march).evaluate(tokens)
    wanted = reference(torch.from_numpy(make_parameters(run).astype(np.float64)), run, tokens).sum(0).numpy()
    assert sums.dtype == np.float64
    np.testing.assert_allclose(sums, wanted, rtol=2e-6)


def formats() -> list[str]:
    """The 16-bit formats that this processor has."""
    flags = native._processor().split()
    return [name for name, flag in (("float16", "avx512_fp16"), ("bfloat16", "avx512_bf16")) if flag in flags]


LSTMS = [
    # n_layer, d_model, n_ctx, n_vocab, batch
    (1, 16, 8, 32, 8),
    (2, 30, 16, 61, 3),  # fewer sequences than make a step together, no size a whole number of vectors
    (3, 40, 20, 300, 11),  # the second chunk is not full
    (1, 288, 24, 100, 8),  # products in several segments of depth
]


def lstm_case(n_layer, d_model, n_ctx, n_vocab, batch) -> tuple[Run, np.ndarray, np.ndarray, torch.Tensor, np.ndarray]:
    """A run, parameters off their first values, tokens, and from torch in float64 the losses and the gradient."""
    run = make_run(n_layer, d_model, 1, 1, n_ctx, n_vocab, family="lstm")
    flat = initial(run)
    flat = flat + np.float32(0.05) * np.random.default_rng(5).standard_normal(len(flat), dtype=np.float32)
    tokens = make_tokens(run, batch)
    leaf = torch.tensor(flat, dtype=torch.float64, requires_grad=True)
    sizes = dict(layout(run))
    parts = torch.split(leaf, [math.prod(size) for size in sizes.values()])
    weights = {name: part.reshape(size) for (name, size), part in zip(sizes.items(), parts, strict=True)}
    text = torch.from_numpy(tokens.astype(np.int64))
    logits = transformer.head(weights, lstm.hidden(weights, text[:, :-1], run)).transpose(1, 2)
    losses = F.cross_entropy(logits, text[:, 1:], reduction="none")
    losses.mean().backward()
    return run, flat, tokens, losses.detach(), leaf.grad.numpy()


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("case", LSTMS, ids=str)
def test_lstm_equals_torch(case, march):
    run, flat, tokens, losses, gradient = lstm_case(*case)
    engine = native.NativeEngine(run, parameters=flat, march=march)
    loss, got = engine.gradient(tokens)
    assert loss == pytest.approx(losses.mean().item(), rel=1e-6)
    for name, wanted in views(gradient, run).items():
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(views(got, run)[name], wanted, rtol=0, atol=5e-6 * scale, err_msg=name)
    np.testing.assert_allclose(engine.evaluate(tokens), losses.sum(0).numpy(), rtol=2e-6)


@pytest.mark.parametrize("case", LSTMS, ids=str)
@pytest.mark.parametrize("operands", formats())
def test_lstm_with_short_operands_is_off_by_their_rounding(operands, case):
    run, flat, tokens, losses, gradient = lstm_case(*case)
    loss, got = native.NativeEngine(run, parameters=flat, operands=operands).gradient(tokens)
    assert loss == pytest.approx(losses.mean().item(), rel=1e-3)
    error = np.linalg.norm(got - gradient) / np.linalg.norm(gradient)
    assert 1e-5 < error < {"float16": 0.006, "bfloat16": 0.01}[operands]


@pytest.mark.parametrize(
    "changes",
    [
        {"n_ctx": 128},
        {"n_ctx": 9},  # many sequences a chunk
        {"family": "recurrent", "n_reuse": 4},  # a weight's gradient comes from several places
        {"family": "lstm", "n_head": 1, "d_ff": 128},
    ],
    ids=str,
)
def test_a_gradient_leaves_nothing_behind(changes):
    run = replace(SMALL, **changes)
    engine, fresh = native.NativeEngine(run), native.NativeEngine(run)
    engine.gradient(make_tokens(run, 37, seed=1))
    engine.step(make_tokens(run, 37, seed=2), 0.0)
    tokens = make_tokens(run, 37, seed=3)
    assert engine.gradient(tokens)[1].tobytes() == fresh.gradient(tokens)[1].tobytes()


@pytest.mark.parametrize("operands", formats())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_short_operands_change_gradients_by_their_rounding(operands, shape):
    """Some hundred products of operands with 8 (bfloat16) or 11 bits: about 1 % and half of it, as measured."""
    *sizes, batch = shape
    run = make_run(*sizes)
    tokens = make_tokens(run, batch)
    engine = native.NativeEngine(run, parameters=make_parameters(run), operands=operands)
    loss, gradient = engine.gradient(tokens)
    wanted_loss, wanted = reference_gradient(make_parameters(run), run, tokens)
    assert loss == pytest.approx(wanted_loss, rel=1e-3)
    error = np.linalg.norm(gradient - wanted) / np.linalg.norm(wanted)
    assert 1e-5 < error < {"float16": 0.008, "bfloat16": 0.02}[operands]


@pytest.mark.parametrize("operands", formats())
def test_short_operands_learn_as_float32_does(operands):
    run = make_run(2, 32, 2, 128, 32, 61)
    text = np.random.default_rng(3).integers(0, run.n_vocab, 600)
    losses = []
    for format in ("float32", operands):
        engine, rng = native.NativeEngine(run, operands=format), np.random.default_rng(4)
        for step in range(200):
            starts = rng.integers(0, len(text) - run.n_ctx, (8, 1))
            tokens = text[starts + np.arange(run.n_ctx + 1)].astype(np.uint16)
            loss = engine.step(tokens, lr=0.01 * (1 - step / 200)).loss
        losses.append(loss)
    assert losses[0] < 2  # it learnt: a uniform guess is ln 61 = 4.1
    assert losses[1] == pytest.approx(losses[0], abs=0.05)


def test_precision_of_the_run_chooses_the_operands():
    assert native.NativeEngine(SMALL).operands == "float32"
    assert native.NativeEngine(replace(SMALL, precision="bfloat16")).operands == (formats() or ["float32"])[0]


def test_gradient_equals_finite_differences():
    """Independent of torch: central differences of the kernel's own evaluation along random directions."""
    run = make_run(1, 8, 2, 24, 8, 11)
    tokens, flat = make_tokens(run, 64), make_parameters(run)
    engine = native.NativeEngine(run, parameters=flat)
    _, gradient = engine.gradient(tokens)
    rng = np.random.default_rng(2)
    for _ in range(10):
        direction = rng.standard_normal(len(flat)).astype(np.float32)
        direction /= np.linalg.norm(direction)
        losses = []
        for sign in (1, -1):
            moved = native.NativeEngine(run, parameters=flat + sign * np.float32(0.02) * direction)
            losses.append(moved.evaluate(tokens).sum() / tokens[:, 1:].size)
        slope = (losses[0] - losses[1]) / 0.04
        assert slope == pytest.approx(float(gradient @ direction), rel=0.01, abs=2e-4)


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("clip", [0.0, 0.3])
def test_many_steps_equal_torch_adamw(clip, march):
    run = replace(SMALL, weight_decay=0.1, clip=clip, beta1=0.8, beta2=0.97, eps=1e-7)
    engine = make_engine(run, march)
    leaves = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in views(make_parameters(run), run).items()
    }
    matrices = [leaf for leaf in leaves.values() if leaf.ndim == 2]
    vectors = [leaf for leaf in leaves.values() if leaf.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.8, 0.97),
        eps=1e-7,
    )
    for step in range(20):
        tokens, lr = make_tokens(run, 4, seed=step), 0.002 * (step + 1)
        flat = torch.cat([leaf.reshape(-1) for leaf in leaves.values()])
        loss = reference(flat, run, tokens).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(leaves.values(), clip or math.inf)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        result = engine.step(tokens, lr)
        assert result.loss == pytest.approx(loss.item(), rel=2e-6)
        assert result.gradient_norm == pytest.approx(norm.item(), rel=1e-5)
        assert result.noise is None
        if step == 0 and clip:
            assert norm.item() > clip  # or clipping would not be tested
    for name, value in engine.weights().items():
        np.testing.assert_allclose(value, leaves[name].detach().numpy(), rtol=0, atol=2e-5, err_msg=name)


def test_later_tokens_change_no_earlier_loss():
    run = make_run(2, 32, 2, 96, 40, 61)
    engine, tokens = make_engine(run), make_tokens(run, 1)
    before = engine.evaluate(tokens)
    for cut in (1, 7, 16, 17, 39):
        changed = tokens.copy()
        changed[:, cut:] = (changed[:, cut:] + 1) % run.n_vocab
        after = engine.evaluate(changed)
        np.testing.assert_array_equal(after[: cut - 1], before[: cut - 1])
        assert np.all(after[cut:] != before[cut:])


def mix(x: np.ndarray | int) -> int:
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def dropout_mask(run: Run, step: int, sequence: int, site: int) -> np.ndarray:
    """The kernel's mask of shape (n_ctx, d_model), written again."""
    key = mix(mix(mix(mix(run.seed) ^ step) ^ sequence) ^ site)
    t, j = np.meshgrid(np.arange(run.n_ctx), np.arange(run.d_model), indexing="ij")
    x = ((t << 16) + j).astype(np.uint32) * np.uint32(0x9E3779B1) + np.uint32(key % 2**32)
    x = (x ^ (x >> 16)) * np.uint32(0x21F0AAAD)
    x = ((x ^ (x >> 15)) + np.uint32(key >> 32)) * np.uint32(0x735A2D97)
    return ((x ^ (x >> 15)) >= np.uint32(run.dropout * 2**32)) / (1 - run.dropout)


@pytest.mark.parametrize("march", MARCHES)
def test_dropout_and_its_gradient_equal_torch_under_the_same_masks(march):
    run = make_run(2, 30, 2, 96, 24, 61, 2, dropout=0.3, seed=11)
    tokens = make_tokens(run, 9)
    engine = make_engine(run, march)
    engine.step(tokens, lr=0.0)  # so that the step number matters
    loss, gradient = engine.gradient(tokens)
    masks = [
        torch.from_numpy(np.stack([dropout_mask(run, 2, sequence, site) for sequence in range(len(tokens))]))
        for site in range(1 + 2 * run.n_layer * run.n_reuse)
    ]
    wanted_loss, wanted = reference_gradient(make_parameters(run), run, tokens, masks)
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    assert_gradients_agree(gradient, wanted, run)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_masks_are_independent_with_the_rate_asked_for(rate):
    run = make_run(1, 64, 1, 64, 128, 61, dropout=rate)
    masks = [
        dropout_mask(replace(run, seed=seed), step, sequence, site) > 0
        for seed in range(2)
        for step in range(1, 3)
        for sequence in range(2)
        for site in range(3)
    ]
    kept = np.stack(masks).reshape(len(masks), -1).astype(float)
    deviation = math.sqrt(rate * (1 - rate))
    assert abs(kept.mean() - (1 - rate)) < 4 * deviation / math.sqrt(kept.size)
    unit = (kept - (1 - rate)) / deviation
    between = unit @ unit.T / kept.shape[1] - np.eye(len(masks))  # correlations of different masks
    assert np.abs(between - np.diag(np.diag(between))).max() < 5 / math.sqrt(kept.shape[1])
    field = unit.reshape(len(masks), run.n_ctx, run.d_model)
    for along in ((0, 1), (1, 0), (1, 1), (0, 16), (16, 0)):  # of neighbours within a mask
        a, b = field[:, along[0] :, along[1] :], field[:, : run.n_ctx - along[0], : run.d_model - along[1]]
        assert abs((a * b).mean()) < 5 / math.sqrt(a.size)


def test_two_engines_agree_bit_for_bit():
    run = replace(SMALL, dropout=0.1)
    states = []
    for _ in range(2):
        engine = make_engine(run)
        losses = [engine.step(make_tokens(run, 6, seed), lr=0.01).loss for seed in range(5)]
        states.append((losses, engine.state()))
    assert states[0][0] == states[1][0]
    for name, value in states[0][1].items():
        np.testing.assert_array_equal(value, states[1][1][name])


def test_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does():
    run = replace(SMALL, dropout=0.1, weight_decay=0.1)
    whole, first = make_engine(run), make_engine(run)
    for seed in range(10):
        whole.step(make_tokens(run, 6, seed), lr=0.01)
        if seed < 4:
            first.step(make_tokens(run, 6, seed), lr=0.01)
    second = native.NativeEngine(run)
    second.load(first.state())
    for seed in range(4, 10):
        second.step(make_tokens(run, 6, seed), lr=0.01)
    for name, value in whole.state().items():
        np.testing.assert_array_equal(value, second.state()[name])


def test_noise_norms_equal_gradients_of_the_halves():
    run = replace(SMALL, clip=0.01)
    tokens = make_tokens(run, 7)
    engine = make_engine(run)
    halves = [float((engine.gradient(half)[1].astype(float) ** 2).sum()) for half in (tokens[:3], tokens[3:])]
    whole = float((engine.gradient(tokens)[1].astype(float) ** 2).sum())
    result = engine.step(tokens, lr=0.01, noise=True)
    assert result.noise == pytest.approx((sum(halves) / 2, whole), rel=1e-5)
    plain = make_engine(run)
    assert plain.step(tokens, lr=0.01).loss == pytest.approx(result.loss, rel=1e-7)
    for name, value in plain.weights().items():
        np.testing.assert_allclose(engine.weights()[name], value, rtol=0, atol=1e-5)
    assert engine.step(tokens[:1], lr=0.01, noise=True).noise is None


def test_weights_go_out_and_in():
    run = make_run(2, 30, 5, 77, 20, 101)
    engine, flat = native.NativeEngine(run), make_parameters(run)
    engine.set_weights(views(flat, run))
    np.testing.assert_array_equal(engine.state()["parameters"], flat)
    for name, size in layout(run):
        assert engine.weights()[name].shape == size


@pytest.mark.parametrize("operands", ["float32", *formats()])
@pytest.mark.parametrize("value", [math.nan, math.inf, 3e38])
def test_a_loss_that_is_not_finite_is_returned(value, operands):
    run = SMALL
    flat = make_parameters(run)
    flat[len(flat) // 2] = value
    engine = native.NativeEngine(run, parameters=flat, operands=operands)
    assert not math.isfinite(engine.evaluate(make_tokens(run, 4)).sum())
    result = engine.step(make_tokens(run, 4), lr=0.01)
    assert not math.isfinite(result.loss)
    assert not math.isfinite(result.gradient_norm)


def test_wrong_input_is_named():
    engine = make_engine(SMALL)
    with pytest.raises(UserError, match="tokens: 61 is not below n_vocab 61"):
        engine.step(np.full((2, 25), 61, np.uint16), lr=0.01)
    with pytest.raises(UserError, match="tokens: uint16 of shape"):
        engine.step(np.zeros((2, 24), np.uint16), lr=0.01)
    with pytest.raises(UserError, match="parameters: shape"):
        native.NativeEngine(SMALL, parameters=np.zeros(3, np.float32))
    with pytest.raises(UserError, match="native trains with optimizer adamw, and family lstm without dropout"):
        native.NativeEngine(replace(SMALL, optimizer="adafactor"))


def test_a_compiler_that_is_missing_or_fails_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "compiler", lambda: None)
    with pytest.raises(UserError, match="no C\\+\\+ compiler"):
        native.build()
    monkeypatch.setattr(native, "compiler", lambda: "/bin/false")
    with pytest.raises(UserError, match="false failed"):
        native.build()
    assert not list(tmp_path.rglob("*.so"))


def test_a_library_belongs_to_its_headers_its_instruction_set_and_its_format(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "KERNEL", shutil.copytree(native.KERNEL, tmp_path / "kernel"))
    source = tmp_path / "one.cpp"
    source.write_text('extern "C" int one() { return 1; }\n')
    first = native.build(source=source)
    assert native.build(source=source) == first
    built = {first, native.build("bfloat16", source=source)}
    if platform.machine() in ("x86_64", "AMD64"):
        built.add(native.build(march="haswell", source=source))
        assert len(built) == 3
    for header in sorted(native.KERNEL.glob("*.hpp")):
        with header.open("a") as file:
            file.write("// changed\n")
        built.add(native.build(source=source))
    assert len(built) == len(set(native.KERNEL.glob("*.hpp"))) + 2 + (platform.machine() in ("x86_64", "AMD64"))
    with pytest.raises(UserError, match="failed"):
        native.build(march="no-such-processor", source=source)
