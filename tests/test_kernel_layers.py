"""The kernel's layers one by one, forward and backward, against torch and numpy in float64.

Each through tests/kernel_layers.cpp, which gives one layer plain arrays. Layers run with the processor's own
instruction set, with older ones, and with operands of 16 bits where the processor has them.
"""

from __future__ import annotations

import ctypes
import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_native import MARCHES, dropout_mask, formats, make_run, residual_stream
from torch.nn import functional as F

from pipeline.engines import native
from pipeline.models import parameters as layout

SOURCE = Path(__file__).with_name("kernel_layers.cpp")

KERNELS = [
    *(pytest.param(("float32", march.values[0]), marks=march.marks, id=march.values[0]) for march in MARCHES),
    *(pytest.param((operands, "native"), id=operands) for operands in formats()),
]


@functools.cache
def library(operands: str, march: str) -> ctypes.CDLL:
    return ctypes.CDLL(str(native.build(operands, march, SOURCE)))


class Kernel:
    """The layers in one format of operands and one instruction set; arrays are passed as they are."""

    def __init__(self, operands: str, march: str) -> None:
        self.operands, self.march, self.library = operands, march, library(operands, march)

    def __call__(self, name: str, *arguments, result=None):
        function = getattr(self.library, f"layer_{name}")
        function.restype = result
        return function(*(self._argument(value) for value in arguments))

    @staticmethod
    def _argument(value):
        if isinstance(value, np.ndarray):
            assert value.flags.c_contiguous and value.dtype in (np.float32, np.int32, np.uint16)
            return ctypes.c_void_p(value.ctypes.data)
        if isinstance(value, float):
            return ctypes.c_double(value)
        return ctypes.c_int64(value) if isinstance(value, int) else value


@pytest.fixture(params=KERNELS)
def kernel(request) -> Kernel:
    return Kernel(*request.param)


@pytest.fixture(params=MARCHES)
def plain(request) -> Kernel:
    """The kernel of a layer whose numbers are float32 in every format."""
    return Kernel("float32", request.param)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def leaf(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def numbers(value: torch.Tensor) -> np.ndarray:
    return value.detach().numpy()


def assert_close(got: np.ndarray, wanted: np.ndarray, tolerance: float, name: str = "") -> None:
    """Every number within `tolerance` times the largest."""
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * scale, err_msg=name)


def assert_rounded(kernel: Kernel, got: np.ndarray, wanted: np.ndarray, short: float, name: str = "") -> None:
    """With operands of float32 every number is right; with shorter ones the error's norm is below `short` of it.

    `short` is 1.3 to 2 times what was measured with bfloat16; float16 rounds more finely.
    """
    assert np.isfinite(got).all(), name
    if kernel.operands == "float32":
        assert_close(got, wanted, 2e-6, name)
    else:
        error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
        assert error < short, name


@pytest.mark.parametrize("march", MARCHES)
def test_older_instruction_sets_have_shorter_vectors(march):
    lanes = Kernel("float32", march)("lanes", result=ctypes.c_int64)
    assert lanes == {"x86-64": 4, "haswell": 8}.get(march, lanes)
    assert lanes in (4, 8, 16)


@pytest.mark.parametrize(
    ("which", "function", "low", "high"),
    [
        (0, np.exp2, -125, 125),
        (1, lambda x: 1 / x, 1e-3, 1e3),
        (2, lambda x: 1 / np.sqrt(x), 1e-6, 1e6),
        (3, lambda x: 1 / (1 + np.exp(-x)), -20, 20),
    ],
    ids=["2^x", "1/x", "1/sqrt(x)", "sigmoid"],
)
def test_functions(plain, which, function, low, high):
    x = np.linspace(low, high, 10007, dtype=np.float32)
    y = np.empty_like(x)
    plain("function", which, len(x), x, y)
    np.testing.assert_allclose(y, function(x.astype(float)), rtol=2e-6 if which == 3 else 3e-7)


def test_tanh_and_gelu_with_its_derivative(plain):
    x = np.linspace(-12, 12, 10007, dtype=np.float32)
    exact = leaf(x)
    value = F.gelu(exact, approximate="tanh")
    value.sum().backward()
    cases = (4, np.tanh(x.astype(float)), 3e-7), (5, numbers(value), 3e-7), (6, exact.grad.numpy(), 5e-6)
    for which, wanted, tolerance in cases:  # the derivative is a difference of larger numbers
        y = np.empty_like(x)
        plain("function", which, len(x), x, y)
        np.testing.assert_allclose(y, wanted, rtol=2e-6, atol=tolerance)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_functions_of_what_is_not_a_number_or_infinite(plain, value):
    x = np.full(16, value, np.float32)
    y = np.empty_like(x)
    plain("function", 0, len(x), x, y)
    if math.isnan(value):
        assert np.isnan(y).all()
    else:
        assert np.all(y < 1e-37) if value < 0 else np.all(y > 1e38)


@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize(
    ("rows", "columns", "depth"),
    [(8, 16, 16), (5, 3, 7), (24, 33, 40), (40, 80, 64), (64, 130, 100), (17, 35, 513), (70, 50, 1100)],
)
def test_products(kernel, rows, columns, depth, transposed, add):
    """Of numbers that all operands hold exactly; float32 holds their sums too. Depths above 512 go in segments."""
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-100, 101, size).astype(np.float32) / 64 for size in ((rows, depth), (depth, columns)))
    c = normal(rows, columns, seed=2)
    wanted = a.astype(float) @ b + add * c
    left = np.ascontiguousarray(a.T) if transposed else a
    kernel("multiply", transposed, add, rows, columns, depth, left, b, c)
    assert_close(c, wanted, 1e-2 if kernel.operands == "float16" else 1e-7)


@pytest.mark.parametrize("anew", [0, 1])
@pytest.mark.parametrize(
    ("m", "inputs", "groups", "outputs"),
    [(8, 16, 1, 16), (20, 30, 1, 77), (33, 48, 9, 16), (16, 30, 15, 6), (7, 600, 1, 40), (24, 40, 1, 600)],
)
def test_linear_map(kernel, m, inputs, groups, outputs, anew):
    x, w, dy = normal(m, inputs), normal(inputs, groups * outputs, seed=1), normal(m, groups * outputs, seed=2)
    y, dx, dw = np.empty_like(dy), np.empty_like(x), normal(inputs, groups * outputs, seed=3)
    before = 0 if anew else dw.copy()
    kernel("linear", m, inputs, groups, outputs, x, w, dy, anew, y, dx, dw)
    x, w, dy = (array.astype(float) for array in (x, w, dy))
    for name, got, wanted in (("y", y, x @ w), ("dx", dx, dy @ w.T), ("dw", dw, x.T @ dy + before)):
        assert_rounded(kernel, got, wanted, 0.004, name)


@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize(("m", "d_model"), [(8, 16), (5, 3), (37, 30), (128, 64), (19, 300)])
def test_norm(plain, m, d_model, add):
    x, gain, bias = 3 * normal(m, d_model) + 1, 1 + normal(d_model, seed=1), normal(d_model, seed=2)
    dy, dx = normal(m, d_model, seed=3), normal(m, d_model, seed=4)
    y, dgain, dbias = np.empty_like(x), np.empty_like(gain), np.empty_like(bias)
    leaves = [leaf(array) for array in (x, gain, bias)]
    wanted = F.layer_norm(leaves[0], (d_model,), leaves[1], leaves[2], 1e-5)
    wanted.backward(torch.from_numpy(dy.astype(float)))
    gradients = [numbers(value.grad) for value in leaves]
    gradients[0] = gradients[0] + add * dx
    plain("norm", m, d_model, x, gain, bias, dy, add, y, dx, dgain, dbias)
    assert_close(y, numbers(wanted), 5e-7)
    for name, got, gradient in zip(("dx", "dgain", "dbias"), (dx, dgain, dbias), gradients, strict=True):
        assert_close(got, gradient, 5e-7, name)


@pytest.mark.parametrize(
    ("n", "n_ctx", "heads", "d_head"),
    [(1, 16, 1, 16), (2, 33, 3, 10), (3, 8, 2, 16), (1, 9, 1, 3), (1, 130, 2, 16), (1, 300, 1, 24), (2, 40, 1, 288)],
)
def test_attention(kernel, n, n_ctx, heads, d_head):
    """Contexts above 128 go in several blocks of queries, and heads above 192 or 512 in segments of depth."""
    qkv, dout = normal(n, n_ctx, 3, heads, d_head), normal(n, n_ctx, heads, d_head, seed=1)
    out, dqkv = np.empty_like(dout), np.empty_like(qkv)
    kernel("attention", n, n_ctx, heads, d_head, qkv, dout, out, dqkv)
    exact = leaf(qkv)
    q, k, v = exact.permute(2, 0, 3, 1, 4).unbind(0)
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    wanted.backward(torch.from_numpy(dout.astype(float)))
    assert_rounded(kernel, out, numbers(wanted), 0.008, "out")
    for i, name in enumerate(("dq", "dk", "dv")):
        assert_rounded(kernel, dqkv[:, :, i], numbers(exact.grad[:, :, i]), 0.008, name)


@pytest.mark.parametrize("key", [0, 9, 15])
def test_attention_to_a_key_whose_score_is_far_above(kernel, key):
    """Softmax takes the largest score away first, of the keys that a query sees: not one that comes after it."""
    qkv, dout = normal(1, 16, 3, 1, 16), normal(1, 16, 1, 16, seed=1)
    qkv[:, :, 0] = 8
    qkv[:, :, 1] = np.arange(16)[:, None, None] % 3 / 64
    qkv[:, key, 1] = 8
    out, dqkv = np.empty_like(dout), np.empty_like(qkv)
    kernel("attention", 1, 16, 1, 16, qkv, dout, out, dqkv)
    q, k, v = torch.from_numpy(qkv.astype(float)).permute(2, 0, 3, 1, 4).unbind(0)
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    assert_rounded(kernel, out, numbers(wanted), 0.006, "out")
    assert np.isfinite(dqkv).all()


@pytest.mark.parametrize(("d_model", "T"), [(16, 8), (30, 24), (3, 16)])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout(plain, d_model, T, rate):
    run = make_run(1, d_model, 1, 8, T, 61, dropout=rate, seed=11)
    values, base = normal(3, T, d_model), normal(3, T, d_model, seed=1)
    masks = np.stack([dropout_mask(run, 5, 7 + sequence, 2) for sequence in range(3)])
    for below in (None, base):
        got = np.empty_like(values)
        plain("dropout", rate, run.seed, 5, 7, 2, 3, T, d_model, values, below, got)
        np.testing.assert_allclose(got, values * masks + (0 if below is None else below), rtol=3e-7, atol=3e-7)
        if below is None:
            np.testing.assert_array_equal(got == 0, masks == 0)


@pytest.mark.parametrize(
    ("m", "d_model", "n_vocab"), [(8, 16, 16), (21, 30, 61), (128, 32, 512), (40, 48, 3000), (300, 16, 700), (5, 3, 2)]
)
def test_cross_entropy(kernel, m, d_model, n_vocab):
    """A vocabulary above 2,048 goes in chunks, and rows above 131,072 logits in blocks. Some rows have no target."""
    h, e = normal(m, d_model), normal(n_vocab, d_model, seed=1, scale=0.5)
    targets = np.random.default_rng(2).integers(0, n_vocab, m).astype(np.int32)
    targets[::5] = -1
    losses, dh, de = np.empty(m, np.float32), np.empty_like(h), normal(n_vocab, d_model, seed=3)
    before = de.copy()
    sizes = (m, d_model, n_vocab)
    total = kernel("cross_entropy", *sizes, h, e, targets, 1, losses, dh, de, result=ctypes.c_double)
    leaves = [leaf(h), leaf(e)]
    text = torch.from_numpy(targets.astype(np.int64))
    wanted = F.cross_entropy(leaves[0] @ leaves[1].T, text, reduction="none", ignore_index=-1)
    wanted.sum().backward()
    assert total == pytest.approx(wanted.sum().item(), rel=1e-6 if kernel.operands == "float32" else 2e-3)
    assert_rounded(kernel, losses, numbers(wanted), 0.005, "losses")
    assert np.all(losses[::5] == 0) and np.all(dh[::5] == 0)
    assert_rounded(kernel, dh, numbers(leaves[0].grad), 0.005, "dh")
    assert_rounded(kernel, de, numbers(leaves[1].grad) + before, 0.005, "de")
    alone = np.empty_like(losses)
    kernel("cross_entropy", *sizes, h, e, targets, 0, alone, None, de, result=ctypes.c_double)
    np.testing.assert_array_equal(alone, losses)


def test_cross_entropy_of_logits_that_are_far_apart(kernel):
    """In the second chunk of the vocabulary there are logits some hundreds above those of the first."""
    h, e = np.full((8, 16), 4, np.float32), np.zeros((4000, 16), np.float32)
    e[3000] = 4
    targets = np.array([3000, 0] * 4, np.int32)
    losses, dh, de = np.empty(8, np.float32), np.empty_like(h), np.zeros_like(e)
    kernel("cross_entropy", 8, 16, 4000, h, e, targets, 1, losses, dh, de, result=ctypes.c_double)
    np.testing.assert_allclose(losses, [0, 256] * 4, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dh, np.array([[0], [4]] * 4) * np.ones(16), atol=1e-5)


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_adamw(plain, clip):
    settings = {"betas": (0.8, 0.97), "eps": 1e-7, "weight_decay": 0.1}
    p, m, v = normal(1003), np.zeros(1003, np.float32), np.zeros(1003, np.float32)
    exact = leaf(p)
    optimizer = torch.optim.AdamW([exact], **settings)
    for step in range(1, 6):
        g, lr = normal(1003, seed=step), 0.01 * step
        g[:7] = 0
        exact.grad = torch.from_numpy(g.astype(float))
        wanted = torch.nn.utils.clip_grad_norm_([exact], clip or math.inf).item()
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        beta1, beta2 = settings["betas"]
        numbers_of_step = (beta1, beta2, settings["eps"], clip, settings["weight_decay"], lr, step)
        norm = plain("adamw", *numbers_of_step, len(p), g, p, m, v, result=ctypes.c_double)
        assert norm == pytest.approx(wanted, rel=1e-6)
    state = optimizer.state[exact]
    assert_close(m, numbers(state["exp_avg"]), 5e-7)
    assert_close(v, numbers(state["exp_avg_sq"]), 5e-7)
    assert_close(p, numbers(exact), 5e-7)


def model_case(kernel: Kernel, run, batch: int, step: int = 1):
    """A model's output and gradient for a random gradient of the output, from the kernel."""
    sizes = [math.prod(size) for name, size in layout(run) if not name.startswith("norm.")]
    flat = np.concatenate([normal(size, seed=i, scale=0.2) for i, size in enumerate(sizes)])
    tokens = np.random.default_rng(4).integers(0, run.n_vocab, (batch, run.n_ctx + 1)).astype(np.uint16)
    dx = normal(batch, run.n_ctx, run.d_model, seed=5)
    x, gradient = np.empty_like(dx), np.empty_like(flat)
    shape = native._Shape(*(getattr(run, name) for name, _ in native._Shape._fields_[:-1]), run.family == "lstm")
    settings = native._Settings(*(getattr(run, name) for name, _ in native._Settings._fields_))
    pointers = ctypes.byref(shape), ctypes.byref(settings)
    kernel("model", *pointers, flat, tokens, batch, step, 1, dx, x, gradient)
    return flat, tokens, dx, x, gradient


def assert_model_agrees(kernel: Kernel, run, function, flat, tokens, dx, x, gradient) -> None:
    """Against `function`(weights, tokens) -> x in torch, tensor by tensor."""
    sizes = {name: size for name, size in layout(run) if not name.startswith("norm.")}
    exact = leaf(flat)
    parts = torch.split(exact, [math.prod(size) for size in sizes.values()])
    weights = {name: part.reshape(size) for (name, size), part in zip(sizes.items(), parts, strict=True)}
    wanted = function(weights, torch.from_numpy(tokens[:, :-1].astype(np.int64)))
    wanted.backward(torch.from_numpy(dx.astype(float)))
    assert_rounded(kernel, x, numbers(wanted), 0.012, "x")
    at = 0
    for name, size in sizes.items():
        stop = at + math.prod(size)
        if kernel.operands == "float32":
            assert_close(gradient[at:stop], exact.grad[at:stop].numpy(), 3e-6, name)
        at = stop
    assert_rounded(kernel, gradient, exact.grad.numpy(), 0.012, "gradient")


@pytest.mark.parametrize(
    ("shape", "batch"),
    [
        ((1, 16, 1, 64, 8, 32), 5),
        ((2, 30, 3, 77, 20, 61), 9),  # two chunks, no size a whole number of vectors
        ((1, 32, 2, 96, 140, 61), 2),
        ((2, 24, 2, 40, 12, 61, 3), 4),  # recurrent: blocks are used three times
        ((0, 24, 1, 40, 12, 61), 3),
    ],
)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_transformer(kernel, shape, batch, dropout):
    run = make_run(*shape, dropout=dropout, seed=11)
    masks = None
    if dropout:
        sites = range(1 + 2 * run.n_layer * run.n_reuse)
        masks = [np.stack([dropout_mask(run, 3, sequence, site) for sequence in range(batch)]) for site in sites]
        masks = [torch.from_numpy(mask) for mask in masks]
    got = model_case(kernel, run, batch, step=3)
    assert_model_agrees(kernel, run, lambda weights, text: residual_stream(weights, run, text, masks), *got)


def lstm_output(w: dict[str, torch.Tensor], run, text: torch.Tensor) -> torch.Tensor:
    """Return what the layers make of tokens: (batch, n_ctx, d_model)."""
    x = w["embedding"][text] / run.embedding_std
    for layer in range(run.n_layer):
        state = cell = x.new_zeros(len(x), run.d_model)
        states = []
        for t in range(run.n_ctx):
            sums = x[:, t] @ w[f"lstm.{layer}.input"] + state @ w[f"lstm.{layer}.recurrent"] + w[f"lstm.{layer}.bias"]
            i, f, g, o = sums.chunk(4, -1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            state = o.sigmoid() * cell.tanh()
            states.append(state)
        output = torch.stack(states, 1)
        x = x + output if layer else output
    return x


@pytest.mark.parametrize(
    ("n_layer", "d_model", "n_ctx", "batch"), [(1, 16, 8, 8), (2, 30, 12, 3), (3, 40, 9, 11), (1, 144, 6, 5)]
)
def test_lstm(kernel, n_layer, d_model, n_ctx, batch):
    run = make_run(n_layer, d_model, 1, 1, n_ctx, 61, family="lstm", embedding_std=0.2)
    got = model_case(kernel, run, batch)
    assert_model_agrees(kernel, run, lambda weights, text: lstm_output(weights, run, text), *got)
