"""Read documents out of one file: txt, py, csv, json, jsonl or parquet, also packed by gz, bz2, xz or zip.

Text is read whole or not at all: a row that has lost its shape, a record that is no text and bytes that are damaged end
in one line that names the file and, where there are lines, the line.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
        For an unknown format, a missing column, rows and records that are not what they should be, bytes that are not
        UTF-8, a file that is cut short or damaged. An empty text (null) is a document of no characters.

    Examples
    --------
    >>> text = b'{"verbs": {"run": {"doc": "Runs.", "more": [{"doc": "Fast."}]}, "stop": {"doc": "Stops."}}}'
    >>> list(read_documents("verbs.json", io.BytesIO(text), field="doc", depth=2))
    ['Runs.\\n\\nFast.', 'Stops.']
    """
    try:
        yield from _read(name, PurePath(name), stream, field, depth)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise UserError(f"{name}: damaged, or no such format ({error})") from error
    except RuntimeError as error:  # a zip that is encrypted, or packed in a way that Python does not know
        raise UserError(f"{name}: can't be unpacked ({error})") from error


def _read(name: str, path: PurePath, stream: IO[bytes], field: str | None, depth: int) -> Iterator[str]:
    """Yield the documents of a stream whose format is that of `path`; `name` is for messages."""
    suffix = path.suffix.lower()
    if suffix in UNPACK:
        with UNPACK[suffix](stream) as unpacked:
            yield from _read(name, path.with_suffix(""), unpacked, field, depth)
    elif suffix == ".zip":
        with zipfile.ZipFile(stream) as archive:
            for member in _members(archive):
                with archive.open(member) as unpacked:
                    yield from _read(f"{name}/{member}", PurePath(member), unpacked, field, depth)
    elif suffix in (".txt", ".md", ".py"):
        with _utf8(name, stream):
            yield stream.read().decode("utf-8-sig")
    elif suffix not in FORMATS:
        raise UserError(f"{name}: documents are read from {', '.join(FORMATS)} (also packed as gz, bz2, xz, zip)")
    elif field is None:
        raise UserError(f"{name}: set the source's `field` to the column or key that holds the text")
    else:
        yield from _READERS[suffix](name, stream, field, depth)


def _members(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of a zip's files, without its folders and what systems hide in it (`__MACOSX`, `.DS_Store`)."""
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    return sorted(name for name in names if not any(part.startswith((".", "__MACOSX")) for part in name.split("/")))


@contextmanager
def _utf8(name: str, stream: IO[bytes]) -> Iterator[None]:
    """Say at which byte of the (unpacked) file its text is not UTF-8: decoders count from the start of their buffer."""
    try:
        yield
    except UnicodeDecodeError as error:
        byte = stream.tell() - len(error.object) + error.start
        raise UserError(f"{name}: not UTF-8 at byte {byte}; save it as UTF-8 text") from error


def _names(names: Iterable[str]) -> str:
    """Return names in a row, the first twenty; one with blanks at an end, or empty, in quotes."""
    shown = [name if name and name == name.strip() else repr(name) for name in names]
    return ", ".join([*shown[:20], f"and {len(shown) - 20} more"] if len(shown) > 20 else shown)


def _column(name: str, field: str, columns: list[str]) -> int:
    """Return which of the columns is `field`."""
    if columns.count(field) > 1:
        raise UserError(f"{name}: {columns.count(field)} columns are named {field!r}")
    if field in columns:
        return columns.index(field)
    hint = ""
    if alike := [column for column in columns if column.strip().casefold() == field.strip().casefold()]:
        hint = f": write `field: {json.dumps(alike[0], ensure_ascii=False)}`, or mend the header"
    elif len(columns) == 1 and (found := [mark for mark in (";", "\t", "|") if mark in columns[0]]):
        hint = f": its cells are parted by {found[0]!r}, a comma is needed"
    raise UserError(f"{name}: no column {field!r}; it has {_names(columns)}{hint}")


def _read_csv(name: str, stream: IO[bytes], field: str, depth: int) -> Iterator[str]:
    rows = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
    column, cells, header = 0, -1, []  # cells of a row; not known before the header
    last = 0  # the line that the row before ended at
    with _utf8(name, stream), _csv_errors(name, lambda: (last + 1, rows.line_num)):
        for row in rows:
            if len(row) == cells:
                if row[column] == field and row == header and cells > 1:  # one cell may be a text
                    raise UserError(f"{name}: line {last + 1} is the header again; remove it")
                yield row[column]
            elif cells < 0:
                if any(cell.strip() for cell in row):
                    column, cells, header = _column(name, field, row), len(row), row
            elif any(cell.strip() for cell in row):
                hint = "; a cell that holds commas or line breaks needs quotes" if len(row) > cells else ""
                raise UserError(f"{name}: line {last + 1} has {len(row)} cells, the header has {cells}{hint}")
            last = rows.line_num
    if cells < 0:
        raise UserError(f"{name}: empty; a header with the column {field!r} is needed")


@contextmanager
def _csv_errors(name: str, lines: Any) -> Iterator[None]:
    """Say what is wrong with the quotes of a row; `lines` returns the line it starts at and the line read last."""
    try:
        yield
    except csv.Error as error:
        first, last = lines()
        if "unexpected end" in str(error):
            raise UserError(f"{name}: line {first}: a quote of this row is never closed") from error
        at = f"line {first}" if first == last else f"lines {first} to {last}"
        raise UserError(
            f"{name}: {at}: a quoted cell goes on after its closing quote ({error}): quotes inside it must be doubled, "
            "and each must be closed"
        ) from error


def _decoder(field: str) -> json.JSONDecoder:
    """Return a decoder that refuses an object with two texts: of a key given twice, only the last would be read."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs) and sum(key == field for key, _ in pairs) > 1:
            raise ValueError(f"the key {field!r} is given twice in one object")
        return value

    return json.JSONDecoder(object_pairs_hook=once)


def _parse(text: str, where: str, decoder: json.JSONDecoder) -> Any:
    """Return the value of a JSON text; `where` names its place in messages."""
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: no JSON ({error.msg} at character {error.pos + 1})") from error
    except ValueError as error:  # a number of thousands of digits, a key given twice
        raise UserError(f"{where}: {error}") from error
    except RecursionError as error:
        raise UserError(f"{where}: nested too deeply") from error


def _read_jsonl(name: str, stream: IO[bytes], field: str, depth: int) -> Iterator[str]:
    decoder = _decoder(field)
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig")  # named, since it closes the stream when it goes
    with _utf8(name, stream):
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = decoder.decode(line)
            except (ValueError, RecursionError):
                row = _parse(line.rstrip(), f"{name}: line {number}", decoder)  # the same again, to say what is wrong
            if not isinstance(row, dict) or field not in row:
                has = f"; it has {_names(map(str, row))}" if isinstance(row, dict) else f": a {type(row).__name__}"
                raise UserError(f"{name}: line {number} is no object with the key {field!r}{has}")
            text = row[field]
            if not isinstance(text, str):
                text = text_of(text, f"{name}: line {number}: {field}")
            yield text


def text_of(value: Any, where: str) -> str:
    """Return a document's text, "" for None; `where` names its place when it is no text.

    Examples
    --------
    >>> text_of(None, "a.jsonl: line 2: text")
    ''
    >>> text_of(7, "a.jsonl: line 2: text")
    Traceback (most recent call last):
    ...
    pipeline.errors.UserError: a.jsonl: line 2: text: 7 is no text but a value of type int
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    shown = repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}..."
    raise UserError(f"{where}: {shown} is no text but a value of type {type(value).__name__}")


def _read_json(name: str, stream: IO[bytes], field: str, depth: int) -> Iterator[str]:
    data = stream.read()
    with _utf8(name, stream):
        text = data.decode(json.detect_encoding(data))
    decoder = _decoder(field)
    try:
        value = decoder.decode(text)
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data" and error.lineno > 1 and text.lstrip().startswith("{"):
            yield from _read_jsonl(name, io.BytesIO(data), field, depth)  # one record a line, whatever its name
            return
        where = f"{name}: line {error.lineno}" if isinstance(error, json.JSONDecodeError) else name
        value = _parse(text, where, decoder)
    found = 0
    try:
        for document in _values_at(value, depth):
            if paragraphs := list(_strings_under(document, field)):
                found += 1
                yield "\n\n".join(paragraphs)
    except RecursionError as error:
        raise UserError(f"{name}: nested too deeply") from error
    if not found and value:
        raise UserError(f"{name}: no text under the key {field!r}: {_described(value, depth)}")


def _described(value: Any, depth: int) -> str:
    """Say what lies at a depth of a JSON value, for a message."""
    first = next(_values_at(value, depth), None)
    if first is None:
        return f"there is nothing at depth {depth} (`depth` of the source)"
    what = f"an object with the keys {_names(first)}" if isinstance(first, dict) else f"a {type(first).__name__}"
    return f"the first value at depth {depth} (`depth` of the source) is {what}"


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream)
        kind = file.schema_arrow.types[_column(name, field, file.schema_arrow.names)]
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
        if not any(test(kind) for test in is_text):
            raise UserError(f"{name}: the column {field!r} holds no text but values of type {kind}")
        row = 0
        for batch in file.iter_batches(batch_size=200, columns=[field]):
            for text in _cells(batch.column(0), name, row):
                yield text or ""
            row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name}: no parquet file, or a damaged one ({error})") from error


def _cells(column: Any, name: str, row: int) -> list[str | None]:
    """Return the texts of a column; `row` is how many rows of the file lie before it."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        for number, cell in enumerate(column, start=row + 1):
            try:
                cell.as_py()
            except UnicodeDecodeError as error:
                raise UserError(f"{name}: row {number}: not UTF-8 at byte {error.start} of its text") from error
        raise


_READERS = {".csv": _read_csv, ".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
