"""A run: one training of one model, described completely by what can change its result.

A run's id is its address in the cache. It is a readable slug and a hash of the fields that differ from their
defaults, so that a new field whose default keeps the old behaviour moves no id. What can't change the result
(device, threads, compiler, folder names, the sweeps and figures that want the run) is never part of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import Any

from pipeline.errors import UserError
from pipeline.models import FAMILIES, family

SCHEDULES = ("cosine", "linear", "constant", "inverse_sqrt", "cosine_cycles", "step", "wsd")
OPTIMIZERS = ("adamw", "adafactor")
PRECISIONS = ("float32", "bfloat16")
RECIPE = 1
"""Raised by hand when training computes something else than before (tests/test_golden_curves.py): all ids move."""


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_id(name: str, spec: Any) -> str:
    """Return `name` and a 10-digit hash of the canonical JSON of `spec`.

    Examples
    --------
    >>> content_id("news", {"kind": "files"})
    'news-db064f1139'
    """
    return f"{name}-{hashlib.sha256(canonical_json(spec).encode()).hexdigest()[:10]}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run. Every field can change the result; nothing else can.

    Raises
    ------
    UserError
        When a field is out of range, or fields contradict each other; it names the field.

    Examples
    --------
    >>> run = Run(tokens="laptop-0123456789", n_layer=2, d_model=64, n_head=2, n_vocab=512, n_steps=100, lr=0.01)
    >>> run.d_ff, run.batch_tokens
    (256, 2048)
    >>> Run.from_json(run.to_json()) == run
    True
    """

    tokens: str
    """Id of the token files, results/tokens/<id>."""
    family: str = "transformer"
    """transformer, recurrent (a transformer whose stack is applied `n_reuse` times) or lstm."""
    n_layer: int
    """Layers; 0 is allowed for a transformer: embedding, final norm and de-embedding."""
    d_model: int
    """Width of the residual stream, or hidden size of an LSTM."""
    n_head: int = 1
    """Attention heads, a divisor of d_model."""
    d_ff: int = 0
    """Width of the feed-forward layer; 0 stands for 4 d_model."""
    n_ctx: int = 128
    """Context length in tokens."""
    n_vocab: int
    """Entries of the tokenizer."""
    n_reuse: int = 1
    """How often the stack of layers is applied, 1 but for recurrent models."""
    embedding_std: float = 0.1
    """Standard deviation of the initial token and position embeddings."""
    position_sinusoids: float = 0.0
    """Root mean square of the sinusoids that the position embeddings start from; 0 is none: random ones."""
    batch_sequences: int = 16
    """Sequences in a batch; a batch has batch_sequences x n_ctx tokens."""
    n_steps: int
    """Optimizer steps at most (early stopping may end a run before)."""
    n_unique_tokens: int | None = None
    """Tokens of the training set that are used, from its start; None is all of them."""
    optimizer: str = "adamw"
    """adamw or adafactor."""
    lr: float
    """Peak learning rate."""
    lr_hidden: float = 1.0
    """Learning rate of the hidden matrices (attention, feed-forward, an LSTM's gates) as a part of that of all other
    weights (embeddings, norms, biases), which is the schedule's."""
    schedule: str = "cosine"
    """Shape of the learning rate after warmup: see `pipeline.train.optim`."""
    warmup_steps: int = 0
    """Steps of linear warmup."""
    lr_final: float = 0.0
    """Floor of the learning rate as a part of the peak: where cosine and linear end."""
    cooldown: float = 0.2
    """Part of the steps in which the rate of schedule wsd falls at the end; other schedules keep the default."""
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Decoupled weight decay of the matrices, per step times the learning rate."""
    clip: float = 1.0
    """Largest global norm of the gradient; 0 is no clipping."""
    dropout: float = 0.0
    """Dropout of the embedding and of the output of each residual branch."""
    seed: int = 0
    """Seed of the named random streams: weights, data order, dropout."""
    precision: str = "float32"
    """float32, or bfloat16 compute with float32 weights and statistics."""
    test_tokens: int = 131_072
    """Tokens of the fixed test set on which the curve's loss is measured."""
    evaluations: int = 40
    """Evaluations, log-spaced in steps from the first to the last (wsd: see `pipeline.plan.steps`)."""
    evaluate_every: int = 0
    """Evaluate also every so many steps; 0 is never. Early stopping needs it."""
    patience: int = 0
    """End the run after so many regular evaluations without a new lowest test loss; 0 is no early stopping."""
    snapshots: int = 0
    """Log-spaced steps whose weights are kept besides the final ones."""
    noise: bool = False
    """Measure the gradient noise scale, in every step; a row of the curve holds the mean since the last one."""
    recipe: int = RECIPE
    """What the trainer's fields mean; see `RECIPE`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            self._cast(field.name, field.type)
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        if self.schedule != "wsd":
            object.__setattr__(self, "cooldown", Run.cooldown)
        self._check()

    def _cast(self, name: str, kind: Any) -> None:
        """Give a number its field's type: YAML and JSON may say 10.0 where 10 is meant."""
        value = getattr(self, name)
        wanted = {"int": int, "int | None": int, "float": float, "bool": bool, "str": str}[str(kind)]
        if value is None and "None" in str(kind):
            return
        if wanted in (int, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
            if wanted is int and value != int(value):
                raise UserError(f"{name}: {value} is not a whole number")
            value = wanted(value)
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise UserError(f"{name}: {value!r} is not of type {wanted.__name__}")
        object.__setattr__(self, name, value)

    def _check(self) -> None:
        for name, allowed in (
            ("family", FAMILIES),
            ("schedule", SCHEDULES),
            ("optimizer", OPTIMIZERS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        for name, least in (
            ("n_layer", 0),
            ("d_model", 1),
            ("n_head", 1),
            ("d_ff", 1),
            ("n_ctx", 1),
            ("n_vocab", 2),
            ("n_reuse", 1),
            ("batch_sequences", 1),
            ("n_steps", 1),
            ("warmup_steps", 0),
            ("test_tokens", 1),
            ("evaluations", 2),
            ("evaluate_every", 0),
            ("patience", 0),
            ("snapshots", 0),
            ("recipe", 1),
        ):
            if getattr(self, name) < least:
                raise UserError(f"{name}: {getattr(self, name)} is below {least}")
        for name, low, high in (
            ("lr", 0.0, 10.0),
            ("lr_hidden", 0.0, 1e5),
            ("lr_final", 0.0, 1.0),
            ("cooldown", 0.0, 0.9999),
            ("dropout", 0.0, 0.9),
            ("beta1", 0.0, 0.9999),
            ("beta2", 0.0, 0.99999),
            ("clip", 0.0, 1e9),
            ("weight_decay", 0.0, 1e3),
            ("embedding_std", 1e-6, 10.0),
            ("position_sinusoids", 0.0, 10.0),
        ):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name}: {getattr(self, name)} is outside {low} to {high}")
        if self.d_model % self.n_head:
            raise UserError(f"n_head: {self.n_head} does not divide d_model {self.d_model}")
        if self.n_vocab > 65_536:
            raise UserError(f"n_vocab: {self.n_vocab} is above 65536, the most that a 16-bit token file holds")
        kind = family(self.family)
        if self.n_reuse > 1 and not kind.REUSES:
            allowed = " or ".join(name for name, other in FAMILIES.items() if other.REUSES)
            raise UserError(f"n_reuse: {self.n_reuse} needs family {allowed}, not {self.family}")
        if self.n_layer < kind.LEAST_LAYERS:
            raise UserError(f"n_layer: {self.n_layer} is below {kind.LEAST_LAYERS}, the least of family {self.family}")
        if self.warmup_steps >= self.n_steps:
            raise UserError(f"warmup_steps: {self.warmup_steps} is not below n_steps {self.n_steps}")
        if self.schedule == "wsd" and self.warmup_steps >= self.branch_point:
            raise UserError(
                f"cooldown: {self.cooldown} of {self.n_steps} steps begins after step {self.branch_point}, not after "
                f"the warmup, warmup_steps {self.warmup_steps}"
            )
        if self.patience and not self.evaluate_every:
            raise UserError("patience: early stopping needs evaluate_every above 0")
        if self.n_unique_tokens is not None and self.n_unique_tokens <= self.n_ctx:
            raise UserError(f"n_unique_tokens: {self.n_unique_tokens} is not above n_ctx {self.n_ctx}")

    @property
    def batch_tokens(self) -> int:
        """Tokens in a batch (B)."""
        return self.batch_sequences * self.n_ctx

    @cached_property
    def branch_point(self) -> int:
        """The last step of a wsd run before its cooldown: to here it is its trunk (`pipeline.plan.trunk`); else 0.

        Examples
        --------
        >>> shape = {"tokens": "t", "n_layer": 1, "d_model": 8, "n_vocab": 64, "lr": 0.01}
        >>> [Run(n_steps=10, schedule="wsd", cooldown=part, **shape).branch_point for part in (0.2, 0.25, 0)]
        [8, 7, 10]
        """
        if self.schedule != "wsd":
            return 0
        return math.floor(self.n_steps * (1 - Fraction(str(self.cooldown))))  # the part as it is written: 0.1 is 1/10

    def differing(self) -> dict[str, Any]:
        """Return the fields without a default, and those that differ from it.

        The default of `recipe` is the first one, 1, for ever: to raise it is to move all ids.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)} | {"d_ff": 4 * self.d_model, "recipe": 1}
        return {name: value for name, value in values.items() if value != defaults[name]}

    def to_json(self) -> str:
        """Return the canonical JSON of the fields that differ from their defaults."""
        return canonical_json(self.differing())

    @classmethod
    def from_json(cls, text: str) -> Run:
        """Read what `to_json` wrote.

        Raises
        ------
        UserError
            When the text is not the JSON of a run, or its fields are wrong.
        """
        try:
            return cls(**{"recipe": 1} | json.loads(text))
        except (json.JSONDecodeError, TypeError) as error:
            raise UserError(f"run: not the JSON of a run ({error})") from error

    @property
    def id(self) -> str:
        """Slug and hash, for example transformer-2x64-b16-s4000-1f0c9a7e55."""
        return content_id(self._slug(f"-s{self.n_steps}"), self.differing())

    @property
    def trunk_id(self) -> str:
        """The id without the length, which a wsd run shares with those that branch off the same trunk."""
        fields = {name: value for name, value in self.differing().items() if name not in ("n_steps", "cooldown")}
        return content_id(self._slug(), fields)

    def _slug(self, length: str = "") -> str:
        reuse = f"x{self.n_reuse}" if self.n_reuse > 1 else ""
        unique = f"-d{self.n_unique_tokens}" if self.n_unique_tokens else ""
        return f"{self.family}-{self.n_layer}x{self.d_model}{reuse}-b{self.batch_sequences}{length}{unique}"
