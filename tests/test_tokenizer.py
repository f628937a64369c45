"""Tokenizers: lossless, deterministic, of the size that was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from pipeline.corpora.__main__ import build_corpus
from pipeline.errors import UserError
from pipeline.hashing import text_hash
from pipeline.tokens.tokenizer import END_OF_TEXT, main, order_keys, train_tokenizer, training_texts

TEXTS = ["The quick brown fox jumps over the lazy dog. " * 3, "Pack my box with five dozen liquor jugs.\n\n" * 3]
ANY_TEXT = "naïve\u00a0\ttabs, \r\n中文 🦊 e\u0301, two  spaces, <|endoftext|> and \x00"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a corpus of 400 documents."""
    tmp_path = tmp_path_factory.mktemp("corpus")
    rows = "\n".join(json.dumps({"text": f"{TEXTS[number % 2]} Number {number}."}) for number in range(400))
    (tmp_path / "in.jsonl").write_text(rows)
    source = {"kind": "files", "path": str(tmp_path / "in.jsonl"), "field": "text", "licence": "MIT", "origin": "x"}
    build_corpus("x", {"sources": [source], "deduplicate": "nothing"}, tmp_path, tmp_path / "corpus" / "meta.json")
    return tmp_path / "corpus"


@pytest.mark.parametrize("vocabulary", [257, 300])
def test_bpe_is_lossless_on_any_text(vocabulary: int) -> None:
    tokenizer = train_tokenizer(TEXTS, vocabulary)
    assert tokenizer.get_vocab_size() == vocabulary
    assert tokenizer.decode(tokenizer.encode(ANY_TEXT).ids) == ANY_TEXT
    assert tokenizer.token_to_id(END_OF_TEXT) == 0
    assert 0 not in tokenizer.encode(ANY_TEXT).ids  # the text says "<|endoftext|>", it does not end there


def test_257_entries_are_bytes() -> None:
    tokenizer = train_tokenizer(TEXTS, 257)
    assert len(tokenizer.encode(ANY_TEXT).ids) == len(ANY_TEXT.encode())


def test_more_entries_give_fewer_tokens() -> None:
    lengths = [len(train_tokenizer(TEXTS, vocabulary).encode(TEXTS[0]).ids) for vocabulary in (257, 280, 300)]
    assert lengths[0] > lengths[1] > lengths[2]


def test_characters_are_tokens() -> None:
    tokenizer = train_tokenizer(["ab ba", "ca"], vocabulary=5, kind="characters")
    assert tokenizer.get_vocab() == {END_OF_TEXT: 0, " ": 1, "a": 2, "b": 3, "c": 4}
    assert tokenizer.encode("abc ca").ids == [2, 3, 4, 1, 4, 2]
    assert tokenizer.decode([2, 3, 4, 1, 4, 2]) == "abc ca"


@pytest.mark.parametrize(
    ("vocabulary", "kind", "message"),
    [
        (256, "bpe", "data.vocabulary: 256 is less than 257"),
        (65_537, "bpe", "data.vocabulary: 65537 is more than 65536"),
        (5000, "bpe", r"data.vocabulary: the training text is too small for 5000 entries; it gives \d+"),
        (9, "characters", "data.vocabulary: 9 must be 32, the characters of the training text"),
        (300, "words", "data.tokenizer: 'words' is not one of bpe, characters"),
    ],
)
def test_impossible_vocabularies(vocabulary: int, kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_tokenizer(TEXTS, vocabulary, kind)


def test_order_keys_are_uniform_and_change_with_the_seed() -> None:
    hashes = np.array([text_hash(str(number)) for number in range(10_000)], dtype=np.uint64)
    first, second = order_keys(hashes, 0), order_keys(hashes, 1)
    for keys in (first, second):
        assert 0 <= keys.min() < keys.max() < 1
        assert np.abs(np.sort(keys) - np.linspace(0, 1, 10_000)).max() < 0.02  # Kolmogorov-Smirnov, p about 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.04


def test_tokenizer_sees_a_sample_of_training_documents_only(folder: Path) -> None:
    everything = set(training_texts([folder], {"tokenizer_bytes": 10**9, "test_fraction": 0.0, "seed": 0}))
    training = set(training_texts([folder], {"tokenizer_bytes": 10**9, "test_fraction": 0.25, "seed": 0}))
    sample = set(training_texts([folder], {"tokenizer_bytes": 15_000, "test_fraction": 0.25, "seed": 0}))
    assert len(everything) == 400
    assert 260 < len(training) < 340
    assert sample < training < everything
    assert sum(map(len, sample)) == pytest.approx(0.75 * 15_000, rel=0.25)


def test_same_tokenizer_for_any_number_of_threads(folder: Path, tmp_path: Path) -> None:
    spec = {"tokenizer": "bpe", "vocabulary": 320, "tokenizer_bytes": 1e6, "test_fraction": 0.1, "seed": 0}
    files = []
    for threads in ("1", "3"):
        files.append(tmp_path / f"{threads}.json")
        command = [sys.executable, "-m", "pipeline.tokens.tokenizer", "--documents", f"x={folder}"]
        command += ["--spec", json.dumps(spec), "--output", str(files[-1])]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "RAYON_NUM_THREADS": threads})
    assert files[0].read_bytes() == files[1].read_bytes()
    assert Tokenizer.from_file(str(files[0])).get_vocab_size() == 320


def test_command_says_in_one_line_what_is_wrong(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = {"tokenizer": "bpe", "vocabulary": 50_257, "tokenizer_bytes": 1e6, "test_fraction": 0.1, "seed": 0}
    output = tmp_path / "tokenizer.json"
    assert main(["--documents", f"x={folder}", "--spec", json.dumps(spec), "--output", str(output)]) == 2
    assert capsys.readouterr().err.startswith("error: data.vocabulary: the training text is too small for 50257")
    assert not output.exists()
