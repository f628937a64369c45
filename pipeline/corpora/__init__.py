"""Where documents come from: four kinds of source behind one interface.

A corpus is a list of sources and the way its text is cleaned. A source is a mapping with a `kind`, its `licence`
and its `origin`; `open_source` turns it into a streamed `datasets.IterableDataset` with one string column `text`,
one row a document:

=========  ======================================================================================
kind       documents
=========  ======================================================================================
hub        a data set of the Hugging Face hub, or a local folder laid out like one (`hub.py`)
wheel      text inside a pinned package of the Python package index (`wheel.py`)
files      the user's own txt, csv, json, jsonl and parquet files (`files.py`)
synthetic  a generated language whose entropy rate is known exactly (`synthetic.py`)
=========  ======================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.files import read_json, reading

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import IterableDataset

    from pipeline.corpora.hub import Stream

KINDS = ("hub", "wheel", "files", "synthetic")


def open_source(source: Mapping[str, Any], downloads: Path) -> tuple[IterableDataset | Stream, dict[str, Any]]:
    """Open one source as a stream of documents.

    Parameters
    ----------
    source : mapping
        The source's part of the config: `kind` and what that kind needs.
    downloads : Path
        Folder where wheels are kept between corpora.

    Returns
    -------
    documents : datasets.IterableDataset, or for kind hub a Stream that reads one through the failures of a hub
        One string column, `text`. Its `state_dict` marks a place from which reading can go on.
    facts : dict
        What was found out while opening it and belongs in meta.json (a commit, an entropy rate).

    Raises
    ------
    UserError
        When `kind` is not one of `KINDS`, or the source can't be opened.
    """
    kind = source.get("kind")
    if kind not in KINDS:
        raise UserError(f"kind of a source: {kind!r} is not one of {', '.join(KINDS)}")
    return import_module(f"pipeline.corpora.{kind}").load(source, downloads)


def read_meta(folder: str | Path) -> dict[str, Any]:
    """Read meta.json of a finished corpus: its documents, bytes, parts, sources.

    Raises
    ------
    UserError
        When it is missing or damaged.
    """
    path = Path(folder) / "meta.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file: fetch the corpus first")
    with reading(path, "the JSON of a corpus", f"remove {folder} to fetch it again"):
        meta = read_json(path)
        for key in ("name", "documents", "bytes", "parts", "sources"):
            meta[key]
        for part in meta["parts"]:
            part["file"]
    return meta


def read_documents(
    folder: str | Path, columns: Sequence[str] = ("text", "hash"), parts: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the documents of a finished corpus, or of some of its files (`parts`), in batches of a few MB."""
    import pyarrow.parquet as pq

    for part in parts or [part["file"] for part in read_meta(folder)["parts"]]:
        path = Path(folder) / part
        with reading(path, "a parquet file of documents", f"remove {folder} to fetch it again"):
            yield from pq.ParquetFile(path).iter_batches(200, columns=list(columns))


def check_documents(folder: str | Path) -> None:
    """Refuse a corpus whose files of documents are not those that its meta.json tells of.

    Raises
    ------
    UserError
        For a file that is missing or has another sha256.
    """
    for part in read_meta(folder)["parts"]:
        path = Path(folder) / part["file"]
        if not path.is_file():
            raise UserError(f"{path}: no such file, though meta.json beside it lists it; remove {folder}")
        if part.get("sha256", "") not in ("", sha256_of(path)):  # a corpus of earlier versions has none
            raise UserError(f"{path}: not the documents that meta.json beside it tells of; remove {folder}")


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
