"""From the config's sweeps to runs."""

import pytest

from pipeline.errors import UserError
from pipeline.plan.sweeps import hidden_part, peak_rate, runs_of_sweep


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


def rates_by_width(training=(), **sweep):
    """Peak rate and that of the hidden matrices, of the runs of a sweep under the rule width."""
    given = config(**sweep)
    given["learning_rate"] = {"rule": "width", "coefficient": 0.012, "width": 32}
    given["training"].update(training)
    return [(m.run.lr, pytest.approx(m.run.lr * m.run.lr_hidden, rel=1e-3)) for m in runs_of_sweep("s", given, "t")]


def test_the_rule_width_has_two_rates_and_a_factor_multiplies_both():
    shapes = [[2, 16], [6, 32], [1, 128]]
    assert rates_by_width(shape=shapes) == [(0.012, 0.024), (0.012, 0.012), (0.012, 0.003)]
    assert rates_by_width(shape=[2, 128], lr_factor=[0.5, 2]) == [(0.006, 0.0015), (0.024, 0.006)]
    assert rates_by_width(shape=[[2, 64]], family="lstm", lr_factor=2) == [(0.024, 0.012)]


def test_either_rate_of_the_rule_width_can_be_given():
    assert rates_by_width(shape=[[2, 64]], lr=0.01) == [(0.01, 0.005)]
    assert rates_by_width(shape=[[2, 64]], lr_hidden=[1, 0.1]) == [(0.012, 0.012), (0.012, 0.0012)]
    assert rates_by_width(shape=[[2, 64]], training={"lr_hidden": 2}, lr_factor=2) == [(0.024, 0.048)]


def test_other_rules_have_one_rate_unless_a_part_is_given():
    assert [m.run.lr_hidden for m in members(shape=[[2, 32], [2, 64]])] == [1, 1]
    assert [m.run.lr_hidden for m in members(shape=[[2, 32], [2, 64]], lr_hidden=0.5)] == [0.5, 0.5]
    assert hidden_part({"rule": "kaplan"}, 64) == 1


def test_a_factor_multiplies_a_given_rate_too():
    runs = [m.run for m in members(shape=[[2, 64], [2, 128]], lr=0.0012345, lr_factor=[0.35, 1])]
    assert [run.lr for run in runs] == [0.000432075, 0.000432075, 0.0012345, 0.0012345]


def test_warmup_is_a_part_of_the_steps_or_a_number_of_steps():
    assert [m.run.warmup_steps for m in members(shape=[2, 64], warmup=[0.0, 0.5])] == [0, 50]
    assert [m.run.warmup_steps for m in members(shape=[2, 64], warmup_steps=[0, 3])] == [0, 3]


def test_the_innermost_of_two_names_of_one_thing_counts():
    given = config(shape=[2, 64], n_steps=70, variants=[{"batch_tokens": 1024}, {"batch_sequences": 4, "tokens": 5120}])
    given["model"]["n_head"] = given["model"].pop("head_width") // 8
    given["training"] |= {"warmup": None, "warmup_steps": 6}
    runs = [m.run for m in runs_of_sweep("s", given, "laptop-0123456789")]
    assert [(r.batch_sequences, r.n_steps, r.warmup_steps, r.n_head) for r in runs] == [(8, 70, 6, 4), (4, 10, 6, 4)]


def test_epochs_limit_steps_as_well():
    found = members(shape=[2, 64], n_steps=70, epochs=5, n_unique_tokens=[10_000, None])
    assert [m.run.n_steps for m in found] == [25, 70]


def test_shapes_that_are_only_shown():
    found = members(shape=[[1, 16], [2, 32]], shown_only=[[1, 16]])
    assert [m.fitted for m in found] == [False, True]


@pytest.mark.parametrize(
    ("sweep", "word"),
    [
        ({"shape": [[2, 64, 3]]}, "config: sweeps/s/shape: n_head: 3 does not divide d_model 64$"),
        ({"shape": [2, 64], "layers": 2}, "config: sweeps/s: unknown setting 'layers'"),
        ({"seed": [0, 1]}, "config: sweeps/s: shape is missing"),
        ({"shape": [2, 64], "n_unique_tokens": 64}, "config: sweeps/s/n_unique_tokens: 64 is not above n_ctx 128$"),
    ],
)
def test_errors_name_the_sweep_and_the_key(sweep, word):
    with pytest.raises(UserError, match=word):
        members(**sweep)


def test_an_unknown_sweep_is_named():
    with pytest.raises(UserError, match="no sweep is named 'nothing'; there are s"):
        runs_of_sweep("nothing", config(shape=[2, 64]), "t")
