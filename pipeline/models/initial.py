"""The first values of a model's weights as one flat float32 vector.

Every engine (the C++ kernel, the torch models) reads the same vector in the same order, so that a state saved by
one can be loaded by another and their results compared number by number.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

from pipeline.models import parameters, weights
from pipeline.models.weights import Constant, Normal, Sinusoids, Weight

if TYPE_CHECKING:
    from pipeline.plan.run import Run


def initial(run: Run) -> np.ndarray:
    """Return the flat vector of the first weights, float32: a function of the run's shape and seed.

    Each tensor has a random stream of its own, named by the seed and the tensor: adding a layer moves no other layer's
    draw.

    Examples
    --------
    >>> from pipeline.plan.run import Run
    >>> run = Run(tokens="t", n_layer=2, d_model=64, n_head=2, n_vocab=50, n_ctx=16, n_steps=1, lr=0.01)
    >>> first = split(initial(run), run)
    >>> round(float(first["block.1.qkv"].std() * 64**0.5), 1), round(float(first["embedding"].std()), 1)
    (1.0, 0.1)
    """
    return np.concatenate([_first(weight, run.seed).ravel() for weight in weights(run)])


def _first(weight: Weight, seed: int) -> np.ndarray:
    """Return the first values of a weight, float32."""
    match weight.first:
        case Normal(std):
            key = hashlib.sha256(f"initial:{seed}:{weight.name}".encode()).digest()[:16]
            stream = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
            return stream.standard_normal(weight.shape, dtype=np.float32) * np.float32(std)
        case Sinusoids(size):
            return sinusoids(*weight.shape, size)
        case Constant(values):
            return np.repeat(np.float32(values), math.prod(weight.shape) // len(values))
    raise AssertionError(weight)


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


def split(flat: np.ndarray, run: Run) -> dict[str, np.ndarray]:
    """Return the weights of a flat vector (numpy or torch) by name, as views of it."""
    parts, start = {}, 0
    for name, size in parameters(run):
        stop = start + math.prod(size)
        parts[name] = flat[start:stop].reshape(size)
        start = stop
    return parts
