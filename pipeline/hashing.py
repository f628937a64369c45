"""Hashes that stay the same on every machine and for every version of Python and NumPy."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def text_hash(text: str, number: int = 0) -> int:
    """Return 64 bits that stand for a text; `number` tells equal texts apart where they must be.

    Examples
    --------
    >>> text_hash("a") == text_hash("a"), text_hash("a") == text_hash("a", 1)
    (True, False)
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8, salt=number.to_bytes(8, "little")).digest(), "little")


def mix(values: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers one to one (the finaliser of SplitMix64): near numbers in, unrelated numbers out.

    Parameters
    ----------
    values : ndarray of uint64

    Returns
    -------
    ndarray of uint64

    References
    ----------
    .. [1] Steele, Lea, Flood 2014, Fast Splittable Pseudorandom Number Generators, OOPSLA.

    Examples
    --------
    >>> mix(np.array([0, 1, 2], dtype=np.uint64))
    array([                   0,  6238072747940578789, 15839785061582574730], dtype=uint64)
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
