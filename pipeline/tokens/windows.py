"""Read token files: memory maps, training windows as a pure function of the step, fixed test windows.

Training sees its tokens in epochs. An epoch cuts the first `n_unique_tokens` tokens into windows of n_ctx + 1 tokens,
neighbours sharing one (the last target of one is the first input of the next), starting at an offset drawn for the
epoch, so that windows are not always cut at the same places; and goes through them in an order drawn for the epoch.
The order is a Feistel permutation: it needs no memory however many windows there are, and only integer arithmetic, so
that a run is the same on any machine and for any version of NumPy.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.files import read_json, reading
from pipeline.hashing import mix, text_hash

TOKEN_TYPE = np.dtype("<u2")  # little-endian uint16: at most 65,536 vocabulary entries
_ROUNDS = 6
_CHUNK = 4096  # places of an epoch permuted at a time, so that a step costs microseconds
_MASK = (1 << 64) - 1


def load_tokens(path: str | Path) -> np.ndarray:
    """Map a token file into memory, read-only: an array of uint16 of shape (n_tokens,).

    Raises UserError when the file is missing, empty or of an odd number of bytes.
    """
    path = Path(path)
    size = path.stat().st_size if path.is_file() else 0
    if size == 0 or size % TOKEN_TYPE.itemsize:
        raise UserError(f"{path}: no token file (a whole number of uint16, at least one)")
    return np.memmap(path, dtype=TOKEN_TYPE, mode="r")


def read_tokens_meta(path: str | Path) -> dict[str, Any]:
    """Read meta.json of a folder of token files: the vocabulary, and what each file holds.

    Raises
    ------
    UserError
        When it is missing or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file: make the token files first")
    with reading(path, "the JSON of token files", f"remove it to make {path.parent} again"):
        meta = read_json(path)
        if not isinstance(meta["vocabulary"], int):
            raise ValueError(f"its vocabulary is {meta['vocabulary']!r}")
        for entry in (meta.get("train"), meta.get("test"), *meta.get("transfer", {}).values()):
            if entry is not None and not (isinstance(entry["file"], str) and isinstance(entry["tokens"], int)):
                raise ValueError(f"an entry is {entry!r}")
    return meta


def check_token_files(folder: str | Path, sha256: bool = False, tokens: str | None = None) -> dict[str, Any]:
    """Refuse token files that are not those that meta.json beside them tells of; return what it says.

    Parameters
    ----------
    folder : str or Path
        Folder of the token files.
    sha256 : bool
        Whether to read them through and compare their sha256 as well, and not their sizes alone.
    tokens : str, optional
        The id that they must have, as a run names it.

    Raises
    ------
    UserError
        For a file that is missing, of another size, or of another sha256, and for files of another id.
    """
    folder = Path(folder)
    meta = read_tokens_meta(folder / "meta.json")
    if tokens is not None and meta.get("id", tokens) != tokens:
        raise UserError(
            f"{folder / 'meta.json'}: is of {meta['id']}, not of {tokens}; remove {folder} to make it again"
        )
    for entry in (meta.get("train"), meta.get("test"), *meta.get("transfer", {}).values()):
        if entry is None:  # a folder made by hand
            continue
        path = folder / entry["file"]
        size, expected = path.stat().st_size if path.is_file() else 0, entry["tokens"] * TOKEN_TYPE.itemsize
        if size != expected:
            raise UserError(
                f"{path}: {size:,} bytes, but meta.json beside it says {entry['tokens']:,} tokens, which are "
                f"{expected:,} bytes; remove {folder} to make it again, or copy it whole"
            )
        if sha256 and "sha256" in entry:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != entry["sha256"]:
                raise UserError(f"{path}: not the tokens that meta.json beside it tells of (sha256 {found})")
    return meta


class Windows:
    """Batches of training windows; `batch(step)` depends on nothing but the arguments here and the step.

    Parameters
    ----------
    tokens : ndarray of uint16 of shape (n_tokens,)
        Usually a memory map, see `load_tokens`.
    n_ctx : int
        Context in tokens.
    batch_sequences : int
        Windows a batch.
    n_unique_tokens : int, optional
        Only the first so many tokens are used (documents are stored in random order); all of them by default.
    seed : int
        Draws the offset and the order of each epoch.

    Raises
    ------
    UserError
        When `n_unique_tokens` is more than there are, or less than one window.

    Examples
    --------
    >>> windows = Windows(np.arange(1000, dtype=np.uint16), n_ctx=8, batch_sequences=2, seed=1)
    >>> windows.batch(0).shape
    (2, 9)
    >>> bool((windows.batch(7) == windows.batch(7)).all()), windows.n_windows
    (True, 124)
    """

    def __init__(
        self,
        tokens: np.ndarray,
        n_ctx: int,
        batch_sequences: int,
        n_unique_tokens: int | None = None,
        seed: int = 0,
    ) -> None:
        n_unique = len(tokens) if n_unique_tokens is None else n_unique_tokens
        if not n_ctx + 1 <= n_unique <= len(tokens):
            raise UserError(
                f"n_unique_tokens: {n_unique} is not between n_ctx + 1 = {n_ctx + 1} and the {len(tokens)} tokens "
                f"of {getattr(tokens, 'filename', None) or 'the training set'}"
            )
        self.tokens = np.asarray(tokens[:n_unique])  # a plain view: slicing a memmap is slower
        self.n_ctx, self.batch_sequences, self.seed = n_ctx, batch_sequences, seed
        self.n_windows = max(1, (n_unique - n_ctx) // n_ctx)  # an epoch; leaves room for n_ctx offsets
        self._n_offsets = n_unique - self.n_windows * n_ctx
        self._chunk: tuple[int, int] | None = None
        self._starts = np.empty(0, dtype=np.int64)

    def batch(self, step: int) -> np.ndarray:
        """Return batch number `step` (from 0), a new array of uint16 of shape (batch_sequences, n_ctx + 1)."""
        result = np.empty((self.batch_sequences, self.n_ctx + 1), dtype=self.tokens.dtype)
        first = step * self.batch_sequences
        for row, number in zip(result, range(first, first + self.batch_sequences), strict=True):
            start = self._start(number)
            row[:] = self.tokens[start : start + self.n_ctx + 1]
        return result

    def epoch(self, step: int) -> float:
        """Return how many times the unique tokens were seen before batch `step`."""
        return step * self.batch_sequences / self.n_windows

    def _start(self, number: int) -> int:
        """Return where window `number`, counted over all epochs, starts."""
        epoch, place = divmod(number, self.n_windows)
        chunk = place // _CHUNK
        if self._chunk != (epoch, chunk):
            key = _key(self.seed, epoch)
            places = np.arange(chunk * _CHUNK, min(self.n_windows, (chunk + 1) * _CHUNK), dtype=np.uint64)
            self._starts = key % self._n_offsets + permute(places, self.n_windows, key).astype(np.int64) * self.n_ctx
            self._chunk = (epoch, chunk)
        return int(self._starts[place % _CHUNK])


def permute(places: np.ndarray, n: int, key: int) -> np.ndarray:
    """Return where a random permutation of range(n), chosen by `key`, sends `places`.

    A balanced Feistel network over the smallest even number of bits that holds n; what falls outside range(n) is sent
    on until it falls inside ("cycle walking"). No memory but that of `places`.

    Parameters
    ----------
    places : ndarray of uint64
        Values in range(n).
    n : int
        At most 2^62.
    key : int
        64 bits.

    Examples
    --------
    >>> sorted(permute(np.arange(5, dtype=np.uint64), 5, key=3).tolist())
    [0, 1, 2, 3, 4]
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys = [np.uint64(_mix_int(key + round_)) for round_ in range(_ROUNDS)]
    result = places.astype(np.uint64)
    outside = np.arange(len(result))
    while len(outside):
        left, right = result[outside] >> half, result[outside] & mask
        for round_key in keys:
            left, right = right, left ^ (mix(right ^ round_key) & mask)
        result[outside] = (left << half) | right
        outside = outside[result[outside] >= n]
    return result


def _mix_int(value: int) -> int:
    return int(mix(np.array([(value * 0x9E3779B97F4A7C15) & _MASK], dtype=np.uint64))[0])


def _key(seed: int, epoch: int) -> int:
    return text_hash(f"training windows/{seed}/{epoch}")


def test_windows(tokens: np.ndarray, n_ctx: int, n_tokens: int) -> np.ndarray:
    """Return fixed windows for evaluation, spread evenly over a token file.

    Parameters
    ----------
    tokens : ndarray of uint16
    n_ctx : int
        Context in tokens.
    n_tokens : int
        Targets to score: n_tokens // n_ctx windows, at least one.

    Returns
    -------
    ndarray of uint16 of shape (n_tokens // n_ctx, n_ctx + 1)
        No target is in two windows.

    Raises
    ------
    UserError
        When the file is too short for so many windows.

    Examples
    --------
    >>> test_windows(np.arange(100, dtype=np.uint16), n_ctx=3, n_tokens=6)
    array([[ 0,  1,  2,  3],
           [96, 97, 98, 99]], dtype=uint16)
    """
    n = max(1, n_tokens // n_ctx)
    if len(tokens) < n * n_ctx + 1:
        raise UserError(
            f"test tokens: {n} windows of {n_ctx} tokens need {n * n_ctx + 1}, "
            f"{getattr(tokens, 'filename', None) or 'the test set'} has {len(tokens)}"
        )
    starts = np.arange(n) * (len(tokens) - n_ctx - 1) // max(1, n - 1)
    return np.stack([np.asarray(tokens[start : start + n_ctx + 1]) for start in starts])


test_windows.__test__ = False  # no test, whatever its name
