"""The models: names, shapes and first values of their weights, and in torch one reading each.

`layout` holds those of the Transformers, as one flat vector that the native engine shares; this file adds the LSTM's,
and asserts for every model that the weights are those that `pipeline.plan.counts` counts. No torch here.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from pipeline.models import layout
from pipeline.plan.counts import count
from pipeline.plan.run import Run

Layout = list[tuple[str, tuple[int, ...]]]


def parameters(run: Run) -> Layout:
    """Return the name and shape of every weight of the run's model, in the order of the flat vector.

    Examples
    --------
    >>> run = Run(tokens="t", family="lstm", n_layer=1, d_model=8, n_vocab=64, n_steps=1, lr=0.01)
    >>> [name for name, _ in parameters(run)]
    ['embedding', 'lstm.0.input', 'lstm.0.recurrent', 'lstm.0.bias', 'norm.gain', 'norm.bias']
    """
    names = _lstm(run) if run.family == "lstm" else layout.layout(run)
    _assert_counts(run, names)
    return names


def _lstm(run: Run) -> Layout:
    """Four gates a layer (input, forget, cell, output), each with an input and a recurrent d x d matrix and a bias."""
    d = run.d_model
    names: Layout = [("embedding", (run.n_vocab, d))]
    for layer in range(run.n_layer):
        names += [
            (f"lstm.{layer}.input", (d, 4 * d)),
            (f"lstm.{layer}.recurrent", (d, 4 * d)),
            (f"lstm.{layer}.bias", (4 * d,)),
        ]
    return [*names, ("norm.gain", (d,)), ("norm.bias", (d,))]


def _assert_counts(run: Run, names: Layout) -> None:
    """The matrices of the model are the N and the embeddings of Table 1 (depth embeddings are not in the table)."""
    counts = count(run)
    matrices = {name: math.prod(size) for name, size in names if len(size) == 2 and name != "depth"}
    embeddings = sum(size for name, size in matrices.items() if name in ("embedding", "position"))
    assert embeddings == counts.n_params_embedding, (embeddings, counts)
    assert sum(matrices.values()) - embeddings == counts.n_params, (matrices, counts)


def initial(run: Run) -> np.ndarray:
    """Return the flat vector of the first weights, float32, a function of the run's shape, seed and embedding_std.

    Both matrices of an LSTM layer feed one sum, so their standard deviation is (2 d_model)^-1/2. The forget gate's bias
    starts at 1: a cell that forgets half of its state each token learns nothing long.
    """
    if run.family != "lstm":
        return layout.initial(run, run.seed, embedding_std=run.embedding_std, position_sinusoids=run.position_sinusoids)
    parts = []
    for name, size in parameters(run):
        kind = name.rpartition(".")[2]
        if len(size) == 2:
            std = run.embedding_std if kind == "embedding" else (2 * run.d_model) ** -0.5
            parts.append(std * _stream(run.seed, name).standard_normal(size, dtype=np.float32))
        elif name.startswith("lstm"):
            parts.append(np.repeat(np.float32([0, 1, 0, 0]), run.d_model))
        else:
            parts.append(np.full(size, kind == "gain", np.float32))
    return np.concatenate([part.ravel().astype(np.float32) for part in parts])


def _stream(seed: int, name: str) -> np.random.Generator:
    """Return the random stream of one tensor, as `layout.initial` names it."""
    key = hashlib.sha256(f"initial:{seed}:{name}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def split(flat: np.ndarray, run: Run) -> dict[str, np.ndarray]:
    """Return the weights of a flat vector by name, as views of it."""
    sizes = dict(parameters(run))
    stops = np.cumsum([math.prod(size) for size in sizes.values()])[:-1]
    return {name: part.reshape(size) for (name, size), part in zip(sizes.items(), np.split(flat, stops), strict=True)}
