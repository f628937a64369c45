"""Source kind `hub`: a data set of the Hugging Face hub, streamed at a pinned revision.

Streaming reads only the shards that are used: a slice of 10 GB does not need the disk of the whole. `datasets` 4
and later run no loading scripts, hence the revision `refs/convert/parquet` for data sets that have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from datasets import IterableDataset

TIMEOUT = 10  # seconds that the hub may take to answer
RETRIES = 5  # when a connection breaks while reading; the job itself then goes on at the shard


def load(source: Mapping[str, Any], downloads: Path) -> tuple[IterableDataset, dict[str, Any]]:
    """Stream one split of a data set.

    `source` holds `name` (on the hub, or a local folder laid out like one), `split`, `field` (the text column), and
    optionally `config` and `revision`. The commit that the revision stands for is recorded.

    Raises
    ------
    UserError
        Within seconds when the hub can't be reached; also for an unknown name, revision, split or column.
    """
    name, field = source["name"], source["field"]
    revision = source.get("commit") or source.get("revision")  # a resumed corpus goes on with the commit it began with
    commit = None if Path(name).is_dir() else _commit(name, revision)
    import datasets  # slow, and needless when the hub is out of reach

    datasets.config.STREAMING_READ_MAX_RETRIES = RETRIES
    try:
        documents = datasets.load_dataset(
            name, source.get("config"), split=source["split"], revision=commit, streaming=True
        )
    except Exception as error:  # no such split or files; a loading script; a README whose head is no YAML; and so on
        raise UserError(f"hub source {name}: {error}") from error
    columns = documents.column_names
    if columns and field not in columns:
        raise UserError(f"field of hub source {name}: no column {field!r}; it has {', '.join(columns)}")
    documents = documents.select_columns([field])
    if field != "text":
        documents = documents.rename_column(field, "text")
    return documents, {"commit": commit}


def _commit(name: str, revision: str | None) -> str:
    """Ask the hub for the commit of a revision: the cheapest question that tells whether it can be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        return api.dataset_info(name, revision=revision, timeout=TIMEOUT).sha
    except HfHubHTTPError as error:  # it answered, and refused
        raise UserError(f"hub source {name}, revision {revision}: {error} (and there is no folder {name})") from error
    except HFValidationError as error:
        raise UserError(
            f"hub source {name}: there is no such folder, and it can't be the name of a data set ({error})"
        ) from error
    except Exception as error:  # the exception's class depends on the HTTP library that the hub's client uses
        raise UserError(
            f"hub source {name}: {api.endpoint} can't be reached ({error}); set HF_ENDPOINT to a mirror, or the "
            "source's `name` to a local folder (it is none now), or `data: train` and `data: transfer` to corpora of "
            "another kind"
        ) from error
