"""Sweeps: named lists of runs, made from the config.

A sweep is a mapping. A value that is a list is a range, and the sweep is the product of its ranges. `variants` is a
list of such mappings, each laid over the sweep; the sweep is then their union. Whatever a sweep leaves open comes from
the config's `model` and `training` sections. Besides the fields of `pipeline.plan.run.Run` a sweep may say

shape          [n_layer, d_model] or [n_layer, d_model, n_head]
head_width     d_model / n_head, where the shape names no heads (as near to it as a divisor of d_model comes)
d_ff_ratio     d_ff / d_model
batch_tokens   tokens in a batch, in place of batch_sequences
tokens         training tokens, in place of n_steps; or {per_param, least, most}: so many per parameter N, within limits
epochs         most epochs over n_unique_tokens
warmup         linear warmup as a part of the steps, in place of warmup_steps
lr             peak learning rate, in place of the one that the rule of the config gives
lr_factor      multiplies either
lr_hidden      rate of the hidden matrices as a part of that, in place of the one that the rule gives
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

PAIRS = {
    "head_width": "n_head",
    "d_ff_ratio": "d_ff",
    "batch_tokens": "batch_sequences",
    "tokens": "n_steps",
    "warmup": "warmup_steps",
}
"""Key -> the field of a run that it is another name of. A mapping gives one of the two, and so takes back the other one
of what it is laid over; files that are merged into one mapping take one back with null."""

_OTHER = PAIRS | {field: key for key, field in PAIRS.items()}

_RUN_FIELDS = {field.name for field in fields(Run)} - {"tokens", "n_layer", "d_model", "n_vocab", "recipe"}
SETTINGS = _RUN_FIELDS | set(PAIRS) | {"shape", "epochs", "lr_factor", "label"}
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
    coefficient x (N / 1e5)^-exponent, at most `most`. `width` is `coefficient` at every N; see `hidden_part`.

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
    match rule["rule"]:
        case "kaplan":
            rate = 0.003239 - 0.0001395 * math.log(n_params)
        case "power":
            rate = min(rule["most"], rule["coefficient"] * (n_params / 1e5) ** -rule["exponent"])
        case "width":
            rate = rule["coefficient"]
    if rate <= 0:
        raise UserError(f"learning_rate: rule {rule['rule']} gives no positive rate at N = {n_params}")
    return float(f"{rate:.4g}")


def hidden_part(rule: Mapping[str, Any], d_model: int) -> float:
    """Return the rate of a model's hidden matrices as a part of its peak rate, which all its other weights have.

    `width` is width / d_model: with Adam the best rate of a hidden matrix goes as 1 / fan-in, that of an embedding, a
    norm or a bias does not depend on the width (the rates of muP: Yang et al. 2022, arXiv 2203.03466, Table 8), so that
    one coefficient serves all widths. `kaplan` and `power` have one rate for all weights.

    Examples
    --------
    >>> hidden_part({"rule": "width", "coefficient": 0.012, "width": 32}, d_model=128)
    0.25
    >>> hidden_part({"rule": "kaplan"}, d_model=128)
    1.0
    """
    return float(f"{rule['width'] / d_model:.4g}") if rule["rule"] == "width" else 1.0


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
    for layer in _layers(name, config):
        places = {key: place for key, (place, _) in layer.items()}
        for settings in _points({key: value for key, (_, value) in layer.items()}):
            try:
                member = _member(settings, config, tokens_id)
            except UserError as error:
                raise UserError(_where(str(error), places, f"sweeps/{name}")) from error
            first = members.setdefault(member.run, member)
            if member.label not in first.label.split(","):  # a run of two series is one run with both labels
                members[member.run] = replace(first, label=",".join(filter(None, (first.label, member.label))))
    _check_whole(name, config["sweeps"][name], [member.run for member in members.values()])
    return list(members.values())


Layer = dict[str, tuple[str, Any]]
"""Setting -> where the config sets it, and its value."""


def _layers(name: str, config: Config) -> Iterator[Layer]:
    """Yield the settings of each variant of a sweep, laid over those of the sweep and of the config's sections."""
    sweep, where = config["sweeps"][name], f"sweeps/{name}"
    if both := sorted(config["model"].keys() & config["training"].keys()):
        raise UserError(f"config: model/{both[0]} and training/{both[0]} are both given; leave one out")
    sections = _lay(_lay({}, config["model"], "model"), config["training"], "training")
    outer = _lay(sections, {key: value for key, value in sweep.items() if key != "variants"}, where)
    for number, variant in enumerate(sweep.get("variants", [{}])):
        layer = _lay(outer, variant, f"{where}/variants/{number}")
        if not layer.get("shape", ("", []))[1]:
            raise UserError(f"config: {where}: shape is missing: a list of [n_layer, d_model]")
        yield layer


def _lay(outer: Layer, inner: Mapping[str, Any], where: str) -> Layer:
    """Return the settings of one mapping laid over others; of `PAIRS` the one that it gives takes back the other."""
    layer = dict(outer)
    for key, value in inner.items():
        if key not in SETTINGS | {"shown_only"}:
            raise UserError(f"config: {where}: unknown setting {key!r}; known: {', '.join(sorted(SETTINGS))}")
        other = _OTHER.get(key)
        given = other is not None and inner.get(other) is not None
        if other and value is None and not given:
            raise UserError(f"config: {where}/{key}: null is allowed only beside {other}, which takes its place")
        if given and value is not None:
            raise UserError(
                f"config: {where}: {key} {value} and {other} {inner[other]} are two ways to say one thing: leave one "
                f"out ({key}: null takes back what another file gives)"
            )
        if value is not None or key not in _OTHER:
            layer.pop(other, None)
            layer[key] = (f"{where}/{key}", value)
    return layer


def place_of(key: str, name: str, config: Config) -> str:
    """Return where the config sets a key of a sweep: in the sweep, or in a section for all.

    Examples
    --------
    >>> config = {"model": {}, "training": {"seed": 0}, "sweeps": {"a": {}, "b": {"variants": [{"seed": 1}]}}}
    >>> place_of("seed", "a", config), place_of("seed", "b", config)
    ('training/seed', 'sweeps/b/seed')
    """
    sweep = config["sweeps"][name]
    if any(key in mapping for mapping in (sweep, *sweep.get("variants", []))):
        return f"sweeps/{name}/{key}"
    return f"model/{key}" if key in config["model"] else f"training/{key}"


def _points(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the settings of every point of a product of ranges."""
    shapes, shown_only = settings.pop("shape"), settings.pop("shown_only", [])
    settings["shape"] = shapes if isinstance(shapes[0], list) else [shapes]
    ranges = {key: value if isinstance(value, list) else [value] for key, value in settings.items()}
    for values in product(*ranges.values()):
        yield {**dict(zip(ranges, values, strict=True)), "shown_only": shown_only}


def _where(message: str, places: Mapping[str, str], sweep: str) -> str:
    """Return what is wrong with a field of a run as a line that names the key of the config that set it.

    Examples
    --------
    >>> places = {"shape": "sweeps/sizes/variants/2/shape", "dropout": "training/dropout"}
    >>> _where("n_head: 5 does not divide d_model 64", places, "sweeps/sizes")
    'config: sweeps/sizes/variants/2/shape: n_head: 5 does not divide d_model 64'
    >>> _where("dropout: 1.0 is outside 0.0 to 0.9", places, "sweeps/sizes")
    'config: training/dropout: 1.0 is outside 0.0 to 0.9 (sweeps/sizes)'
    """
    field, _, text = message.partition(": ")
    key = next((key for key in (*_SET_BY.get(field, ()), field, _OTHER.get(field)) if key in places), None)
    place = field if field == "learning_rate" else places.get(key, sweep)
    said = text if place.split("/")[-1] == field else message
    return f"config: {place}: {said}" + ("" if place.startswith(f"{sweep}/") or place == sweep else f" ({sweep})")


_SET_BY = {"n_layer": ("shape",), "d_model": ("shape",), "n_head": ("n_head", "shape"), "lr": ("lr_factor", "lr")}
"""Field of a run -> the settings that can give it a wrong value, besides its own and its other name."""


def _check_whole(name: str, sweep: Mapping[str, Any], runs: list[Run]) -> None:
    """Refuse settings that would change none of a sweep's runs."""
    mappings = [sweep, *sweep.get("variants", [])]
    shapes = [[run.n_layer, run.d_model] for run in runs]
    for shape in (shape for mapping in mappings for shape in mapping.get("shown_only", [])):
        if shape[:2] not in shapes:
            raise UserError(
                f"config: sweeps/{name}/shown_only: no run of the sweep has the shape {shape}; leave it out "
                "(shown_only: [] for none)"
            )
    if any(mapping.get("epochs") for mapping in mappings) and not any(run.n_unique_tokens for run in runs):
        raise UserError(f"config: sweeps/{name}/epochs: they are of n_unique_tokens, which no run of the sweep has")
    if any("cooldown" in mapping for mapping in mappings) and not any(run.schedule == "wsd" for run in runs):
        raise UserError(f"config: sweeps/{name}/cooldown: it is of schedule wsd, which no run of the sweep has")
    stopping = [run for run in runs if run.patience]
    if stopping and all(run.evaluate_every > run.n_steps for run in stopping):
        run = max(stopping, key=lambda run: run.n_steps)
        raise UserError(
            f"config: sweeps/{name}: evaluate_every {run.evaluate_every} is above the {run.n_steps} steps of its "
            f"longest run: patience {run.patience} would stop none"
        )


def _member(settings: dict[str, Any], config: Config, tokens_id: str) -> Member:
    """Turn the settings of one point into a run: shape, then batch, then steps, then learning rate."""
    settings = dict(settings)
    shape = [int(number) for number in settings.pop("shape")]
    shown_only = settings.pop("shown_only", [])
    label = settings.pop("label", "")
    head_width = settings.pop("head_width", 32)
    d_ff_ratio = settings.pop("d_ff_ratio", 4)
    batch_tokens = settings.pop("batch_tokens", None)
    tokens = settings.pop("tokens", None)
    epochs = settings.pop("epochs", None)
    warmup = settings.pop("warmup", None)
    lr = settings.pop("lr", None)
    lr_factor = settings.pop("lr_factor", 1.0)

    n_layer, d_model, *heads = shape
    if heads and "n_head" in settings:
        raise UserError(f"n_head: the shape {shape} names its heads as well; leave one out")
    fields_: dict[str, Any] = settings | {"n_layer": n_layer, "d_model": d_model, "tokens": tokens_id}
    fields_["n_vocab"] = config["data"]["vocabulary"]
    fields_.setdefault("n_head", heads[0] if heads else _heads(d_model, head_width))
    fields_.setdefault("d_ff", max(1, round(d_ff_ratio * d_model)))
    if batch_tokens is not None:
        n_ctx = fields_.get("n_ctx", Run.n_ctx)
        if batch_tokens < n_ctx:
            raise UserError(f"batch_tokens: {batch_tokens:g} is less than one sequence, n_ctx {n_ctx}")
        fields_["batch_sequences"] = round(batch_tokens / n_ctx)

    any_length = {"n_steps": 2, "warmup_steps": 0, "cooldown": 0.0, "n_unique_tokens": None, "patience": 0}
    probe = Run(**fields_ | any_length | {"lr": 0.0})
    n_params = count(probe).n_params
    if "n_steps" not in fields_:
        length = _length(tokens, n_params)
        fields_["n_steps"] = _steps(length, probe, f"tokens: {length:,.0f} training tokens are")
    elif fields_["n_steps"] < 2:
        raise UserError(f"n_steps: {fields_['n_steps']} is below 2: at the last step most schedules have the rate 0")
    if epochs and fields_.get("n_unique_tokens"):
        said = f"epochs: {epochs:g} of n_unique_tokens {fields_['n_unique_tokens']:,.0f} are"
        fields_["n_steps"] = min(fields_["n_steps"], _steps(epochs * fields_["n_unique_tokens"], probe, said))
    if warmup is not None:
        fields_["warmup_steps"] = min(fields_["n_steps"] - 1, math.ceil(warmup * fields_["n_steps"]))
    if lr is None:
        fields_["lr"] = float(f"{lr_factor * peak_rate(config['learning_rate'], n_params):.4g}")
    else:
        fields_["lr"] = float(f"{lr_factor * lr:.12g}")
    fields_.setdefault("lr_hidden", hidden_part(config["learning_rate"], d_model))
    return Member(Run(**fields_), label, [n_layer, d_model] not in [list(s[:2]) for s in shown_only])


def _length(tokens: float | Mapping[str, float] | None, n_params: int) -> float:
    """Return the training tokens of a model."""
    if tokens is None:
        raise UserError("tokens or n_steps is missing: how long a run trains")
    if not isinstance(tokens, Mapping):
        return tokens
    if tokens["least"] > tokens["most"]:
        raise UserError(f"tokens: least {tokens['least']:g} is above most {tokens['most']:g}")
    return min(tokens["most"], max(tokens["least"], tokens["per_param"] * n_params))


def _steps(tokens: float, run: Run, said: str) -> int:
    """Return the steps that take so many tokens; `said` begins the line that refuses too few."""
    if tokens < 2 * run.batch_tokens:
        raise UserError(
            f"{said} less than two batches of {run.batch_tokens:,}, which batch_sequences {run.batch_sequences} and "
            f"n_ctx {run.n_ctx} give"
        )
    return math.ceil(tokens / run.batch_tokens)


def _heads(d_model: int, head_width: float) -> int:
    """Return the divisor of d_model whose heads come nearest to `head_width` (by ratio)."""
    divisors = [n for n in range(1, d_model + 1) if d_model % n == 0]
    return min(divisors, key=lambda n: abs(math.log(d_model / n / head_width)))
