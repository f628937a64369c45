"""Fetch, clean and store one corpus: `python -m pipeline.corpora`.

Documents are written in the order of their sources to `documents-00000.parquet`, ... with the columns `text` and `hash`
(uint64), beside `meta.json`, which is written last. Until then `progress.json` says which files are whole and where in
its source the next one starts: a corpus that was killed goes on from there.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpora import open_source, sha256_of
from pipeline.corpora.clean import Cleaner
from pipeline.corpora.formats import text_of
from pipeline.corpora.local import Hashes, contents, digest_of
from pipeline.errors import UserError, command
from pipeline.files import atomic_path, read_json, reading, write_json
from pipeline.hashing import text_hash

if TYPE_CHECKING:
    from datasets import IterableDataset

    from pipeline.corpora.hub import Stream

PART_BYTES = 64 * 2**20  # text a file
BATCH = 200  # documents cleaned together: few, since a document may be a book
LONG = 100_000  # characters: a longer document of kind files is no document but a book or a whole data set,
PIECE = 5_000  # and is cut into pieces of so many, unless the source says otherwise (`max_characters`)
SCHEMA = pa.schema([("text", pa.string()), ("hash", pa.uint64())])

log = logging.getLogger("pipeline.corpora")


def build_corpus(
    name: str, spec: Mapping[str, Any], downloads: Path, output: Path, part_bytes: int = PART_BYTES
) -> dict[str, Any]:
    """Write a corpus into the folder of `output`, its meta.json, and return what meta.json says.

    Parameters
    ----------
    name : str
        The corpus's name in the config, for messages.
    spec : mapping
        `sources`, a list (see `pipeline.corpora`), and how to clean: `deduplicate`, `min_characters`, `filter_mb` (see
        `pipeline.corpora.clean.Cleaner`). A source's `layout` is that of `clean_text`; its `max_bytes` ends it early;
        its `max_characters` cuts longer documents. `content`, where it is given, is the digest that the files of this
        machine must have (`pipeline.corpora.local`).
    downloads : Path
        Folder of the wheels.
    output : Path
        meta.json of the corpus.
    part_bytes : int
        A file of documents is closed when it holds so many bytes of text.

    Raises
    ------
    UserError
        When a source can't be read, its files are not those of `content`, or no document is left.
    """
    try:
        return _Build(name, spec, output, part_bytes).run(downloads)
    except UserError as error:
        raise UserError(f"corpora.{name}: {error}") from error


class _Build:
    """One corpus in the making: the documents of the file being filled, and counts so far."""

    def __init__(self, name: str, spec: Mapping[str, Any], output: Path, part_bytes: int) -> None:
        self.name, self.spec, self.output, self.part_bytes = name, spec, output, part_bytes
        self.folder = output.parent
        self.progress_file = self.folder / "progress.json"
        deduplicate = spec.get("deduplicate", "paragraphs")
        self.number_documents = deduplicate == "nothing"
        self.min_characters = spec.get("min_characters", 1)
        self.cleaner = Cleaner(deduplicate, self.min_characters, spec.get("filter_mb", 8) * 2**20)
        self.hashes = Hashes()
        self.files = contents(spec, self.hashes)
        self.content = digest_of(self.files) if self.files else None
        if spec.get("content", self.content) != self.content:
            raise UserError("its files changed since the workflow was planned; start it again")
        self.texts: list[str] = []
        self.bytes = 0  # of self.texts
        self.progress: dict[str, Any] = {"spec": spec, "content": self.content, "source": 0, "state": None}
        self.progress |= {"sources": [], "parts": []}

    def run(self, downloads: Path) -> dict[str, Any]:
        self._resume()
        sources = self.spec["sources"]
        for index in range(self.progress["source"], len(sources)):
            self._read(index, sources[index], downloads)
        if self.texts:
            self._close_part()
        return self._finish()

    def _resume(self) -> None:
        """Take up the files that an earlier try left, if it had the same spec, and remember their documents."""
        if self.progress_file.exists():
            with reading(self.progress_file, "the state of a corpus in the making", f"remove {self.folder}"):
                progress = read_json(self.progress_file)
                files = {part["file"]: part.get("sha256") for part in progress["parts"]}
                spec, content = progress["spec"], progress.get("content")
            whole = all((self.folder / file).is_file() for file in files)
            if (
                whole
                and (spec, content) == (self.spec, self.content)
                and all(sha256 in (None, sha256_of(self.folder / file)) for file, sha256 in files.items())
            ):
                self.progress = progress
                log.info("%s: going on after %d files", self.name, len(progress["parts"]))
        parts = [self.folder / part["file"] for part in self.progress["parts"]]
        for path in [*self.folder.glob("documents-*.parquet"), *self.folder.glob(".*.tmp*")]:
            if path not in parts:
                path.unlink()
        for path in parts:
            for batch in pq.ParquetFile(path).iter_batches(1000, columns=["text"]):
                self.cleaner.remember(batch.column(0).to_pylist())

    def _read(self, index: int, source: Mapping[str, Any], downloads: Path) -> None:
        progress = self.progress
        resumed = progress["state"] is not None
        documents, facts = open_source(progress["sources"][index] if resumed else source, downloads)
        if resumed:
            documents.load_state_dict(progress["state"])
        else:
            progress["sources"].append({**source, **facts, "documents": 0, "bytes": 0, "dropped": {}})
        counts = progress["sources"][index]
        dropped = Counter(counts["dropped"])
        cut = self._cut(source)
        for texts in self._batches(documents, source):
            if counts["bytes"] >= source.get("max_bytes", float("inf")):
                break
            kept, lost = self.cleaner(texts, source.get("layout", "prose"), *cut)
            dropped += lost
            size = sum(len(text.encode()) for text in kept)
            self.texts += kept
            self.bytes += size
            counts["documents"] += len(kept)
            counts["bytes"] += size
            counts["dropped"] = dict(dropped)
            if self.bytes >= self.part_bytes:
                progress.update(source=index, state=documents.state_dict())
                self._close_part()
        progress.update(source=index + 1, state=None)

    def _cut(self, source: Mapping[str, Any]) -> tuple[float, int]:
        """Return how many characters a document must have to be cut, and how many its pieces have at most."""
        if most := source.get("max_characters"):
            return most, int(min(most, 2**62))
        return (LONG if source["kind"] == "files" else float("inf")), max(PIECE, 4 * self.min_characters)

    @staticmethod
    def _batches(documents: IterableDataset | Stream, source: Mapping[str, Any]) -> Iterator[list[str]]:
        """Yield the texts of a source, batch by batch."""
        where = f"{source['kind']} source {source.get('name', '')}".strip()
        read = 0
        for batch in documents.iter(batch_size=BATCH):
            yield [text_of(text, f"{where}: document {read + n}") for n, text in enumerate(batch["text"], start=1)]
            read += len(batch["text"])

    def _close_part(self) -> None:
        parts = self.progress["parts"]
        # Equal documents, where kept, are told apart by number, or all would stand together in the shuffled order.
        numbers = count(sum(part["documents"] for part in parts)) if self.number_documents else repeat(0)
        hashes = [text_hash(text, number) for text, number in zip(self.texts, numbers, strict=False)]
        table = pa.table([self.texts, np.array(hashes, dtype=np.uint64)], schema=SCHEMA)
        path = self.folder / f"documents-{len(parts):05d}.parquet"
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", row_group_size=2000)
        part = {"file": path.name, "documents": len(self.texts), "bytes": self.bytes, "sha256": sha256_of(path)}
        parts.append(part)
        write_json(self.progress_file, self.progress)
        log.info("%s: %d documents, %.1f MB in %s", self.name, part["documents"], self.bytes / 1e6, part["file"])
        self.texts, self.bytes = [], 0

    def _finish(self) -> dict[str, Any]:
        parts, sources = self.progress["parts"], self.progress["sources"]
        meta = {
            "name": self.name,
            "content": self.content,
            "documents": sum(part["documents"] for part in parts),
            "bytes": sum(part["bytes"] for part in parts),
            "dropped": dict(sum((Counter(source["dropped"]) for source in sources), Counter())),
            "entropy_rate": sources[0].get("entropy_rate") if len(sources) == 1 else None,
            "window_excess": sources[0].get("window_excess") if len(sources) == 1 else None,
            "licences": sorted({source["licence"] for source in sources}),
            "sources": sources,
            "parts": parts,
        }
        if not parts:
            dropped = ", ".join(f"{what}: {count:,}" for what, count in meta["dropped"].items())
            why = f"dropped: {dropped}" if dropped else "there was none before"
            raise UserError(f"no document is left after cleaning ({why})")
        if contents(self.spec, self.hashes) != self.files:
            self.progress_file.unlink()
            raise UserError("its files changed while they were read; start it again")
        write_json(self.output, meta)
        self.progress_file.unlink()
        return meta


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.corpora", description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="the corpus's name in the config")
    parser.add_argument("--spec", required=True, type=json.loads, help="its part of the config, as JSON")
    parser.add_argument("--downloads", required=True, type=Path, help="folder of the wheels")
    parser.add_argument("--output", required=True, type=Path, help="meta.json, in the corpus's own folder")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)  # ours alone: libraries tell of every request
    build_corpus(arguments.name, arguments.spec, arguments.downloads, arguments.output)


if __name__ == "__main__":
    raise SystemExit(main())
