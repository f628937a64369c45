"""The closed schema: one line that names the key and what is allowed."""

import copy
from pathlib import Path

import pytest
import yaml

from pipeline.errors import UserError
from pipeline.plan.config import check_config
from pipeline.plan.sweeps import SETTINGS

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "rules/config.schema.yaml"


def config():
    return yaml.safe_load((ROOT / "config.yaml").read_text())


def test_the_default_config_is_allowed():
    assert check_config(config(), SCHEMA)["preset"] == "laptop"


def test_the_schema_knows_every_setting_of_a_sweep():
    schema = yaml.safe_load(SCHEMA.read_text())
    assert set(schema["$defs"]["settings"]["properties"]) == SETTINGS
    assert set(schema["$defs"]["sweep"]["properties"]) == SETTINGS | {"shown_only", "variants"}


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("traning", {}, "traning is not a key; allowed: .*training"),
        ("training/learning_rte", 1.0, "training/learning_rte is not a key; allowed: .*lr"),
        ("training/tokens", "6e6", "training/tokens: '6e6' is not allowed: .*write 6000000"),
        ("training/dropout", -0.1, "training/dropout: -0.1 is not allowed: a number at least 0"),
        ("learning_rate/rule", "cosine", "learning_rate"),
        ("fits/bootstrap", 1, "fits/bootstrap: 1 is not allowed: a whole number at least 39"),
        ("sweeps/sizes/shape", [[2]], "sweeps/sizes/shape"),
        ("figures", "some", "figures: 'some' is not allowed: all, or a list of names"),
        ("preset", "a b", "preset: 'a b' is not allowed"),
    ],
)
def test_a_wrong_value_is_named(path, value, word):
    wrong = copy.deepcopy(config())
    *parents, key = path.split("/")
    section = wrong
    for parent in parents:
        section = section[parent]
    section[key] = value
    with pytest.raises(UserError, match=word) as caught:
        check_config(wrong, SCHEMA)
    assert "\n" not in str(caught.value)


def test_a_missing_section_is_named():
    wrong = config()
    del wrong["training"]
    with pytest.raises(UserError, match="config: the key training is missing"):
        check_config(wrong, SCHEMA)
