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
from collections.abc import Mapping, Sequence
from itertools import count, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpora import open_source
from pipeline.corpora.clean import Cleaner
from pipeline.errors import UserError, command
from pipeline.files import atomic_path, read_json, write_json
from pipeline.hashing import text_hash

PART_BYTES = 64 * 2**20  # text a file
BATCH = 200  # documents cleaned together: few, since a document may be a book
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
        `pipeline.corpora.clean.Cleaner`). A source's `layout` is that of `clean_text`; its `max_bytes` ends it early.
    downloads : Path
        Folder of the wheels.
    output : Path
        meta.json of the corpus.
    part_bytes : int
        A file of documents is closed when it holds so many bytes of text.

    Raises
    ------
    UserError
        When a source can't be read, or no document is left.
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
        self.folder.mkdir(parents=True, exist_ok=True)
        self.progress_file = self.folder / "progress.json"
        deduplicate = spec.get("deduplicate", "paragraphs")
        self.number_documents = deduplicate == "nothing"
        self.cleaner = Cleaner(deduplicate, spec.get("min_characters", 1), spec.get("filter_mb", 8) * 2**20)
        self.texts: list[str] = []
        self.bytes = 0  # of self.texts
        self.progress: dict[str, Any] = {"spec": spec, "source": 0, "state": None, "sources": [], "parts": []}

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
            progress = read_json(self.progress_file)
            if progress["spec"] == self.spec:
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
        for batch in documents.iter(batch_size=BATCH):
            if counts["bytes"] >= source.get("max_bytes", float("inf")):
                break
            kept, lost = self.cleaner(batch["text"], source.get("layout", "prose"))
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

    def _close_part(self) -> None:
        parts = self.progress["parts"]
        # Equal documents, where kept, are told apart by number, or all would stand together in the shuffled order.
        numbers = count(sum(part["documents"] for part in parts)) if self.number_documents else repeat(0)
        hashes = [text_hash(text, number) for text, number in zip(self.texts, numbers, strict=False)]
        table = pa.table([self.texts, np.array(hashes, dtype=np.uint64)], schema=SCHEMA)
        part = {"file": f"documents-{len(parts):05d}.parquet", "documents": len(self.texts), "bytes": self.bytes}
        with atomic_path(self.folder / part["file"]) as temporary:
            pq.write_table(table, temporary, compression="zstd", row_group_size=2000)
        parts.append(part)
        write_json(self.progress_file, self.progress)
        log.info("%s: %d documents, %.1f MB in %s", self.name, part["documents"], self.bytes / 1e6, part["file"])
        self.texts, self.bytes = [], 0

    def _finish(self) -> dict[str, Any]:
        parts, sources = self.progress["parts"], self.progress["sources"]
        meta = {
            "name": self.name,
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
            raise UserError(f"no document is left after cleaning (dropped: {meta['dropped']})")
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
