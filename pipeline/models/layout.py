"""The parameters of a decoder-only Transformer as one flat float32 vector.

Every engine (the C++ kernel, the torch models) reads the same vector in the same order, so that a state saved by
one can be loaded by another and their results compared number by number.
"""

from __future__ import annotations

import hashlib
import math
from typing import Protocol

import numpy as np


class Shape(Protocol):
    """What the layout needs to know of a run. All are integers."""

    n_layer: int
    """Number of blocks, 0 or more."""
    d_model: int
    """Width of the residual stream."""
    n_head: int
    """Number of attention heads; divides `d_model`."""
    d_ff: int
    """Width of the feed-forward layer."""
    n_ctx: int
    """Context length in tokens."""
    n_vocab: int
    """Vocabulary size, at most 65,536."""
    n_reuse: int
    """How often the stack of blocks is applied, 1 or more (recurrent Transformer)."""


def layout(shape: Shape) -> list[tuple[str, tuple[int, ...]]]:
    """Return the name and shape of every parameter in the order of the flat vector.

    Linear weights are (inputs, outputs) matrices: y = x @ W. The columns of 'qkv' are [q | k | v], and head h owns
    columns h d_head to (h + 1) d_head of each. The de-embedding is the embedding transposed.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> tiny = SimpleNamespace(n_layer=1, d_model=8, n_head=2, d_ff=32, n_ctx=16, n_vocab=50, n_reuse=1)
    >>> [name for name, _ in layout(tiny)][:4]
    ['embedding', 'position', 'block.0.norm1.gain', 'block.0.norm1.bias']
    >>> n_parameters(tiny) - 66 * 8 - 6 * 8 == 12 * tiny.n_layer * tiny.d_model**2
    True
    """
    d, d_ff = shape.d_model, shape.d_ff
    names: list[tuple[str, tuple[int, ...]]] = [("embedding", (shape.n_vocab, d)), ("position", (shape.n_ctx, d))]
    if shape.n_reuse > 1:
        names.append(("depth", (shape.n_reuse, d)))
    for block in range(shape.n_layer):
        names += [
            (f"block.{block}.norm1.gain", (d,)),
            (f"block.{block}.norm1.bias", (d,)),
            (f"block.{block}.qkv", (d, 3 * d)),
            (f"block.{block}.out", (d, d)),
            (f"block.{block}.norm2.gain", (d,)),
            (f"block.{block}.norm2.bias", (d,)),
            (f"block.{block}.up", (d, d_ff)),
            (f"block.{block}.down", (d_ff, d)),
        ]
    return [*names, ("norm.gain", (d,)), ("norm.bias", (d,))]


def n_parameters(shape: Shape) -> int:
    """Return the length of the flat vector: every parameter, embeddings and norms included."""
    return sum(math.prod(size) for _, size in layout(shape))


def views(flat: np.ndarray, shape: Shape) -> dict[str, np.ndarray]:
    """Return each parameter of the flat vector (numpy or torch) by name, without a copy."""
    parts, start = {}, 0
    for name, size in layout(shape):
        stop = start + math.prod(size)
        parts[name] = flat[start:stop].reshape(size)
        start = stop
    return parts


def sinusoids(n_ctx: int, d_model: int, size: float) -> np.ndarray:
    """Return the position embeddings of Vaswani et al. 2017 (section 3.5), scaled to a root mean square of `size`.

    Attention to a fixed number of tokens back is a rotation of them, so a model that starts from them finds it early.

    Examples
    --------
    >>> rows = sinusoids(8, 4, 0.2)
    >>> rows.shape, round(float((rows**2).mean() ** 0.5), 3), [round(float(x), 3) for x in rows[0]]
    ((8, 4), 0.2, [0.0, 0.283, 0.0, 0.283])
    """
    i = np.arange(d_model)
    angles = np.arange(n_ctx)[:, None] / 10_000.0 ** (2 * (i // 2) / d_model)
    return (math.sqrt(2) * size * np.where(i % 2, np.cos(angles), np.sin(angles))).astype(np.float32)


def initial(shape: Shape, seed: int, *, embedding_std: float = 0.1, position_sinusoids: float = 0.0) -> np.ndarray:
    """Draw the initial parameters.

    Hidden weights are normal with standard deviation 1/sqrt(inputs); the outputs of the two residual branches
    ('out', 'down') are divided further by sqrt(2 n_layer n_reuse), so that the residual stream keeps its size with
    depth. Norms start at gain 1 and bias 0.

    Parameters
    ----------
    shape : Shape
        The model.
    seed : int
        Each tensor has a random stream of its own, named by the seed and the tensor: adding a block moves no other
        block's draw.
    embedding_std : float
        Standard deviation of the embedding: 0.02 in GPT-2; 0.1 trains small models much faster.
    position_sinusoids : float
        Position embeddings start as `sinusoids` of this size; at 0 they are drawn as the other embeddings are.

    Returns
    -------
    ndarray of shape (n_parameters,), float32
        In the order of `layout`.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> tiny = SimpleNamespace(n_layer=2, d_model=64, n_head=2, d_ff=256, n_ctx=16, n_vocab=50, n_reuse=1)
    >>> parameters = views(initial(tiny, seed=0), tiny)
    >>> round(float(parameters["block.1.qkv"].std() * 64**0.5), 1), round(float(parameters["embedding"].std()), 1)
    (1.0, 0.1)
    """
    residual = 1 / math.sqrt(max(2 * shape.n_layer * shape.n_reuse, 1))
    flat = np.empty(n_parameters(shape), dtype=np.float32)
    for name, part in views(flat, shape).items():
        kind = name.rsplit(".", 1)[-1]
        if kind in ("gain", "bias"):
            part[...] = 1.0 if kind == "gain" else 0.0
            continue
        if kind == "position" and position_sinusoids:
            part[...] = sinusoids(*part.shape, position_sinusoids)
            continue
        if kind in ("embedding", "position", "depth"):
            std = embedding_std
        else:
            std = (residual if kind in ("out", "down") else 1.0) / math.sqrt(part.shape[0])
        key = hashlib.sha256(f"initial:{seed}:{name}".encode()).digest()[:16]
        stream = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
        part[...] = stream.standard_normal(part.shape, dtype=np.float32) * np.float32(std)
    return flat
