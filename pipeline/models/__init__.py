"""The families of models: one module each, with all that is known of it.

A family's module has its weights with their first values, its counts (Table 1), its forward pass in torch, and which
engines know it (`Family`). `FAMILIES` is the list of those modules; whoever does not know a family refuses it. A new
family is a module and its place in that list.

Standard library only when imported, since runs are planned with these modules: a forward pass imports torch when it is
called.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Protocol

from pipeline.errors import UserError
from pipeline.models import lstm, recurrent, transformer
from pipeline.models.weights import Layout, Shape, Weight

if TYPE_CHECKING:
    from torch import Tensor


class Family(Protocol):
    """What the module of a family has."""

    NAME: str
    """As a run says it."""
    LEAST_LAYERS: int
    """Fewest layers that a model of it may have."""
    REUSES: bool
    """Whether its stack of layers may be applied more than once."""
    KERNEL: int | None
    """What the native engine's kernel knows it by; None if it does not."""
    RECOMPUTES: bool
    """Whether `hidden` can make activations again in the backward pass."""
    SHARDS: bool
    """Whether its blocks can be spread over several cards."""
    AUTOCAST_ON_CARD: bool
    """Whether torch's autocast to bfloat16 does on a card what it says."""

    weights: Callable[[Shape], list[Weight]]
    """All weights of a model in the order of the flat vector."""
    n_params: Callable[[Shape], int]
    """N: parameters without embeddings, norms and biases, each shared weight once (Eq 2.1)."""
    n_params_embedding: Callable[[Shape], int]
    """Parameters of token and position embeddings."""
    context_flops: Callable[[Shape], int]
    """FLOP a token of attention over the context in a forward pass (Eq 2.2)."""
    kept_bytes: Callable[[Shape, int], int]
    """Bytes a token that one layer keeps for its backward pass, with numbers of so many bytes."""
    engines: Callable[[Shape], tuple[str, ...]]
    """Names of the engines that can train a run of this family, by what the family asks of them."""
    hidden: Callable[..., Tensor]
    """The forward pass, up to the norm before the de-embedding: see `transformer.hidden`."""


FAMILIES: dict[str, Family] = {module.NAME: module for module in (transformer, recurrent, lstm)}
"""Name -> module."""


def family(name: str) -> Family:
    """Return the module of a family.

    Raises
    ------
    UserError
        When there is none of that name.

    Examples
    --------
    >>> family("mamba")
    Traceback (most recent call last):
    ...
    pipeline.errors.UserError: family: 'mamba' is not one of transformer, recurrent, lstm
    """
    if name not in FAMILIES:
        raise UserError(f"family: {name!r} is not one of {', '.join(FAMILIES)}")
    return FAMILIES[name]


def weights(shape: Shape) -> list[Weight]:
    """Return all weights of a model in the order of the flat vector.

    Their matrices are the N and the embeddings that the family counts (depth embeddings are not in Table 1).
    """
    kind = family(shape.family)
    found = kind.weights(shape)
    sizes = {role: sum(prod(one.shape) for one in found if one.role == role) for role in ("embedding", "matrix")}
    assert sizes == {"embedding": kind.n_params_embedding(shape), "matrix": kind.n_params(shape)}, (shape, sizes)
    return found


def parameters(shape: Shape) -> Layout:
    """Return the name and shape of every weight of a model, in the order of the flat vector.

    Examples
    --------
    >>> from pipeline.plan.run import Run
    >>> run = Run(tokens="t", family="lstm", n_layer=1, d_model=8, n_vocab=64, n_steps=1, lr=0.01)
    >>> [name for name, _ in parameters(run)]
    ['embedding', 'lstm.0.input', 'lstm.0.recurrent', 'lstm.0.bias', 'norm.gain', 'norm.bias']
    """
    return [(one.name, one.shape) for one in weights(shape)]
