"""Source kind `hub`: a data set of the Hugging Face hub, streamed at a pinned revision.

Streaming reads only the shards that are used: a slice of 10 GB does not need the disk of the whole. `datasets` 4
and later run no loading scripts, hence the revision `refs/convert/parquet` for data sets that have one.

A hub that has answered once may go away for minutes: it is asked again after each of `PAUSES`, and a stream goes on
after the last batch that came whole.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import UserError

if TYPE_CHECKING:
    from datasets import IterableDataset

TIMEOUT = 10  # seconds that the hub may take to answer
PAUSES = (10, 20, 40, 60, 60, 60, 60, 60)  # seconds; before each the client has tried a request 6 times, for 23 seconds
NETWORK = ("aiohttp", "httpcore", "httpx", "httpx2", "requests", "urllib3")  # what versions of the client are built on
TOKEN = "If it is private or gated, set HF_TOKEN to a token that may read it."

Answer = TypeVar("Answer")

log = logging.getLogger("pipeline.corpora")


def load(source: Mapping[str, Any], downloads: Path) -> tuple[Stream, dict[str, Any]]:
    """Stream one split of a data set.

    `source` holds `name` (on the hub, or a local folder laid out like one), `split`, `field` (the text column), and
    optionally `config` and `revision`. The commit that the revision stands for is recorded.

    Raises
    ------
    UserError
        Within seconds when the hub can't be reached; also for an unknown name, revision, split or column, and for a hub
        that goes on failing through all of `PAUSES`.
    """
    name, field = source["name"], source["field"]
    where = f"hub source {name}"
    revision = source.get("commit") or source.get("revision")  # a resumed corpus goes on with the commit it began with
    commit = None if Path(name).is_dir() else _patiently(where, lambda: _commit(name, revision))
    import datasets  # slow, and needless when the hub is out of reach
    import huggingface_hub.utils

    for library in (datasets, huggingface_hub):
        library.utils.logging.disable_propagation()  # they write their warnings themselves: not twice
    # Once each: in a compressed stream the library's own next try goes on behind bytes that were lost.
    datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = 1

    def open_it() -> IterableDataset:
        _limit_waiting()
        # An empty cache: from the user's own, a copy of another commit would stand in for a hub that fails.
        with TemporaryDirectory() as cache:
            options = {"split": source["split"], "revision": commit, "cache_dir": cache, "streaming": True}
            try:
                return datasets.load_dataset(name, source.get("config"), **options)
            except datasets.exceptions.DatasetNotFoundError as error:  # the hub told of it, and will not give its files
                raise UserError(f"{where}: {error} {TOKEN}") from error

    documents = _patiently(where, open_it)
    columns = documents.column_names
    if columns and field not in columns:
        raise UserError(f"field of {where}: no column {field!r}; it has {', '.join(columns)}")
    documents = documents.select_columns([field])
    if field != "text":
        documents = documents.rename_column(field, "text")
    return Stream(documents, where), {"commit": commit}


class Stream:
    """Documents of a data set, read through the failures of a hub.

    Parameters
    ----------
    dataset : datasets.IterableDataset
        With one column, `text`.
    where : str
        The source, for messages.
    """

    def __init__(self, dataset: IterableDataset, where: str) -> None:
        self.dataset, self.where = dataset, where
        self.state: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any] | None:
        """Return the place after the last batch, from which reading can go on."""
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a place."""
        self.state = state
        self.dataset.load_state_dict(state)

    def iter(self, batch_size: int) -> Iterator[dict[str, list[str]]]:
        """Yield batches of documents, each once and in order.

        Raises
        ------
        UserError
            When the data can't be read, or the hub goes on failing through all of `PAUSES`.
        """
        read, patience = 0, _Patience(self.where)
        while True:
            try:
                for batch in self.dataset.iter(batch_size=batch_size):
                    self.state = self.dataset.state_dict()
                    read, patience = read + len(batch["text"]), _Patience(self.where)
                    yield batch
                return
            except Exception as error:  # of many classes: that of the format's reader, of the network, of the library
                patience.wait(error, f"can't be read on after {read:,} documents")
                if self.state is not None:
                    self.dataset.load_state_dict(self.state)


class _Patience:
    """The pauses that are left before a failing hub is given up."""

    def __init__(self, where: str) -> None:
        self.where, self.left = where, list(PAUSES)

    def wait(self, error: Exception, what: str) -> None:
        """Wait for the next try, or raise the error as one line: it will come again, or came too often."""
        from huggingface_hub.constants import ENDPOINT

        failure = _failure(error)
        if failure is None:
            raise UserError(f"{self.where}: {what}: {_said(error)}") from error
        if not self.left:
            raise UserError(
                f"{self.where}: {what}: {_said(failure)}; tried {len(PAUSES) + 1} times in a row: start it again when "
                f"{ENDPOINT} is well, and it goes on after its last whole file"
            ) from error
        pause = self.left.pop(0)
        log.warning("%s: %s: %s; next try in %d s", self.where, what, _said(failure), pause)
        time.sleep(pause)


def _patiently(where: str, ask: Callable[[], Answer]) -> Answer:
    """Return what `ask` returns, once the hub is well."""
    patience = _Patience(where)
    while True:
        try:
            return ask()
        except UserError:
            raise
        except Exception as error:  # no such split or files; a loading script; a README whose head is no YAML; ...
            patience.wait(error, "can't be opened")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those behind it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of the answer that an error is about."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _failure(error: Exception) -> BaseException | None:
    """Return what is behind an error if it may pass: a failure of the network, or of a hub that is ill or busy."""
    found = None
    for cause in _chain(error):
        if status := _status(cause):
            return cause if status in (408, 429) or status >= 500 else None
        if isinstance(cause, (ConnectionError, TimeoutError)):
            found = cause  # perhaps of the library, with a better one behind it
        elif any(base.__module__.split(".")[0] in NETWORK for base in type(cause).__mro__):
            return cause
    return found


def _said(error: BaseException) -> str:
    """Return an error's message, on one line and not too long."""
    said = " ".join(str(error).split()).split(" For more information check:")[0] or type(error).__name__
    return said if len(said) <= 1000 else f"{said[:1000]} ..."


def _limit_waiting() -> None:
    """Let the client wait for the tree of files, for which it has no limit, as long as for any other answer."""
    from huggingface_hub.utils import get_session

    def limit(request: Any) -> None:
        timeout = request.extensions["timeout"]
        request.extensions["timeout"] = {what: seconds or TIMEOUT for what, seconds in timeout.items()}

    get_session().event_hooks["request"].append(limit)


def _commit(name: str, revision: str | None) -> str:
    """Ask the hub for the commit of a revision: the cheapest question that tells whether it can be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RevisionNotFoundError

    api = HfApi()
    try:
        return api.dataset_info(name, revision=revision, timeout=TIMEOUT).sha
    except RevisionNotFoundError as error:
        refs = api.list_repo_refs(name, repo_type="dataset")
        known = (
            [ref.name for ref in refs.branches] + [ref.ref for ref in refs.converts] + [ref.name for ref in refs.tags]
        )
        raise UserError(f"hub source {name}: no revision {revision!r}; it has {', '.join(known)}") from error
    except HfHubHTTPError as error:  # it answered, and refused
        if _failure(error):
            raise
        advice = f" {TOKEN}" if _status(error) in (401, 403) else ""
        raise UserError(
            f"hub source {name}, revision {revision}: {_said(error)} (and there is no folder {name}){advice}"
        ) from error
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
