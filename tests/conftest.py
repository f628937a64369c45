"""Fixtures that several test files share."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.files import write_json
from pipeline.plan.run import Run

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


@pytest.fixture
def tiny_run(tiny_tokens: Path) -> Callable[..., Run]:
    """A function that makes a run on `tiny_tokens`, with some fields changed."""

    def make(**fields: object) -> Run:
        shape = {"n_layer": 1, "d_model": 16, "n_head": 2, "n_vocab": TINY_VOCABULARY, "n_ctx": 16}
        training = {"n_steps": 60, "lr": 0.01, "batch_sequences": 4, "warmup_steps": 5, "test_tokens": 512}
        return Run(**{"tokens": tiny_tokens.name, "evaluations": 10} | shape | training | fields)

    return make


@pytest.fixture
def train(tiny_tokens: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that trains a run in this process, on one CPU, and returns the folder of its files."""
    from pipeline.train.__main__ import main

    def run_it(run: Run, *options: str, folder: str = "run", code: int = 0) -> Path:
        output = tmp_path / folder / "curve.parquet"
        arguments = ["--run", run.to_json(), "--tokens", str(tiny_tokens), "--output", str(output)]
        arguments += ["--scratch", str(tmp_path / "scratch" / folder), "--device", "cpu", *options]
        assert main(arguments) == code
        return output.parent

    return run_it


@pytest.fixture
def no_room_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """A function that lets the disk be full when a file of a name comes to it, and for None has room again."""
    full: str | None = None

    def opened(path: Path, mode: str) -> object:
        if full and path.name.startswith(f".{Path(full).stem}.") and path.suffix == Path(full).suffix:
            raise OSError(errno.ENOSPC, "No space left on device")
        return open(path, mode)

    def fill(name: str | None) -> None:
        nonlocal full
        full = name

    monkeypatch.setattr("pipeline.files.open", opened, raising=False)
    return fill
