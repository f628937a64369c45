"""Parameters and FLOPs against Table 1 and the shapes that the paper names."""

import pytest

from pipeline.plan.counts import count
from pipeline.plan.run import Run
from pipeline.units import PF_DAY


def run(n_layer, d_model, **more):
    settings = {"tokens": "t", "n_head": 1, "n_vocab": 50_257, "n_ctx": 1024, "n_steps": 250_000, "lr": 1e-3}
    return Run(**settings | {"n_layer": n_layer, "d_model": d_model} | more)


@pytest.mark.parametrize(
    ("shape", "n_params"),
    [
        ((1, 8), 768),
        ((2, 128), 393_216),
        ((6, 4288), 1.324e9),
        ((207, 768), 1.465e9),
        ((48, 1600), 1.475e9),
        ((36, 1280), 7.08e8),
    ],
)
def test_shapes_named_in_the_paper(shape, n_params):
    assert count(run(*shape)).n_params == pytest.approx(n_params, rel=1e-3)
    assert count(run(*shape)).n_params == 12 * shape[0] * shape[1] ** 2


def test_embeddings_of_table_1():
    assert count(run(36, 1280)).n_params_total == pytest.approx(7.73e8, rel=1e-3)
    assert count(run(2, 128)).n_params_embedding == pytest.approx(6.56e6, rel=1e-3)


def test_table_1_row_by_row():
    n_layer, d, d_ff, n_ctx, n_vocab = 3, 96, 200, 64, 1000
    rows = [  # forward FLOPs per token: embed, QKV, mask, project, feed-forward, de-embed
        4 * d,
        2 * n_layer * d * 3 * d,
        2 * n_layer * n_ctx * d,
        2 * n_layer * d * d,
        2 * n_layer * 2 * d * d_ff,
        2 * d * n_vocab,
    ]
    counts = count(run(n_layer, d, d_ff=d_ff, n_ctx=n_ctx, n_vocab=n_vocab))
    assert counts.flops_all == 3 * sum(rows)
    assert counts.flops_context == 3 * (sum(rows) - rows[0] - rows[-1])
    assert counts.flops == 6 * counts.n_params


def test_the_context_term_of_tiny_models_is_large():
    # Eq 2.2: 10.7 x 2N at d = 8 and n_ctx = 1024.
    counts = count(run(1, 8))
    assert (counts.flops_context - counts.flops) / counts.flops == pytest.approx(10.67, abs=0.01)


def test_the_full_run_of_the_largest_model_takes_13_pf_days():
    counts = count(run(48, 1600))
    assert counts.flops * 250_000 * 512 * 1024 / PF_DAY == pytest.approx(13.4, abs=0.05)


def test_reuse_and_lstm():
    recurrent = count(run(2, 64, family="recurrent", n_reuse=4))
    assert recurrent.n_params_reuse == 4 * recurrent.n_params == 4 * count(run(2, 64)).n_params
    assert recurrent.flops == 6 * recurrent.n_params_reuse
    assert count(run(2, 64, family="lstm")).n_params == 2 * 8 * 64 * 64
