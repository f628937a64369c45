"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.files import write_json

TINY_VOCABULARY = 64


def markov_text(n_tokens: int, seed: int) -> np.ndarray:
    """Return tokens of a fixed first-order Markov chain: from each token to one of 4 others, with unequal odds."""
    chain = np.random.default_rng(0)
    followers = np.array([chain.choice(TINY_VOCABULARY, size=4, replace=False) for _ in range(TINY_VOCABULARY)])
    choices = np.random.default_rng(seed).choice(4, size=n_tokens, p=[0.6, 0.2, 0.15, 0.05])
    tokens = np.empty(n_tokens, dtype="<u2")
    token = 0
    for place, choice in enumerate(choices):
        token = tokens[place] = followers[token, choice]
    return tokens


@pytest.fixture(scope="session")
def tiny_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of token files as `pipeline.tokens` writes them: synthetic text with a vocabulary of 64."""
    folder = tmp_path_factory.mktemp("tokens") / "tiny-0000000000"
    folder.mkdir()
    sizes = {"train": 60_000, "test": 6_000, "transfer-other": 3_000}
    for seed, (name, size) in enumerate(sizes.items()):
        markov_text(size, seed).tofile(folder / f"{name}.bin")
    meta = {"vocabulary": TINY_VOCABULARY}
    meta |= {name: {"file": f"{name}.bin", "tokens": sizes[name]} for name in ("train", "test")}
    meta["transfer"] = {"other": {"file": "transfer-other.bin", "tokens": sizes["transfer-other"]}}
    write_json(folder / "meta.json", meta)
    return folder
