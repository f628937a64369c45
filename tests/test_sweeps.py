"""From the config's sweeps to runs."""

import pytest

from pipeline.errors import UserError
from pipeline.plan.sweeps import peak_rate, runs_of_sweep


def config(**sweep):
    return {
        "data": {"vocabulary": 512},
        "model": {"n_ctx": 128, "head_width": 32},
        "training": {"batch_sequences": 16, "tokens": 204_800, "warmup": 0.05},
        "learning_rate": {"rule": "power", "coefficient": 0.01, "exponent": 0.5, "most": 0.03},
        "sweeps": {"s": sweep},
    }


def members(**sweep):
    return runs_of_sweep("s", config(**sweep), "laptop-0123456789")


def test_a_sweep_is_the_product_of_its_ranges():
    found = members(shape=[[2, 32], [2, 64]], seed=[0, 1, 2])
    assert len(found) == 6
    assert {(m.run.d_model, m.run.seed) for m in found} == {(d, s) for d in (32, 64) for s in (0, 1, 2)}
    assert all(m.run.n_steps == 100 and m.run.warmup_steps == 5 for m in found)


def test_variants_are_a_union_without_repeats():
    variants = [{"shape": [[2, 64]], "label": "a"}, {"shape": [[2, 64], [4, 64]], "d_ff_ratio": [4, 1]}]
    found = members(variants=variants)
    assert [(m.run.n_layer, m.run.d_ff, m.label) for m in found] == [
        (2, 256, "a"),
        (4, 256, ""),
        (2, 64, ""),
        (4, 64, ""),
    ]


def test_a_run_of_two_series_has_both_labels():
    variants = [{"shape": [[2, 64]], "label": label} for label in ("a", "b", "a")]
    found = members(variants=variants)
    assert [member.label for member in found] == ["a,b"]


def test_heads_come_from_the_width_unless_they_are_named():
    runs = [m.run for m in members(shape=[[2, 16], [2, 96], [2, 80], [2, 64, 8]])]
    assert [r.n_head for r in runs] == [1, 3, 2, 8]


def test_tokens_per_parameter_within_limits_and_epochs():
    tokens = {"per_param": 10, "least": 1e5, "most": 3e6}
    steps = [m.run.n_steps for m in members(shape=[[1, 16], [2, 64], [4, 128]], tokens=tokens)]
    assert steps == [49, 480, 1465]
    assert members(shape=[2, 64], n_unique_tokens=10_000, epochs=5)[0].run.n_steps == 25


def test_batches_in_tokens():
    assert [m.run.batch_sequences for m in members(shape=[2, 64], batch_tokens=[1024, 4096])] == [8, 32]


def test_learning_rate_rule_and_factor():
    run = members(shape=[2, 64], lr_factor=[0.5])[0].run
    assert run.lr == pytest.approx(0.5 * 0.01 * (98_304 / 1e5) ** -0.5, rel=1e-3)
    assert peak_rate({"rule": "kaplan"}, 1_500_000_000) == pytest.approx(2.9e-4, rel=0.02)
    with pytest.raises(UserError, match="no positive rate"):
        peak_rate({"rule": "kaplan"}, 2 * 10**10)


def test_shapes_that_are_only_shown():
    found = members(shape=[[1, 16], [2, 32]], shown_only=[[1, 16]])
    assert [m.fitted for m in found] == [False, True]


@pytest.mark.parametrize(
    ("sweep", "word"),
    [
        ({"shape": [[2, 64, 3]]}, "sweeps: s: n_head: 3 does not divide d_model 64"),
        ({"shape": [2, 64], "layers": 2}, "sweeps: s: unknown setting 'layers'"),
        ({"seed": [0, 1]}, "sweeps: s: shape is missing"),
        ({"shape": [2, 64], "n_unique_tokens": 64}, "sweeps: s: n_unique_tokens: 64 is not above n_ctx"),
    ],
)
def test_errors_name_the_sweep_and_the_key(sweep, word):
    with pytest.raises(UserError, match=word):
        members(**sweep)


def test_an_unknown_sweep_is_named():
    with pytest.raises(UserError, match="no sweep is named 'nothing'; there are s"):
        runs_of_sweep("nothing", config(shape=[2, 64]), "t")
