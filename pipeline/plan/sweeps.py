"""Sweeps: named lists of runs, made from the config.

A sweep is a mapping. A value that is a list is a range, and the sweep is the product of its ranges. `variants` is a
list of such mappings, each laid over the sweep; the sweep is then their union. Whatever a sweep leaves open comes from
the config's `model` and `training` sections. Besides the fields of `pipeline.plan.run.Run` a sweep may say

shape          [n_layer, d_model] or [n_layer, d_model, n_head]
head_width     d_model / n_head, where the shape names no heads (as near to it as a divisor of d_model comes)
d_ff_ratio     d_ff / d_model
batch_tokens   tokens in a batch, in place of batch_sequences
tokens         training tokens, or {per_param, least, most}: so many per parameter N, within limits
epochs         most epochs over n_unique_tokens
warmup         linear warmup as a part of the steps, in place of warmup_steps
lr_factor      multiplies the learning rate that the rule of the config gives
shown_only     shapes that are drawn but not fitted
label          the sweep's own name of a series
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

from pipeline.errors import UserError
from pipeline.plan.counts import count
from pipeline.plan.run import Run

Config = Mapping[str, Any]

_RUN_FIELDS = {field.name for field in fields(Run)} - {"tokens", "n_layer", "d_model", "n_vocab", "recipe"}
SETTINGS = _RUN_FIELDS | {
    "shape",
    "head_width",
    "d_ff_ratio",
    "batch_tokens",
    "tokens",
    "epochs",
    "warmup",
    "lr_factor",
    "label",
}
"""Every key that a sweep, or the config's model and training sections, may set (besides variants and shown_only)."""

SMALLEST_N = 768
"""Smaller models get the learning rate of this N, the paper's smallest, so that a model of 0 layers has one."""


@dataclass(frozen=True)
class Member:
    """A run as one sweep sees it."""

    run: Run
    label: str = ""
    """The sweep's own name of the series; a run that several series share has theirs, with commas between."""
    fitted: bool = True
    """False for a shape that is shown but not fitted."""


def peak_rate(rule: Mapping[str, Any], n_params: int) -> float:
    """Return the peak learning rate of a model of `n_params` non-embedding parameters.

    `kaplan` is the paper's Eq D.1, 0.003239 - 0.0001395 ln N, which ends at N = 1e10. `power` is
    coefficient x (N / 1e5)^-exponent, at most `most`.

    Raises
    ------
    UserError
        When the rule has no positive rate at this N.

    Examples
    --------
    >>> round(peak_rate({"rule": "kaplan"}, 10**6), 5)
    0.00131
    >>> peak_rate({"rule": "power", "coefficient": 0.01, "exponent": 0.5, "most": 1.0}, 10**7)
    0.001
    """
    n_params = max(n_params, SMALLEST_N)
    if rule["rule"] == "kaplan":
        rate = 0.003239 - 0.0001395 * math.log(n_params)
    else:
        rate = min(rule["most"], rule["coefficient"] * (n_params / 1e5) ** -rule["exponent"])
    if rate <= 0:
        raise UserError(f"learning_rate: rule {rule['rule']} gives no positive rate at N = {n_params}")
    return float(f"{rate:.4g}")


def runs_of_sweep(name: str, config: Config, tokens_id: str) -> list[Member]:
    """Return the members of one sweep of the config, without repeats, in the order of the config.

    Parameters
    ----------
    name
        A key of the config's `sweeps`.
    config
        The whole config: `model`, `training`, `learning_rate`, `data` and `sweeps` are read.
    tokens_id
        Id of the token files that the runs train on.

    Raises
    ------
    UserError
        For an unknown sweep, an unknown setting, or a value out of its range; it names the sweep and the key.
    """
    if name not in config["sweeps"]:
        raise UserError(f"sweeps: no sweep is named {name!r}; there are {', '.join(config['sweeps'])}")
    members: dict[Run, Member] = {}
    for settings, shown_only in _points(name, config):
        try:
            member = _member(settings, shown_only, config, tokens_id)
        except UserError as error:
            raise UserError(f"sweeps: {name}: {error}") from error
        first = members.setdefault(member.run, member)
        if member.label not in first.label.split(","):  # a run of two series is one run with both labels
            members[member.run] = replace(first, label=",".join(filter(None, (first.label, member.label))))
    return list(members.values())


def _points(name: str, config: Config) -> Iterator[tuple[dict[str, Any], list]]:
    """Yield the settings of every point of a sweep, and the shapes that are only shown."""
    sweep = dict(config["sweeps"][name])
    variants = sweep.pop("variants", [{}])
    for variant in variants:
        settings = {**config["model"], **config["training"], **_own(sweep), **_own(variant)}
        shown_only = variant.get("shown_only", sweep.get("shown_only", []))
        if unknown := settings.keys() - SETTINGS:
            raise UserError(
                f"sweeps: {name}: unknown setting {sorted(unknown)[0]!r}; known: {', '.join(sorted(SETTINGS))}"
            )
        shapes = settings.pop("shape", None)
        if not shapes:
            raise UserError(f"sweeps: {name}: shape is missing: a list of [n_layer, d_model]")
        settings["shape"] = shapes if isinstance(shapes[0], list) else [shapes]
        ranges = {key: value if isinstance(value, list) else [value] for key, value in settings.items()}
        for values in product(*ranges.values()):
            yield dict(zip(ranges, values, strict=True)), shown_only


def _own(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in ("variants", "shown_only")}


def _member(settings: dict[str, Any], shown_only: list, config: Config, tokens_id: str) -> Member:
    """Turn the settings of one point into a run: shape, then batch, then steps, then learning rate."""
    settings = dict(settings)
    shape = settings.pop("shape")
    label = str(settings.pop("label", ""))
    head_width = settings.pop("head_width", 32)
    d_ff_ratio = settings.pop("d_ff_ratio", 4)
    batch_tokens = settings.pop("batch_tokens", None)
    tokens = settings.pop("tokens", None)
    epochs = settings.pop("epochs", None)
    warmup = settings.pop("warmup", None)
    lr_factor = settings.pop("lr_factor", 1.0)

    n_layer, d_model, *heads = shape
    fields_: dict[str, Any] = settings | {"n_layer": n_layer, "d_model": d_model, "tokens": tokens_id}
    fields_["n_vocab"] = config["data"]["vocabulary"]
    fields_.setdefault("n_head", heads[0] if heads else _heads(d_model, head_width))
    fields_.setdefault("d_ff", max(1, round(d_ff_ratio * d_model)))
    if batch_tokens is not None:
        fields_["batch_sequences"] = max(1, round(batch_tokens / fields_["n_ctx"]))

    probe = Run(**fields_ | {"n_steps": 2, "warmup_steps": 0, "lr": 0.0, "n_unique_tokens": None, "patience": 0})
    n_params = count(probe).n_params
    if "n_steps" not in fields_:
        if tokens is None:
            raise UserError("tokens or n_steps is missing: how long a run trains")
        if isinstance(tokens, Mapping):
            tokens = min(tokens["most"], max(tokens["least"], tokens["per_param"] * n_params))
        if epochs and fields_.get("n_unique_tokens"):
            tokens = min(tokens, epochs * fields_["n_unique_tokens"])
        fields_["n_steps"] = max(2, math.ceil(tokens / probe.batch_tokens))
    if warmup is not None and "warmup_steps" not in fields_:
        fields_["warmup_steps"] = min(fields_["n_steps"] - 1, math.ceil(warmup * fields_["n_steps"]))
    if "lr" not in fields_:
        fields_["lr"] = float(f"{lr_factor * peak_rate(config['learning_rate'], n_params):.4g}")
    return Member(Run(**fields_), label, [n_layer, d_model] not in [list(s[:2]) for s in shown_only])


def _heads(d_model: int, head_width: int) -> int:
    """Return the divisor of d_model whose heads come nearest to `head_width` (by ratio)."""
    divisors = [n for n in range(1, d_model + 1) if d_model % n == 0]
    return min(divisors, key=lambda n: abs(math.log(d_model / n / head_width)))
