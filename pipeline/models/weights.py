"""What a family says of a weight: its name, its shape, and what it starts from. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

Layout = list[tuple[str, tuple[int, ...]]]
"""Names and shapes in the order of the flat vector."""


class Shape(Protocol):
    """What a family needs to know of a run: the shape of its model, what its embeddings start from, and dropout."""

    family: str
    n_layer: int
    """Layers."""
    d_model: int
    """Width of the residual stream."""
    n_head: int
    """Attention heads; divides `d_model`."""
    d_ff: int
    """Width of the feed-forward layer."""
    n_ctx: int
    """Context length in tokens."""
    n_vocab: int
    """Vocabulary size."""
    n_reuse: int
    """How often the stack of layers is applied, 1 or more."""
    embedding_std: float
    """Standard deviation of the first embeddings."""
    position_sinusoids: float
    """Root mean square of the sinusoids that positions start from; 0 is none."""
    dropout: float


@dataclass(frozen=True)
class Normal:
    """Independent normal numbers of this standard deviation."""

    std: float


@dataclass(frozen=True)
class Constant:
    """These values, each for an equal part of the weight, one after the other."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class Sinusoids:
    """The position embeddings of Vaswani et al. 2017, scaled to this root mean square."""

    size: float


@dataclass(frozen=True)
class Weight:
    """A weight of a model.

    `role` is embedding (of tokens and positions), depth (of the passes of a recurrent model), matrix (a hidden matrix:
    what Table 1 counts as N, and what has a learning rate of its own, `lr_hidden`) or vector (gains and biases, which
    are not counted).
    """

    name: str
    shape: tuple[int, ...]
    first: Normal | Constant | Sinusoids
    role: str


def embedding(name: str, rows: int, shape: Shape, role: str = "embedding") -> Weight:
    """Return an embedding of `rows` things."""
    return Weight(name, (rows, shape.d_model), Normal(shape.embedding_std), role)


def norm(name: str, width: int) -> list[Weight]:
    """Return the gain and the bias of a layer norm."""
    return [
        Weight(f"{name}.gain", (width,), Constant((1.0,)), "vector"),
        Weight(f"{name}.bias", (width,), Constant((0.0,)), "vector"),
    ]
