"""Read documents out of one file: txt, py, csv, json, jsonl or parquet, also packed by gz, bz2, xz or zip."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Iterator
from pathlib import PurePath
from typing import IO, Any

from pipeline.errors import UserError

UNPACK = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
FORMATS = (".txt", ".md", ".py", ".csv", ".json", ".jsonl", ".parquet")
csv.field_size_limit(2**30)  # a field may hold a whole book


def read_documents(name: str, stream: IO[bytes], field: str | None = None, depth: int = 1) -> Iterator[str]:
    """Yield the documents of one file, in its order; the end of `name` tells the format.

    Parameters
    ----------
    name : str
        File name, used for the format and in messages. `.gz`, `.bz2`, `.xz` and `.zip` are unpacked first.
    stream : binary file
        The file's bytes. A zip or parquet file must be seekable.
    field : str, optional
        The column (csv, parquet) or key (json, jsonl) that holds the text. txt, md and py files have none: the
        whole file is one document.
    depth : int
        json only: how many levels of lists and mappings lie above one document. All strings under the key
        `field` inside a document, however deep, are its paragraphs.

    Raises
    ------
    UserError
        For an unknown format, a missing column, or bytes that are not UTF-8.

    Examples
    --------
    >>> text = b'{"verbs": {"run": {"doc": "Runs.", "more": [{"doc": "Fast."}]}, "stop": {"doc": "Stops."}}}'
    >>> list(read_documents("verbs.json", io.BytesIO(text), field="doc", depth=2))
    ['Runs.\\n\\nFast.', 'Stops.']
    """
    path = PurePath(name)
    suffix = path.suffix.lower()
    try:
        if suffix in UNPACK:
            with UNPACK[suffix](stream) as unpacked:
                yield from read_documents(str(path.with_suffix("")), unpacked, field, depth)
        elif suffix == ".zip":
            with zipfile.ZipFile(stream) as archive:
                for member in sorted(archive.namelist()):
                    with archive.open(member) as unpacked:
                        yield from read_documents(f"{name}/{member}", unpacked, field, depth)
        elif suffix in (".txt", ".md", ".py"):
            yield stream.read().decode("utf-8-sig")
        elif suffix not in FORMATS:
            raise UserError(f"{name}: documents are read from {', '.join(FORMATS)} (also packed as gz, bz2, xz, zip)")
        elif field is None:
            raise UserError(f"{name}: set the source's `field` to the column or key that holds the text")
        else:
            yield from _READERS[suffix](name, stream, field, depth)
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 at byte {error.start}") from error


def _read_csv(name: str, stream: IO[bytes], field: str, depth: int) -> Iterator[str]:
    rows = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
    if field not in (rows.fieldnames or ()):
        raise UserError(f"{name}: no column {field!r}; it has {', '.join(rows.fieldnames or ())}")
    for row in rows:
        yield row[field] or ""


def _read_jsonl(name: str, stream: IO[bytes], field: str, depth: int) -> Iterator[str]:
    for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8"), start=1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict) or field not in row:
                raise UserError(f"{name}: line {number} is no object with the key {field!r}")
            yield row[field] or ""


def _read_json(name: str, stream: IO[bytes], field: str, depth: int) -> Iterator[str]:
    for value in _values_at(json.load(stream), depth):
        paragraphs = list(_strings_under(value, field))
        if paragraphs:
            yield "\n\n".join(paragraphs)


def _values_at(value: Any, depth: int) -> Iterator[Any]:
    if depth == 0:
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _values_at(inner, depth - 1)


def _strings_under(value: Any, field: str) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from _strings_under(inner, field)
    elif isinstance(value, dict):
        if isinstance(value.get(field), str):
            yield value[field]
        for inner in value.values():
            yield from _strings_under(inner, field)


def _read_parquet(name: str, stream: IO[bytes], field: str, depth: int) -> Iterator[str]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream)
    if field not in file.schema_arrow.names:
        raise UserError(f"{name}: no column {field!r}; it has {', '.join(file.schema_arrow.names)}")
    for batch in file.iter_batches(batch_size=200, columns=[field]):
        for text in batch.column(0).to_pylist():
            yield text or ""


_READERS = {".csv": _read_csv, ".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
