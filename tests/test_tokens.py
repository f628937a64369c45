"""Token files: complete, mixed, split, resumed; and the windows that are read from them."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from pipeline.corpora import read_documents, read_meta
from pipeline.corpora.__main__ import build_corpus
from pipeline.corpora.synthetic import Language
from pipeline.errors import UserError
from pipeline.files import read_json, write_json
from pipeline.tokens import files as tokens_module
from pipeline.tokens.__main__ import main
from pipeline.tokens.files import tokenize
from pipeline.tokens.tokenizer import train_tokenizer, training_texts
from pipeline.tokens.windows import Windows, load_tokens, permute
from pipeline.tokens.windows import test_windows as fixed_windows

SPEC = {
    "tokenizer": "bpe",
    "vocabulary": 280,
    "tokenizer_bytes": 1e6,
    "test_fraction": 0.2,
    "transfer_tokens": 2000,
    "min_train_tokens": 1000,
    "min_test_tokens": 100,
    "seed": 3,
}


def make_corpus(folder: Path, name: str, texts: list[str], **options: int) -> Path:
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    source = {"kind": "files", "path": str(folder / f"{name}.jsonl"), "field": "text"}
    source |= {"licence": f"licence of {name}", "origin": f"origin of {name}"}
    build_corpus(name, {"sources": [source]}, folder, folder / name / "meta.json", **options)
    return folder / name


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return two training corpora, the first in several files, and one transfer corpus."""
    folder = tmp_path_factory.mktemp("corpora")
    letters = [f"Letter {n}: dear {'reader ' * (n % 7 + 1)}, yours {n * n}." for n in range(600)]
    numbers = [f"{n} plus {n} is {2 * n}; naïve <|endoftext|> {n}." for n in range(200)]
    poems = [f"Rose {n} is red, violet {n} is blue, café {n}." for n in range(400)]
    return {
        "letters": make_corpus(folder, "letters", letters, part_bytes=8000),
        "numbers": make_corpus(folder, "numbers", numbers),
        "poems": make_corpus(folder, "poems", poems),
    }


@pytest.fixture(scope="module")
def tokenizer(corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    folders = [corpora["letters"], corpora["numbers"]]
    train_tokenizer(training_texts(folders, SPEC), SPEC["vocabulary"]).save(str(path))
    return path


def run(corpora: dict[str, Path], tokenizer: Path, output: Path, **spec: object) -> dict:
    train = {name: corpora[name] for name in ("letters", "numbers")}
    transfer = {"poems": corpora["poems"]}
    return tokenize(tokenizer, train, transfer, {**SPEC, **spec}, output, output.parent / "scratch")


def documents_in(path: Path, tokenizer: Path) -> list[str]:
    """Return the texts of a token file, which must be documents that each end with <|endoftext|>."""
    tokens = load_tokens(path)
    assert tokens[-1] == 0
    ends = np.flatnonzero(np.asarray(tokens) == 0)
    reader = Tokenizer.from_file(str(tokenizer))
    return [reader.decode(part[:-1].tolist() if len(part) else []) for part in np.split(tokens, ends + 1)[:-1]]


def texts_of(folder: Path) -> list[str]:
    return [text for batch in read_documents(folder) for text in batch.column("text").to_pylist()]


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# Writing


def test_every_document_is_in_one_split_and_comes_back_exactly(
    corpora: dict[str, Path], tokenizer: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tokens" / "meta.json"
    meta = run(corpora, tokenizer, output)
    train = documents_in(output.parent / "train.bin", tokenizer)
    test = documents_in(output.parent / "test.bin", tokenizer)
    assert sorted(train + test) == sorted(texts_of(corpora["letters"]) + texts_of(corpora["numbers"]))
    assert len(test) == pytest.approx(0.2 * 800, abs=45)
    assert (meta["train"]["documents"], meta["test"]["documents"]) == (len(train), len(test))
    assert meta["train"]["bytes"] == sum(len(text.encode()) for text in train)
    assert meta["train"]["tokens"] == len(load_tokens(output.parent / "train.bin"))
    assert meta["train"]["bytes_per_token"] == meta["train"]["bytes"] / meta["train"]["tokens"]
    assert meta["train"]["corpora"]["numbers"]["documents"] == sum("plus" in text for text in train)
    assert meta["vocabulary"] == 280
    assert meta["entropy_rate"] is None
    assert meta["corpora"]["poems"]["sources"] == [
        {"kind": "files", "licence": "licence of poems", "origin": "origin of poems"}
    ]
    assert read_json(output) == meta
    assert not (output.parent / "scratch").exists()


def test_corpora_are_mixed_evenly(corpora: dict[str, Path], tokenizer: Path, tmp_path: Path) -> None:
    run(corpora, tokenizer, tmp_path / "tokens" / "meta.json")
    is_number = np.array(["plus" in text for text in documents_in(tmp_path / "tokens" / "train.bin", tokenizer)])
    share = is_number.mean()
    for quarter in np.array_split(is_number, 4):
        assert quarter.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(quarter)))


def test_transfer_set_is_a_capped_sample(corpora: dict[str, Path], tokenizer: Path, tmp_path: Path) -> None:
    output = tmp_path / "tokens" / "meta.json"
    whole = run(corpora, tokenizer, output, transfer_tokens=10**6)["transfer"]["poems"]
    poems = documents_in(output.parent / "transfer-poems.bin", tokenizer)
    assert sorted(poems) == sorted(texts_of(corpora["poems"]))
    again = tmp_path / "again" / "meta.json"
    capped = run(corpora, tokenizer, again, transfer_tokens=500)["transfer"]["poems"]
    assert 500 <= capped["tokens"] < 500 + 40 < whole["tokens"]
    assert documents_in(again.parent / "transfer-poems.bin", tokenizer) == poems[: capped["documents"]]


def test_merging_in_many_ranges_changes_nothing(
    corpora: dict[str, Path], tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(corpora, tokenizer, tmp_path / "tokens" / "meta.json")
    monkeypatch.setattr(tokens_module, "MERGE_TOKENS", 700)
    run(corpora, tokenizer, tmp_path / "again" / "tokens" / "meta.json")
    assert files_in(tmp_path / "again" / "tokens") == files_in(tmp_path / "tokens")


def test_merging_takes_the_memory_of_a_range_however_many_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times the tokens take the same memory."""
    monkeypatch.setattr(tokens_module, "MERGE_TOKENS", 50_000)

    def peak(n_parts: int) -> int:
        parts = []
        for number in range(n_parts):
            path = tmp_path / f"{n_parts}-{number}.bin"
            rng = np.random.default_rng(number)
            rng.integers(0, 100, 500_000).astype("<u2").tofile(path)
            ends = np.arange(1, 101) * 5000
            parts.append(tokens_module.Part("corpus", np.sort(rng.random(100)), ends, 2 * ends, path))
        tracemalloc.start()
        counted = tokens_module._merge(parts, 0.0, 1.0, tmp_path / f"all-{n_parts}.bin")
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert counted["tokens"] == n_parts * 500_000
        return highest

    assert peak(8) < 1.5 * peak(2)


def test_how_documents_are_cut_into_files_changes_nothing(
    corpora: dict[str, Path], tokenizer: Path, tmp_path: Path
) -> None:
    run(corpora, tokenizer, tmp_path / "tokens" / "meta.json")
    letters = make_corpus(tmp_path, "letters", texts_of(corpora["letters"]))
    assert len(read_meta(letters)["parts"]) == 1
    run({**corpora, "letters": letters}, tokenizer, tmp_path / "again" / "meta.json")
    for name in ("train.bin", "test.bin"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "tokens" / name).read_bytes()


def test_seed_changes_the_split_and_the_order(corpora: dict[str, Path], tokenizer: Path, tmp_path: Path) -> None:
    run(corpora, tokenizer, tmp_path / "tokens" / "meta.json")
    run(corpora, tokenizer, tmp_path / "again" / "meta.json", seed=4)
    first = documents_in(tmp_path / "tokens" / "test.bin", tokenizer)
    second = documents_in(tmp_path / "again" / "test.bin", tokenizer)
    assert len(set(first) & set(second)) < 0.4 * len(first)


def test_resume_takes_up_whole_parts(
    corpora: dict[str, Path], tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(corpora, tokenizer, tmp_path / "tokens" / "meta.json")
    real, done = tokens_module._write_part, []

    def write_three_then_die(*arguments: object) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(arguments)
        real(*arguments)

    monkeypatch.setattr(tokens_module, "_write_part", write_three_then_die)
    output = tmp_path / "cut" / "tokens" / "meta.json"
    with pytest.raises(KeyboardInterrupt):
        run(corpora, tokenizer, output)
    assert not output.exists()
    done.clear()
    monkeypatch.setattr(tokens_module, "_write_part", lambda *arguments: (done.append(arguments), real(*arguments)))
    run(corpora, tokenizer, output)
    parts = sum(len(read_meta(corpora[name])["parts"]) for name in corpora)
    assert len(done) == parts - 3
    assert files_in(output.parent) == files_in(tmp_path / "tokens")


def test_counts_are_verified(corpora: dict[str, Path], tokenizer: Path, tmp_path: Path) -> None:
    numbers = shutil.copytree(corpora["numbers"], tmp_path / "numbers")
    meta = read_meta(numbers)
    write_json(numbers / "meta.json", {**meta, "documents": meta["documents"] + 1})
    with pytest.raises(UserError, match=r"numbers: 200 documents were tokenized, its meta.json counts 201"):
        run({**corpora, "numbers": numbers}, tokenizer, tmp_path / "tokens" / "meta.json")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"min_train_tokens": 1e9}, r"data.min_train_tokens: letters, numbers give [\d,]+ train tokens, fewer than"),
        ({"min_test_tokens": 1e6}, r"data.min_test_tokens: letters, numbers give [\d,]+ test tokens, fewer than"),
        (
            {"test_fraction": 1e-9},
            r"test.bin: none of the 800 documents of letters, numbers in it at .* 1e-09; raise it to 0.00\d or more",
        ),
    ],
)
def test_too_little_text(
    corpora: dict[str, Path], tokenizer: Path, tmp_path: Path, spec: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(corpora, tokenizer, tmp_path / "tokens" / "meta.json", **spec)
    assert not (tmp_path / "tokens" / "meta.json").exists()


def test_command(corpora: dict[str, Path], tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "tokens" / "meta.json"
    arguments = ["--tokenizer", str(tokenizer), "--train", f"letters={corpora['letters']}"]
    arguments += ["--scratch", str(tmp_path / "scratch"), "--output", str(output), "--spec"]
    assert main([*arguments, json.dumps(SPEC)]) == 0
    assert read_json(output)["transfer"] == {}
    assert main([*arguments, json.dumps({**SPEC, "min_train_tokens": 10**7})]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: data.min_train_tokens: letters give ")


def test_synthetic_tokens_know_their_entropy_rate(tmp_path: Path) -> None:
    parameters = {"words": 200, "classes": 3, "letters": 10, "word_lengths": [2, 3], "exponent": 1.2}
    parameters |= {"document_words": 20, "seed": 1}
    source = {"kind": "synthetic", "tokens": 160_000, **parameters, "licence": "MIT", "origin": "generated"}
    corpus = {"sources": [source], "deduplicate": "nothing"}
    build_corpus("synthetic", corpus, tmp_path, tmp_path / "corpus" / "meta.json")
    folder = tmp_path / "corpus"
    spec = {**SPEC, "vocabulary": 12}
    characters = train_tokenizer(training_texts([folder], spec), 12, "characters")
    characters.save(str(tmp_path / "characters.json"))
    train, scratch = {"synthetic": folder}, tmp_path / "scratch"
    meta = tokenize(tmp_path / "characters.json", train, {}, spec, tmp_path / "a" / "meta.json", scratch)
    assert meta["entropy_rate"] == Language(**parameters).entropy_rate
    assert meta["window_excess"] == Language(**parameters).window_excess()
    assert meta["train"]["tokens"] + meta["test"]["tokens"] == sum(len(text) + 1 for text in texts_of(folder))
    pairs = train_tokenizer(training_texts([folder], spec), 300)
    pairs.save(str(tmp_path / "pairs.json"))
    meta = tokenize(tmp_path / "pairs.json", train, {}, spec, tmp_path / "b" / "meta.json", scratch)
    assert meta["entropy_rate"] is meta["window_excess"] is None  # a token is no longer a symbol


# Reading


def test_load_tokens_refuses_what_is_no_token_file(tmp_path: Path) -> None:
    (tmp_path / "odd.bin").write_bytes(b"abc")
    for name in ("odd.bin", "missing.bin"):
        with pytest.raises(UserError, match=f"{name}: no token file"):
            load_tokens(tmp_path / name)
    np.array([1, 513], dtype="<u2").tofile(tmp_path / "two.bin")
    assert (tmp_path / "two.bin").read_bytes() == b"\x01\x00\x01\x02"
    assert load_tokens(tmp_path / "two.bin").tolist() == [1, 513]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 1000, 4097])
def test_permute_is_a_permutation(n: int) -> None:
    places = np.arange(n, dtype=np.uint64)
    first = permute(places, n, key=1)
    assert sorted(first.tolist()) == list(range(n))
    assert permute(places[n // 2 :], n, key=1).tolist() == first[n // 2 :].tolist()
    if n > 100:
        assert (first == permute(places, n, key=2)).mean() < 0.05


def test_permute_is_uniform() -> None:
    """Over many keys each value comes equally often to each place, and pairs in either order."""
    n, keys = 7, 3500
    orders = np.array([permute(np.arange(n, dtype=np.uint64), n, key) for key in range(keys)]).astype(int)
    counts = np.array([np.bincount(orders[:, place], minlength=n) for place in range(n)])
    chi2 = ((counts - keys / n) ** 2 / (keys / n)).sum() * (n - 1) / n
    assert chi2 < 73  # 36 degrees of freedom: p about 3e-4
    pairs = (orders[:, :, None] < orders[:, None, :]).mean(axis=0)[~np.eye(n, dtype=bool)]
    assert np.abs(pairs - 0.5).max() < 4.5 * 0.5 / np.sqrt(keys)


def test_permute_of_many_windows_needs_no_memory() -> None:
    n = 10**15
    result = permute(np.arange(1000, dtype=np.uint64), n, key=5)
    assert len(np.unique(result)) == 1000
    assert result.max() < n
    assert abs(result.mean() / n - 0.5) < 4 * np.sqrt(1 / 12 / 1000)


TOKENS = np.arange(1003, dtype=np.uint16)  # a token is its own place


def test_windows_are_a_pure_function_of_the_step() -> None:
    first = Windows(TOKENS, n_ctx=10, batch_sequences=4, seed=1)
    second = Windows(TOKENS, n_ctx=10, batch_sequences=4, seed=1)
    steps = [70, 3, 25, 0, 70]
    expected = {step: first.batch(step) for step in range(80)}
    for step in steps:
        assert (second.batch(step) == expected[step]).all()
    assert first.batch(0).dtype == np.uint16


def test_an_epoch_sees_each_token_once() -> None:
    windows = Windows(TOKENS, n_ctx=10, batch_sequences=1, seed=2)
    assert windows.n_windows == 99
    for epoch in range(3):
        batches = np.concatenate([windows.batch(step) for step in range(epoch * 99, epoch * 99 + 99)])
        inputs = np.sort(batches[:, :-1].ravel())
        assert (np.diff(inputs) == 1).all()  # each once, but for less than two windows at the ends
        assert inputs[0] < 20
        assert (np.diff(batches.astype(int), axis=1) == 1).all()
        assert windows.epoch(epoch * 99) == epoch


def test_epochs_differ_in_order_and_in_cuts() -> None:
    windows = Windows(TOKENS, n_ctx=10, batch_sequences=99, seed=2)
    starts = np.array([windows.batch(epoch)[:, 0] for epoch in range(200)])
    assert len(np.unique(starts % 10, axis=1)[0]) == 1  # one offset an epoch
    assert set((starts % 10)[:, 0]) == set(range(10))
    assert (starts[0] == starts[1]).mean() < 0.1
    other = Windows(TOKENS, n_ctx=10, batch_sequences=99, seed=3)
    assert (other.batch(0)[:, 0] == starts[0]).mean() < 0.1


def test_only_the_first_unique_tokens_are_seen() -> None:
    for n_unique in (11, 12, 19, 20, 21, 55):
        windows = Windows(TOKENS, n_ctx=10, batch_sequences=8, n_unique_tokens=n_unique)
        seen = np.unique([windows.batch(step) for step in range(60)])
        assert seen.tolist() == list(range(n_unique)), n_unique


def test_batches_cross_epochs() -> None:
    windows = Windows(TOKENS, n_ctx=10, batch_sequences=60, seed=4)
    single = Windows(TOKENS, n_ctx=10, batch_sequences=1, seed=4)
    assert (windows.batch(1) == np.concatenate([single.batch(step) for step in range(60, 120)])).all()


def test_too_few_unique_tokens(tmp_path: Path) -> None:
    TOKENS.tofile(tmp_path / "train.bin")
    for n_unique in (10, 1004):
        message = rf"n_unique_tokens: {n_unique} is not between n_ctx \+ 1 = 11 and the 1003 tokens of .*train\.bin"
        with pytest.raises(UserError, match=message):
            Windows(load_tokens(tmp_path / "train.bin"), 10, 4, n_unique_tokens=n_unique)


def test_fixed_windows_are_evenly_spread_without_overlap() -> None:
    for n_tokens in (10, 100, 990, 1002):
        windows = fixed_windows(TOKENS, n_ctx=10, n_tokens=n_tokens)
        assert windows.shape == (n_tokens // 10, 11)
        gaps = np.diff(windows[:, 0].astype(int))
        assert (gaps >= 10).all()
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
        assert windows[0, 0] == 0
        assert len(gaps) == 0 or windows[-1, -1] == 1002
    with pytest.raises(UserError, match="test tokens: 101 windows of 10 tokens need 1011, the test set has 1003"):
        fixed_windows(TOKENS, n_ctx=10, n_tokens=1010)
