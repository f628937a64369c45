"""Source kind `files`: the user's own text, named by a glob."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpora.formats import read_documents
from pipeline.corpora.local import paths_of
from pipeline.errors import UserError

if TYPE_CHECKING:
    from datasets import IterableDataset


def load(source: Mapping[str, Any], downloads: Path) -> tuple[IterableDataset, dict[str, Any]]:
    """Stream the documents of all files that match `path`, in the order of their names.

    `source` holds `path` (a glob, `**` for any depth, see `pipeline.corpora.local.paths_of`) and, for csv, json, jsonl
    and parquet, `field`; see `pipeline.corpora.formats.read_documents`. Raises UserError when no file matches.
    """
    from datasets import IterableDataset

    paths = paths_of(source["path"])
    arguments = {"paths": paths, "field": source.get("field"), "depth": source.get("depth", 1)}
    return IterableDataset.from_generator(_generate, gen_kwargs=arguments), {"files": len(paths)}


def _generate(paths: list[str], field: str | None, depth: int) -> Iterator[dict[str, str]]:
    for path in paths:
        try:
            with open(path, "rb") as stream:
                for text in read_documents(path, stream, field, depth):
                    yield {"text": text}
        except OSError as error:
            raise UserError(f"{path}: can't be read ({error.strerror or error})") from error
