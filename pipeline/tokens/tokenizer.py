"""Train a tokenizer: byte-level BPE as in GPT-2, or one entry a character.

Byte-level BPE turns any text into tokens and back without loss. Entry 0 is `<|endoftext|>`, which ends each document;
then come the 256 bytes; a vocabulary of 257 is bytes alone. It is trained on training documents only.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.corpora import check_documents, read_documents, read_meta
from pipeline.errors import UserError, command
from pipeline.files import atomic_path
from pipeline.hashing import mix

END_OF_TEXT = "<|endoftext|>"
MAX_VOCABULARY = 65_536  # token files are uint16
KINDS = ("bpe", "characters")

log = logging.getLogger("pipeline.tokens.tokenizer")


def train_tokenizer(texts: Iterable[str], vocabulary: int, kind: str = "bpe") -> Tokenizer:
    """Train a tokenizer on texts.

    Parameters
    ----------
    texts : iterable of str
    vocabulary : int
        Entries, `<|endoftext|>` included: 257 (bytes) to 65,536 for bpe; exactly the number of different characters
        plus one for characters.
    kind : {"bpe", "characters"}
        characters is for synthetic languages, where a token must be a symbol.

    Raises
    ------
    UserError
        When the vocabulary is out of range or the text is too small for it.

    Examples
    --------
    >>> tokenizer = train_tokenizer(["low lower lowest"] * 2, vocabulary=260)
    >>> tokenizer.encode("low lower").tokens
    ['low', 'Ġlow', 'e', 'r']
    >>> tokenizer.decode(tokenizer.encode("naïve <|endoftext|>").ids)
    'naïve <|endoftext|>'
    """
    if kind not in KINDS:
        raise UserError(f"data.tokenizer: {kind!r} is not one of {', '.join(KINDS)}")
    if vocabulary > MAX_VOCABULARY:
        raise UserError(f"data.vocabulary: {vocabulary} is more than {MAX_VOCABULARY}, what a uint16 token file holds")
    tokenizer = _train_bpe(texts, vocabulary) if kind == "bpe" else _train_characters(texts, vocabulary)
    tokenizer.encode_special_tokens = True  # a document that contains "<|endoftext|>" does not end there
    return tokenizer


def _train_bpe(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary <= len(alphabet):
        raise UserError(f"data.vocabulary: {vocabulary} is less than 257, the bytes and {END_OF_TEXT}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        initial_alphabet=alphabet,
        special_tokens=[END_OF_TEXT],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() < vocabulary:
        raise UserError(
            f"data.vocabulary: the training text is too small for {vocabulary} entries; "
            f"it gives {tokenizer.get_vocab_size()}: lower it, add text, or raise data.tokenizer_bytes if that is less"
        )
    return tokenizer


def _train_characters(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    characters = sorted(set().union(*texts))
    if len(characters) + 1 != vocabulary:
        raise UserError(
            f"data.vocabulary: {vocabulary} must be {len(characters) + 1}, the characters of the training text and "
            f"{END_OF_TEXT} (data.tokenizer is characters)"
        )
    entries = {entry: number for number, entry in enumerate([END_OF_TEXT, *characters])}
    tokenizer = Tokenizer(models.BPE(entries, []))
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def order_keys(hashes: np.ndarray, seed: int) -> np.ndarray:
    """Return for each document hash a uniform number in [0, 1): documents are stored in the order of these keys.

    So shuffling is sorting, needs no memory, and is the same however the documents are cut into files. The documents
    with keys below `test_fraction` are held out.
    """
    return mix(hashes ^ mix(np.array([seed + 1], dtype=np.uint64))) / 2.0**64


def check_split(keys: np.ndarray, test_fraction: float, names: str) -> None:
    """Refuse a split of documents, given by their order keys, that leaves one side empty.

    Raises
    ------
    UserError
        One line that says whether to raise or to lower data.test_fraction, and how far.
    """
    held_out = int((keys < test_fraction).sum())
    if 0 < held_out < len(keys):
        return
    more = "add text, or cut it into more documents (`max_characters` of a source)"
    if held_out == 0:
        fraction = math.floor(1000 * keys.min() + 1) / 1000
        what, change = "test.bin: none", f"raise it to {fraction:g} or more, or {more}"
        possible = fraction <= 0.5
    else:
        fraction = math.floor(1000 * keys.max()) / 1000
        what, change = "train.bin: none", f"lower it to {fraction:g} or less, or {more}"
        possible = fraction > keys.min()
    raise UserError(
        f"{what} of the {len(keys)} document{'s' if len(keys) > 1 else ''} of {names} in it at data.test_fraction "
        f"{test_fraction:g}; "
        f"{change if possible and len(keys) > 1 else more}"
    )


def training_texts(folders: Sequence[Path], spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield a random sample of about `spec["tokenizer_bytes"]` bytes of the training documents of some corpora.

    Raises
    ------
    UserError
        When there is none, or none is in the sample.
    """
    size = sum(read_meta(folder)["bytes"] for folder in folders)
    low = spec["test_fraction"]
    high = low + (1 - low) * min(1.0, spec["tokenizer_bytes"] / size)
    found, seen = 0, []
    for folder in folders:
        for batch in read_documents(folder):
            keys = order_keys(batch.column("hash").to_numpy(), spec["seed"])
            chosen = np.flatnonzero((keys >= low) & (keys < high))
            found += len(chosen)
            seen += [] if found else [keys]
            yield from batch.column("text").take(chosen).to_pylist()
    if not found:
        if low:
            check_split(np.concatenate(seen), low, "the training corpora")
        raise UserError(
            f"data.tokenizer_bytes: no document falls into a sample of {spec['tokenizer_bytes']:,.0f} bytes out of "
            f"{size:,}; raise it"
        )


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.tokens.tokenizer", description=__doc__.splitlines()[0])
    parser.add_argument("--documents", required=True, nargs="+", metavar="NAME=DIR", help="training corpora")
    parser.add_argument("--spec", required=True, type=json.loads, help="the data part of the config, as JSON")
    parser.add_argument("--output", required=True, type=Path, help="tokenizer.json")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)  # ours alone: libraries tell of every request
    spec = arguments.spec
    folders = [Path(document.partition("=")[2]) for document in arguments.documents]
    for folder in folders:
        check_documents(folder)
    tokenizer = train_tokenizer(training_texts(folders, spec), spec["vocabulary"], spec["tokenizer"])
    with atomic_path(arguments.output) as temporary:
        temporary.write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    log.info("%s: %d entries", arguments.output, tokenizer.get_vocab_size())


if __name__ == "__main__":
    raise SystemExit(main())
