"""Turn corpora into flat files of uint16 tokens: `python -m pipeline.tokens`.

train.bin and test.bin hold the training corpora, transfer-<corpus>.bin those that are only tested on. Documents stand
in the order of a seeded hash of theirs, each ended by `<|endoftext|>`: all corpora thoroughly mixed, and any prefix of
train.bin a random sample of the documents. The first `test_fraction` of that order is test.bin.

Memory stays constant at any size. Each file of documents is tokenized by itself and its documents are sorted by their
keys (a part); then the parts are merged, one range of keys after the other. A killed job goes on after its last part.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from pipeline.corpora import check_documents, read_documents, read_meta, sha256_of
from pipeline.errors import UserError
from pipeline.files import atomic_path, reading, write_json
from pipeline.tokens.tokenizer import END_OF_TEXT, MAX_VOCABULARY, check_split, order_keys
from pipeline.tokens.windows import TOKEN_TYPE

MERGE_TOKENS = 2**26  # tokens of one range of keys, read at once: 128 MB
BYTES_PER_TOKEN = 8  # more than any tokenizer's mean on text: bounds the documents read for a capped set

log = logging.getLogger("pipeline.tokens")


class Part(NamedTuple):
    """One tokenized file of documents, sorted by key."""

    corpus: str
    keys: np.ndarray  # (n_documents,) float64, ascending
    ends: np.ndarray  # (n_documents,) int64: where each document's tokens end
    bytes: np.ndarray  # (n_documents,) int64: of each document's text
    path: Path  # its tokens, document after document

    @property
    def n_tokens(self) -> int:
        """Tokens of all its documents."""
        return int(self.ends[-1]) if len(self.ends) else 0


def tokenize(
    tokenizer_file: Path,
    train: Mapping[str, Path],
    transfer: Mapping[str, Path],
    spec: Mapping[str, Any],
    output: Path,
    scratch: Path,
) -> dict[str, Any]:
    """Write the token files of a data set beside `output`, then `output` (meta.json), and return what it says.

    Parameters
    ----------
    tokenizer_file : Path
        tokenizer.json.
    train, transfer : mapping of str to Path
        Folder of each corpus by name.
    spec : mapping
        `seed`, `test_fraction`, `transfer_tokens` (a transfer set ends with the document that reaches them), and
        `min_train_tokens` and `min_test_tokens`, below which the set is refused.
    output : Path
        meta.json.
    scratch : Path
        Folder for parts; removed at the end.

    Raises
    ------
    UserError
        When a corpus or split is too small, the vocabulary too large, documents are not those of their meta.json, or
        token files of other text stand there already.
    """
    for folder in {*train.values(), *transfer.values()}:
        check_documents(folder)
    with reading(tokenizer_file, "a tokenizer", f"remove {tokenizer_file.parent} to make it again"):
        tokenizer = Tokenizer.from_str(tokenizer_file.read_text(encoding="utf-8"))
    tokenizer.encode_special_tokens = True
    vocabulary = tokenizer.get_vocab_size()
    if vocabulary > MAX_VOCABULARY:
        raise UserError(f"{tokenizer_file}: {vocabulary} entries are more than the {MAX_VOCABULARY} of a uint16 file")
    digest = sha256(tokenizer_file.read_bytes()).hexdigest()
    for left_over in output.parent.glob(".*.tmp*"):  # of a try that was killed while it wrote
        left_over.unlink()

    def parts(name: str, folder: Path, share: float = 1.0) -> list[Part]:
        found = read_meta(folder)["parts"]
        stamp = sha256(json.dumps([digest, spec["seed"], share, str(folder), found]).encode()).hexdigest()[:10]
        at = scratch / stamp
        return [_part(tokenizer, name, folder, part["file"], spec["seed"], share, at) for part in found]

    training = [part for name, folder in train.items() for part in parts(name, folder)]
    _check_documents(training, train)
    split = spec["test_fraction"]
    check_split(np.concatenate([part.keys for part in training]), split, ", ".join(train))
    meta: dict[str, Any] = {
        "id": output.parent.name,
        "vocabulary": vocabulary,
        "tokenizer_sha256": digest,
        "spec": dict(spec),
        "train": _merge(training, split, 1.0, output.parent / "train.bin"),
        "test": _merge(training, 0.0, split, output.parent / "test.bin"),
        "transfer": {},
    }
    for name, folder in transfer.items():
        share = min(1.0, BYTES_PER_TOKEN * spec["transfer_tokens"] / read_meta(folder)["bytes"])
        path = output.parent / f"transfer-{name}.bin"
        documents = parts(name, folder, share)
        if not any(len(part.keys) for part in documents):
            raise UserError(
                f"{path.name}: none of the documents of {name} falls into a sample of data.transfer_tokens "
                f"{spec['transfer_tokens']:,.0f}; raise it"
            )
        meta["transfer"][name] = _merge(documents, 0.0, share, path, spec["transfer_tokens"])
    for key, limit in (("train", spec.get("min_train_tokens", 1)), ("test", spec.get("min_test_tokens", 1))):
        if meta[key]["tokens"] < limit:
            fraction = 1.1 * split * limit / meta["test"]["tokens"]
            more = f"raise data.test_fraction to about {fraction:.2g}, " if key == "test" and fraction <= 0.5 else ""
            raise UserError(
                f"data.min_{key}_tokens: {', '.join(train)} give {meta[key]['tokens']:,} {key} tokens, "
                f"fewer than {limit:,}; {more}add a corpus, or lower it or the vocabulary"
            )
    meta |= _truth(meta, train)
    corpora = {**train, **transfer}
    meta["corpora"] = {name: _provenance(read_meta(folder)) for name, folder in corpora.items()}
    write_json(output, meta)
    shutil.rmtree(scratch, ignore_errors=True)
    return meta


def _part(tokenizer: Tokenizer, corpus: str, folder: Path, file: str, seed: int, share: float, scratch: Path) -> Part:
    """Tokenize the documents of one file whose keys lie below `share`, or take up what an earlier try left."""
    index = scratch / file.replace(".parquet", ".npz")
    path = index.with_suffix(".bin")
    if not index.exists():
        _write_part(tokenizer, folder, file, seed, share, path, index)
        log.info("%s: tokenized %s", corpus, file)
    with reading(index, "the index of a tokenized file of documents", f"remove {scratch}"), np.load(index) as arrays:
        part = Part(corpus, arrays["keys"], arrays["ends"], arrays["bytes"], path)
    if not path.is_file() or path.stat().st_size != part.n_tokens * TOKEN_TYPE.itemsize:
        raise UserError(f"{path}: not the {part.n_tokens} tokens of its index; remove {scratch}")
    return part


def _write_part(
    tokenizer: Tokenizer, folder: Path, file: str, seed: int, share: float, path: Path, index: Path
) -> None:
    end = tokenizer.token_to_id(END_OF_TEXT)
    keys: list[np.ndarray] = []
    sizes: list[int] = []

    def texts() -> Iterator[list[str]]:
        for batch in read_documents(folder, parts=[file]):
            batch_keys = order_keys(batch.column("hash").to_numpy(), seed)
            chosen = np.flatnonzero(batch_keys < share)
            found = batch.column("text").take(chosen).to_pylist()
            keys.append(batch_keys[chosen])
            sizes.extend(len(text.encode()) for text in found)
            yield found

    tokens = [
        np.array([*encoding.ids, end], dtype=TOKEN_TYPE)
        for encodings in _encoded_ahead(tokenizer, texts())
        for encoding in encodings
    ]
    order = np.argsort(np.concatenate(keys), kind="stable")
    with atomic_path(path) as temporary, open(temporary, "wb") as binary:
        for number in order:
            binary.write(tokens[number])
    with atomic_path(index) as temporary:
        np.savez(
            temporary,
            keys=np.concatenate(keys)[order],
            ends=np.cumsum([len(tokens[number]) for number in order], dtype=np.int64),
            bytes=np.array(sizes, dtype=np.int64)[order],
        )


def _encoded_ahead(tokenizer: Tokenizer, batches: Iterator[list[str]]) -> Iterator[list[Encoding]]:
    """Yield the encodings of each batch of texts, while the library is at the next one."""
    with ThreadPoolExecutor(max_workers=1) as ahead:
        pending: list[Future[list[Encoding]]] = []
        for texts in batches:
            pending.append(ahead.submit(tokenizer.encode_batch_fast, texts))
            if len(pending) > 1:
                yield pending.pop(0).result()
        for last in pending:
            yield last.result()


def _check_documents(parts: Sequence[Part], corpora: Mapping[str, Path]) -> None:
    for name, folder in corpora.items():
        found, expected = sum(len(part.keys) for part in parts if part.corpus == name), read_meta(folder)["documents"]
        if found != expected:
            raise UserError(f"{folder}: {found} documents were tokenized, its meta.json counts {expected}")


def _merge(
    parts: Sequence[Part], low: float, high: float, path: Path, max_tokens: float = float("inf")
) -> dict[str, Any]:
    """Write the documents with low <= key < high to `path`, in the order of their keys, and count them.

    The document that reaches `max_tokens` is the last.
    """
    total = sum(part.n_tokens for part in parts)
    n_ranges = max(1, round((high - low) * total / MERGE_TOKENS))
    counts = {part.corpus: {"tokens": 0, "documents": 0, "bytes": 0} for part in parts}
    written, hashed = 0, sha256()
    with atomic_path(path) as temporary:
        with open(temporary, "wb", buffering=2**20) as binary:
            for first, last in pairwise(np.linspace(low, high, n_ranges + 1)):
                for part, number, document in _documents(parts, first, last):
                    if written >= max_tokens:
                        break
                    binary.write(document)
                    hashed.update(document)
                    written += len(document)
                    count = counts[part.corpus]
                    count["tokens"] += len(document)
                    count["documents"] += 1
                    count["bytes"] += int(part.bytes[number])
        if os.path.getsize(temporary) != written * TOKEN_TYPE.itemsize:
            raise OSError(f"{os.path.getsize(temporary)} bytes were written for {written} tokens")
        if path.exists() and sha256_of(path) != hashed.hexdigest():
            raise UserError(
                f"{path}: holds other tokens than its corpora give now, which runs may have been trained on: the text "
                f"changed under its name, or the file is damaged. Remove {path.parent} to make it again, and the runs "
                "in results/runs that were trained on it"
            )
    whole = {key: sum(count[key] for count in counts.values()) for key in ("tokens", "documents", "bytes")}
    whole = {"file": path.name, **whole, "sha256": hashed.hexdigest()}
    return {**whole, "bytes_per_token": whole["bytes"] / whole["tokens"], "corpora": counts}


def _documents(parts: Sequence[Part], low: float, high: float) -> Iterator[tuple[Part, int, np.ndarray]]:
    """Yield part, number and tokens of the documents with low <= key < high, in the order of their keys."""
    spans = [np.searchsorted(part.keys, [low, high]) for part in parts]
    starts = [part.ends[first - 1] if first else 0 for part, (first, _) in zip(parts, spans, strict=True)]
    # Read, not mapped: mapped pages would count as this process's memory.
    tokens = [
        np.fromfile(part.path, TOKEN_TYPE, int(part.ends[last - 1] - start), offset=int(start) * TOKEN_TYPE.itemsize)
        if last > first
        else None
        for part, (first, last), start in zip(parts, spans, starts, strict=True)
    ]
    owners = np.repeat(np.arange(len(parts)), [last - first for first, last in spans])
    numbers = np.concatenate([np.arange(first, last) for first, last in spans])
    keys = np.concatenate([part.keys[first:last] for part, (first, last) in zip(parts, spans, strict=True)])
    for place in np.argsort(keys, kind="stable"):
        owner, number = owners[place], numbers[place]
        part, start = parts[owner], starts[owner]
        begin = part.ends[number - 1] if number else 0
        yield part, number, tokens[owner][begin - start : part.ends[number] - start]


def _truth(meta: Mapping[str, Any], train: Mapping[str, Path]) -> dict[str, float | None]:
    """Return entropy rate (nats per token) and window excess (nats per window) of the training set, None if not known.

    They are known for one synthetic corpus of which each character is a token.
    """
    counts = meta["train"]
    known = len(train) == 1 and counts["tokens"] == counts["bytes"] + counts["documents"]
    corpus = read_meta(next(iter(train.values())))
    return {key: corpus[key] if known else None for key in ("entropy_rate", "window_excess")}


def _provenance(corpus: Mapping[str, Any]) -> dict[str, Any]:
    sources = [{key: source[key] for key in ("kind", "licence", "origin")} for source in corpus["sources"]]
    parts = sha256(json.dumps([part.get("sha256") for part in corpus["parts"]]).encode()).hexdigest()
    return {"documents": corpus["documents"], "bytes": corpus["bytes"], "sha256": parts, "sources": sources}
