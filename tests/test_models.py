"""The models against independent references, and both engines against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline import models
from pipeline.engines import Engine, make_engine
from pipeline.engines.native import available
from pipeline.errors import UserError
from pipeline.models import transformer
from pipeline.models.initial import initial, split
from pipeline.plan.counts import count
from pipeline.plan.run import Run

torch = pytest.importorskip("torch")

FAMILIES = [
    {"family": "transformer"},
    {"family": "transformer", "n_layer": 0},
    {"family": "transformer", "n_head": 4, "d_ff": 24},
    {"family": "recurrent", "n_layer": 1, "n_reuse": 3},
    {"family": "lstm"},
]
NATIVE = pytest.param("native", marks=pytest.mark.skipif(not available(), reason="no C++ compiler"))
ENGINES = [NATIVE, "torch"]


def tiny(**fields) -> Run:
    base = {"tokens": "t", "n_layer": 2, "d_model": 16, "n_head": 2, "n_vocab": 64, "n_ctx": 12, "batch_sequences": 6}
    return Run(**base | {"n_steps": 400, "lr": 0.01} | fields)


def engine_for(run: Run, name: str) -> Engine:
    if name == "native" and run.family == "lstm" and run.dropout:
        pytest.skip("the native engine's LSTM has no dropout")
    return make_engine(run, "cpu", engine=name)


def batch_of(run: Run, seed: int = 0) -> np.ndarray:
    shape = (run.batch_sequences, run.n_ctx + 1)
    return np.random.default_rng(seed).integers(0, run.n_vocab, shape).astype(np.uint16)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("fields", FAMILIES, ids=str)
def test_no_loss_depends_on_later_tokens(fields: dict, name: str) -> None:
    """Changing one token changes the losses from its own prediction on, and none before."""
    run = tiny(**fields)
    engine = engine_for(run, name)
    one = batch_of(run)[:1]
    before = engine.evaluate(one)
    for place in (1, 5, run.n_ctx):
        other = one.copy()
        other[0, place] = (other[0, place] + 1) % run.n_vocab
        after = engine.evaluate(other)
        np.testing.assert_array_equal(after[: place - 1], before[: place - 1])
        reach = 2 if fields.get("n_layer") == 0 else None  # without layers a token is seen by its own successor only
        changed = slice(place - 1, reach and place - 1 + reach)
        assert np.all(after[changed] != before[changed])


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("fields", FAMILIES, ids=str)
def test_first_loss_is_that_of_a_uniform_guess(fields: dict, name: str) -> None:
    run = tiny(**fields, embedding_std=0.02)
    engine = engine_for(run, name)
    loss = engine.evaluate(batch_of(run)).sum() / (run.batch_sequences * run.n_ctx)
    assert loss == pytest.approx(math.log(run.n_vocab), abs=0.03)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("fields", [f for f in FAMILIES if f.get("n_layer", 2)], ids=str)
def test_one_batch_is_learned_by_heart(fields: dict, name: str) -> None:
    run = tiny(**fields)
    engine, batch = engine_for(run, name), batch_of(run)
    losses = [engine.step(batch, 0.01).loss for _ in range(400)]
    assert losses[0] > 4
    # The first token of a sequence is given by nothing but the position, so some of it can't be known.
    assert losses[-1] < 0.1


@pytest.mark.parametrize("fields", FAMILIES, ids=str)
def test_weights_are_those_that_are_counted(fields: dict) -> None:
    run = tiny(**fields)
    counts = count(run)
    weights = make_engine(run, "cpu", engine="torch").weights()
    embeddings = sum(weights[name].size for name in ("embedding", "position") if name in weights)
    hidden = sum(value.size for name, value in weights.items() if value.ndim == 2) - embeddings
    hidden -= weights["depth"].size if "depth" in weights else 0
    assert (hidden, embeddings) == (counts.n_params, counts.n_params_embedding)


def test_lstm_has_8_d_squared_a_layer() -> None:
    run = tiny(family="lstm", n_layer=3)
    recurrent = [size for name, size in models.parameters(run) if name.startswith("lstm") and len(size) == 2]
    assert sum(map(math.prod, recurrent)) == 8 * 3 * 16**2


def logits_of(run: Run, tokens: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    with torch.no_grad():
        return engine_logits(run, tensors, torch.from_numpy(tokens.astype(np.int64))).numpy()


def shaken(run: Run) -> dict[str, np.ndarray]:
    """First weights with every gain, bias and matrix away from its special value."""
    rng = np.random.default_rng(5)
    weights = split(initial(run), run)
    return {name: value + rng.normal(scale=0.1, size=value.shape).astype(np.float32) for name, value in weights.items()}


def test_transformer_is_torchs_own_encoder_layer() -> None:
    """The same function as nn.TransformerEncoderLayer (pre-norm) under a causal mask."""
    run = tiny(n_layer=1, d_ff=24)
    weights, tokens = shaken(run), batch_of(run)[:, :-1]
    layer = torch.nn.TransformerEncoderLayer(
        16, 2, 24, dropout=0.0, activation=lambda x: torch.nn.functional.gelu(x, approximate="tanh"), batch_first=True,
        norm_first=True,
    )  # fmt: skip
    own = {name.removeprefix("block.0."): torch.from_numpy(value) for name, value in weights.items()}
    zero = torch.zeros
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": own["qkv"].T, "self_attn.in_proj_bias": zero(48),
            "self_attn.out_proj.weight": own["out"].T, "self_attn.out_proj.bias": zero(16),
            "linear1.weight": own["up"].T, "linear1.bias": zero(24),
            "linear2.weight": own["down"].T, "linear2.bias": zero(16),
            "norm1.weight": own["norm1.gain"], "norm1.bias": own["norm1.bias"],
            "norm2.weight": own["norm2.gain"], "norm2.bias": own["norm2.bias"],
        }
    )  # fmt: skip
    index = torch.from_numpy(tokens.astype(np.int64))
    with torch.no_grad():
        x = own["embedding"][index] + own["position"]
        x = layer(x, src_mask=torch.nn.Transformer.generate_square_subsequent_mask(run.n_ctx), is_causal=True)
        x = torch.nn.functional.layer_norm(x, (16,), own["norm.gain"], own["norm.bias"])
        expected = (x @ own["embedding"].T).numpy()
    np.testing.assert_allclose(logits_of(run, tokens, weights), expected, atol=2e-5)


def test_recurrent_is_a_transformer_with_repeated_blocks() -> None:
    recurrent, plain = tiny(family="recurrent", n_layer=2, n_reuse=2), tiny(n_layer=4)
    weights, tokens = shaken(recurrent), batch_of(recurrent)[:, :-1]
    weights["depth"][:] = 0
    repeated = {name: value for name, value in weights.items() if not name.startswith(("block", "depth"))}
    for name, value in weights.items():
        if name.startswith("block"):
            _, number, rest = name.split(".", 2)
            for reuse in range(2):
                repeated[f"block.{2 * reuse + int(number)}.{rest}"] = value
    np.testing.assert_array_equal(logits_of(recurrent, tokens, weights), logits_of(plain, tokens, repeated))
    weights["depth"][1] = 0.5 * np.arange(16)
    assert not np.allclose(logits_of(recurrent, tokens, weights), logits_of(plain, tokens, repeated), atol=1e-3)


def test_lstm_is_the_textbook_cell() -> None:
    run = tiny(family="lstm", n_layer=2)
    weights, tokens = shaken(run), batch_of(run)[:, :-1]
    sequence = weights["embedding"][tokens].astype(np.float64) / run.embedding_std
    for layer in range(2):
        h = c = np.zeros((len(tokens), 16))
        outputs = []
        for x in sequence.transpose(1, 0, 2):
            part = {name: weights[f"lstm.{layer}.{name}"] for name in ("input", "recurrent", "bias")}
            gates = x @ part["input"] + h @ part["recurrent"] + part["bias"]
            i, f, g, o = np.split(gates, 4, axis=1)
            c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            h = np.tanh(c) / (1 + np.exp(-o))
            outputs.append(h)
        sequence = np.stack(outputs, axis=1) + (sequence if layer else 0)
    normed = (sequence - sequence.mean(-1, keepdims=True)) / np.sqrt(sequence.var(-1, keepdims=True) + 1e-5)
    expected = (normed * weights["norm.gain"] + weights["norm.bias"]) @ weights["embedding"].T
    np.testing.assert_allclose(logits_of(run, tokens, weights), expected, atol=2e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n_layer": 0},
        {"family": "recurrent", "n_layer": 1, "n_reuse": 3},
        {"weight_decay": 0.5, "clip": 0.3},
        {"weight_decay": 0.5, "clip": 0.3, "lr_hidden": 0.25},
        {"family": "recurrent", "n_layer": 1, "n_reuse": 3, "lr_hidden": 2.0},
        {"family": "lstm", "weight_decay": 0.5, "lr_hidden": 0.25},
        {"clip": 0.0, "n_ctx": 8, "d_model": 24, "n_head": 3},
    ],
    ids=str,
)
@pytest.mark.skipif(not available(), reason="no C++ compiler")
def test_engines_agree_over_many_steps(fields: dict) -> None:
    run = tiny(**fields, noise=True)
    native, reference = engine_for(run, "native"), engine_for(run, "torch")
    for step in range(150):
        noise = step % 3 == 0
        results = [e.step(batch_of(run, seed=step), 0.003, noise) for e in (native, reference)]
        assert results[0].loss == pytest.approx(results[1].loss, rel=1e-4)
        assert results[0].gradient_norm == pytest.approx(results[1].gradient_norm, rel=2e-3)
        if noise:
            assert results[0].noise == pytest.approx(results[1].noise, rel=4e-3)
        else:
            assert results[0].noise is results[1].noise is None
    np.testing.assert_allclose(native.evaluate(batch_of(run)), reference.evaluate(batch_of(run)), rtol=1e-3)


@pytest.mark.parametrize("fields", FAMILIES, ids=str)
def test_the_torch_engine_steps_as_plain_adamw(fields: dict) -> None:
    """Whatever the form of the gradients in memory: the fused optimizer takes it as the weights' own."""
    run = tiny(**fields, clip=0.0)
    engine = make_engine(run, "cpu", engine="torch")
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in engine.weights().items()}
    optimizer = torch.optim.AdamW(leaves.values(), lr=0.01, betas=(run.beta1, run.beta2), weight_decay=0, fused=False)
    for step in range(3):
        tokens = batch_of(run, step)
        engine.step(tokens, 0.01)
        index = torch.from_numpy(tokens.astype(np.int64))
        logits = engine_logits(run, leaves, index[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), index[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, value in engine.weights().items():
        np.testing.assert_allclose(value, leaves[name].detach().numpy(), atol=1e-3, err_msg=name)


def engine_logits(run: Run, weights: dict, tokens: torch.Tensor) -> torch.Tensor:
    return transformer.head(weights, models.family(run.family).hidden(weights, tokens, run))


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("sequences", [2, 6, 7])
def test_noise_norms_are_those_of_the_halves(name: str, sequences: int) -> None:
    run = tiny(batch_sequences=sequences)
    batch = batch_of(run)
    half, whole = engine_for(run, name).step(batch, 0.01, noise=True).noise
    parts = (batch[: sequences // 2], batch[sequences // 2 :])
    norms = [engine_for(run, name).step(part, 0.01).gradient_norm for part in parts]
    assert half == pytest.approx((norms[0] ** 2 + norms[1] ** 2) / 2, rel=1e-4)
    assert whole == pytest.approx(engine_for(run, name).step(batch, 0.01).gradient_norm ** 2, rel=1e-4)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    "fields",
    [
        *FAMILIES,
        {"dropout": 0.2},
        {"family": "lstm", "dropout": 0.2},
        {"lr_hidden": 0.3, "weight_decay": 0.1},
        {"family": "lstm", "lr_hidden": 0.3, "weight_decay": 0.1},
    ],
    ids=str,
)
def test_state_continues_to_the_same_bits(fields: dict, name: str) -> None:
    run = tiny(**fields)
    one, other = engine_for(run, name), engine_for(run, name)
    for step in range(3):
        one.step(batch_of(run, step), 0.01)
    other.load(one.state())
    for step in range(3, 6):
        assert one.step(batch_of(run, step), 0.01) == other.step(batch_of(run, step), 0.01)
    for first, second in zip(one.state().values(), other.state().values(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ENGINES)
def test_dropout_drops_in_training_only(name: str) -> None:
    run = tiny(dropout=0.5)
    engine, batch = engine_for(run, name), batch_of(run)
    np.testing.assert_array_equal(engine.evaluate(batch), engine.evaluate(batch))
    dropped = [engine.step(batch, 0.0).loss for _ in range(3)]
    assert len(set(dropped)) == 3
    assert engine.evaluate(batch).sum() / (6 * 12) not in dropped


def test_bfloat16_and_adafactor_learn() -> None:
    for fields in ({"precision": "bfloat16"}, {"optimizer": "adafactor"}):
        run = tiny(**fields)
        engine, batch = make_engine(run, "cpu", engine="torch"), batch_of(run)
        assert engine.name == "torch"
        losses = [engine.step(batch, 0.02).loss for _ in range(100)]
        assert losses[-1] < losses[0] - 1


def test_positions_start_as_sinusoids() -> None:
    run = tiny(position_sinusoids=0.25)
    position = split(initial(run), run)["position"]
    assert float((position**2).mean()) ** 0.5 == pytest.approx(0.25)
    # Two columns of one frequency turn: the rows k apart have the same products wherever they stand.
    products = position @ position.T
    for k in range(run.n_ctx):
        np.testing.assert_allclose(np.diagonal(products, k), products[0, k], atol=1e-5)
    others = [split(initial(one), one) for one in (run, tiny())]
    np.testing.assert_array_equal(others[0]["embedding"], others[1]["embedding"])


def test_seed_and_shape_decide_the_first_weights() -> None:
    for family in ("transformer", "lstm"):
        one, same, other = (initial(tiny(family=family, seed=seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert not np.any((one == other) & (one != 0) & (one != 1))


def test_engines_that_cant_be_had_are_refused() -> None:
    with pytest.raises(UserError, match="native can't train"):
        make_engine(tiny(family="lstm", dropout=0.1), "cpu", engine="native")
    with pytest.raises(UserError, match="device: 'tpu' is not one of auto, cpu, cuda"):
        make_engine(tiny(), "tpu")
    with pytest.raises(UserError, match="engine: 'jax' is not one of auto, native, torch"):
        make_engine(tiny(), "cpu", engine="jax")
    with pytest.raises(UserError, match="threads: 0 is below 1"):
        make_engine(tiny(), "cpu", threads=0)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="cuda was asked for"):
            make_engine(tiny(), "cuda")


def test_without_a_compiler_torch_trains_and_says_so(monkeypatch, capsys) -> None:
    from pipeline.engines import native

    monkeypatch.setattr(native, "missing", lambda: "native engine: no C++ compiler")
    assert make_engine(tiny(), "cpu").name == "torch"
    assert capsys.readouterr().err == "native engine: no C++ compiler: torch trains this run, some times slower\n"
    with pytest.raises(UserError, match="no C\\+\\+ compiler"):
        make_engine(tiny(), "cpu", engine="native")


@pytest.mark.slow
@pytest.mark.skipif(not available(), reason="no C++ compiler")
def test_a_compiled_model_is_the_same_model() -> None:
    run = tiny(n_layer=1)
    plain, compiled = (make_engine(run, "cpu", engine="torch", compile=compile) for compile in (False, True))
    for step in range(5):
        losses = [engine.step(batch_of(run, step), 0.01).loss for engine in (plain, compiled)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
