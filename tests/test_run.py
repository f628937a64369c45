"""Identity of a run: what moves an id and what does not."""

import json
from dataclasses import fields

import pytest

from pipeline.errors import UserError
from pipeline.plan.run import Run

BASE = {
    "tokens": "laptop-0123456789",
    "n_layer": 2,
    "d_model": 64,
    "n_head": 2,
    "n_vocab": 512,
    "n_steps": 100,
    "lr": 0.01,
}


def test_golden_ids_hold_the_defaults_still():
    # If one of these moves, every cached run of every user is orphaned: give the new field the old behaviour.
    assert Run(**BASE).id == "transformer-2x64-b16-s100-328acc113a"
    recurrent = Run(**BASE | {"family": "recurrent", "n_reuse": 4, "n_unique_tokens": 5000, "dropout": 0.1})
    assert recurrent.id == "recurrent-2x64x4-b16-s100-d5000-145df18f36"


def test_raising_the_recipe_moves_every_id_and_old_files_keep_theirs(monkeypatch):
    before = Run(**BASE)
    monkeypatch.setitem(Run.__init__.__kwdefaults__, "recipe", 2)
    monkeypatch.setattr(Run.__dataclass_fields__["recipe"], "default", 2)
    assert Run(**BASE).recipe == 2
    assert Run(**BASE).id != before.id
    assert Run.from_json(before.to_json()) == before
    assert Run.from_json(Run(**BASE).to_json()) == Run(**BASE)


def test_numbers_of_one_value_give_one_id():
    assert Run(**BASE | {"n_steps": 100.0, "clip": 1}).id == Run(**BASE).id
    assert Run(**BASE | {"d_ff": 256}).id == Run(**BASE).id


@pytest.mark.parametrize("field", [f.name for f in fields(Run) if f.name not in ("optimizer", "family", "n_reuse")])
def test_every_field_moves_the_id(field):
    value = getattr(Run(**BASE), field)
    other = {"tokens": "other", "schedule": "linear", "precision": "bfloat16", "n_unique_tokens": 4096}.get(field)
    if other is None:
        other = {bool: lambda v: not v, int: lambda v: v + 1 if v != 2 else 4, float: lambda v: v / 2 or 0.25}[
            type(value)
        ](value)
    extra = {"patience": {"evaluate_every": 10}, "cooldown": {"schedule": "wsd"}}.get(field, {})
    if field == "n_head":
        other = 4
    if field == "d_model":
        other = 128
    assert Run(**BASE | extra | {field: other}).id != Run(**BASE | extra).id


def test_a_cooldown_is_of_wsd_alone():
    assert Run(**BASE | {"cooldown": 0.5}) == Run(**BASE)
    assert Run(**BASE | {"cooldown": 0.5}).id == Run(**BASE).id


def test_runs_that_differ_in_length_alone_share_the_id_of_their_trunk():
    wsd = BASE | {"schedule": "wsd", "warmup_steps": 10}
    trunk = Run(**wsd).trunk_id
    assert trunk == "transformer-2x64-b16-6d0d8e492a"
    assert Run(**wsd | {"n_steps": 1000, "cooldown": 0.5}).trunk_id == trunk
    for other in ({"warmup_steps": 11}, {"lr": 0.02}, {"lr_final": 0.1}, {"seed": 1}, {"evaluations": 41}):
        assert Run(**wsd | other).trunk_id != trunk


def test_json_round_trip_and_is_canonical():
    run = Run(**BASE | {"dropout": 0.1, "seed": 3})
    assert Run.from_json(run.to_json()) == run
    assert json.loads(run.to_json()).keys() == BASE.keys() | {"dropout", "seed"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"n_head": 3}, "n_head: 3 does not divide d_model 64"),
        ({"n_steps": 1.5}, "n_steps: 1.5 is not a whole number"),
        ({"lr": "1e-3"}, "lr: '1e-3' is not of type float"),
        ({"family": "mamba"}, "family: 'mamba' is not one of transformer, recurrent, lstm"),
        ({"n_reuse": 2}, "n_reuse: 2 needs family recurrent"),
        ({"patience": 3}, "patience: early stopping needs evaluate_every"),
        ({"n_unique_tokens": 100}, "n_unique_tokens: 100 is not above n_ctx 128"),
        ({"n_vocab": 70_000}, "n_vocab: 70000 is above 65536"),
        ({"warmup_steps": 100}, "warmup_steps: 100 is not below n_steps 100"),
        (
            {"schedule": "wsd", "warmup_steps": 80},
            "cooldown: 0.2 of 100 steps begins after step 80, not after the warmup",
        ),
        ({"schedule": "wsd", "cooldown": 1.0}, "cooldown: 1.0 is outside 0.0 to 0.9999"),
        ({"dropout": 1.0}, "dropout: 1.0 is outside 0.0 to 0.9"),
        ({"lr_hidden": -0.1}, "lr_hidden: -0.1 is outside 0.0 to 100000.0"),
        ({"lr_hidden": float("nan")}, "lr_hidden: nan is outside"),
        ({"lr_hidden": None}, "lr_hidden: None is not of type float"),
        ({"family": "lstm", "n_layer": 0}, "n_layer: 0 is below 1, the least of family"),
    ],
)
def test_a_wrong_field_is_named(change, word):
    with pytest.raises(UserError, match=word.replace("(", r"\(")):
        Run(**BASE | change)
