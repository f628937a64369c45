"""Speed of tokenization, all cores: our stage from documents to token files, and the `tokenizers` library alone.

Alone means `encode_batch_fast` on the same documents, already in memory as Python strings, with nothing kept or
written. Ours reads the documents from disk, tokenizes, shuffles, splits and writes them. They take turns; every number
is the median of the rounds. Needs `snakemake data` first: the text is that of the preset's training corpora.

    python -m benchmarks.tokenization [--rounds 3] [--megabytes 50]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.training import record
from pipeline.corpora import read_documents, read_meta
from pipeline.errors import UserError, command
from pipeline.files import read_json
from pipeline.tokens.files import tokenize

BATCH_DOCUMENTS = 1000


def training_corpora(tokens: Path, corpora: Path) -> dict[str, Path]:
    """Return the folders of the corpora that a folder of token files was made from to train on."""
    names = read_json(tokens / "meta.json")["spec"]["train"]
    found = {name: sorted(corpora.glob(f"{name}-*/meta.json")) for name in names}
    if missing := [name for name, paths in found.items() if not paths]:
        raise UserError(f"{corpora}: no corpus {missing[0]} is there; make it with snakemake data")
    return {name: paths[-1].parent for name, paths in found.items()}


def alone(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Return the seconds that the library takes."""
    start = time.perf_counter()
    for first in range(0, len(texts), BATCH_DOCUMENTS):
        tokenizer.encode_batch_fast(texts[first : first + BATCH_DOCUMENTS])
    return time.perf_counter() - start


def ours(tokenizer_file: Path, corpora: dict[str, Path], folder: Path) -> float:
    """Return the seconds from documents to token files."""
    start = time.perf_counter()
    spec = {"seed": 0, "test_fraction": 0.02, "transfer_tokens": 1}
    tokenize(tokenizer_file, corpora, {}, spec, folder / "meta.json", folder / "scratch")
    return time.perf_counter() - start


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Measure both in turns, print, and write into benchmarks/results.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokenization", description=main.__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="where snakemake data wrote")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    sets = sorted(options.results.glob("tokens/*/meta.json"))
    if not sets:
        raise UserError(f"{options.results}/tokens: no token files are there; make them with snakemake data")
    tokens = sets[0].parent
    corpora = training_corpora(tokens, options.results / "corpora")
    tokenizer_file = tokens / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    texts = [
        text for folder in corpora.values() for batch in read_documents(folder) for text in batch["text"].to_pylist()
    ]
    n_bytes = sum(read_meta(folder)["bytes"] for folder in corpora.values())
    seconds: dict[str, list[float]] = {"library": [], "ours": []}
    for _ in range(options.rounds):
        seconds["library"].append(alone(tokenizer, texts))
        with tempfile.TemporaryDirectory() as folder:
            seconds["ours"].append(ours(tokenizer_file, corpora, Path(folder)))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "bytes": n_bytes,
        "documents": len(texts),
        "vocabulary": tokenizer.get_vocab_size(),
        "library_bytes_per_second": round(n_bytes / medians["library"]),
        "ours_bytes_per_second": round(n_bytes / medians["ours"]),
        "ratio": round(medians["library"] / medians["ours"], 3),
    }
    for name, value in result.items():
        print(f"{name:26s} {value:,}", file=sys.stdout)
    record({"tokenization": result})


if __name__ == "__main__":
    raise SystemExit(main())
