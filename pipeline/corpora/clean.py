"""Clean documents and drop what repeats, in a stream and in bounded memory."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipeline.hashing import mix, text_hash

_NOTHING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\ufeff\ufffd\ud800-\udfff]")  # stand for no character
_NEWLINE = re.compile(r"\r\n?|\u2028|\u2029")
# UTF-8 once read as Windows-1252: "Â£" for "£", "â€œ" for a quotation mark. Each of its characters stands for one byte.
_BYTE = {bytes([b]).decode("cp1252", "ignore") or chr(b): b for b in range(0x80, 0x100)}
_CONTINUATION = "[" + "".join(re.escape(character) for character, b in _BYTE.items() if b < 0xC0) + "]"
_MISREAD = re.compile(f"[ÂÃ]{_CONTINUATION}|â{_CONTINUATION}{{2}}")
_TRAILING = re.compile(r"[^\S\n]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")
_HTML_PARAGRAPH = re.compile(r"</?(?:p|ul|ol|dl|div|note|important|h[1-6]|pre|table)\b[^>]*>", re.IGNORECASE)
_HTML_LINE = re.compile(r"<(?:br|li|dt|dd|tr)\b[^>]*>", re.IGNORECASE)
_HTML_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def clean_text(text: str, layout: str = "prose") -> str:
    r"""Normalise newlines and spaces of one document, and repair characters that were read in a wrong encoding.

    Parameters
    ----------
    text : str
    layout : {"prose", "code", "html"}
        prose: runs of spaces become one, lines are stripped. code: indentation and inner spaces are kept. html: tags
        are dropped or become line and paragraph breaks, character references are resolved, then as prose.

    Examples
    --------
    >>> clean_text("One\u00a0 line. \r\n\r\n\r\n\r\n Two. ")
    'One line.\n\nTwo.'
    >>> clean_text("It cost Â£5.")
    'It cost £5.'
    >>> clean_text("<p>Stops &amp; <b>starts</b>:</p> <ul> <li>now</li> <li>later</li> </ul>", layout="html")
    'Stops & starts:\n\nnow\nlater'
    """
    if layout == "html":
        text = _HTML_PARAGRAPH.sub("\n\n", _HTML_LINE.sub("\n", " ".join(text.split())))
        text = html.unescape(_HTML_TAG.sub("", text))
    text = _MISREAD.sub(_reread, text)
    text = _NOTHING.sub("", _NEWLINE.sub("\n", text))
    if layout == "code":
        return _BLANK_LINES.sub("\n\n\n", _TRAILING.sub("", text)).strip("\n")
    text = "\n".join(" ".join(line.split()) for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", text).strip()


def _reread(match: re.Match[str]) -> str:
    return bytes(_BYTE[character] for character in match[0]).decode("utf-8", "replace")


def split_text(text: str, most: int) -> list[str]:
    """Cut a text into pieces of at most `most` characters: at a paragraph's end, else a line's, else a word's.

    It is cut near its middle, and so is each half, until all are short enough: pieces of like size, none a scrap.

    Examples
    --------
    >>> split_text("One two three.\\n\\nFour five.\\nSix.", 20)
    ['One two three.', 'Four five.\\nSix.']
    >>> split_text("abcdefgh", 3)
    ['ab', 'cd', 'ef', 'gh']
    """
    if len(text) <= most:
        return [text]
    middle, reach = len(text) // 2, len(text) // 4
    cut, mark = middle, ""
    for mark in ("\n\n", "\n", " ", ""):
        before, after = text.rfind(mark, middle - reach, middle), text.find(mark, middle, middle + reach)
        places = [place for place in (before, after) if place >= 0]
        if mark and places:
            cut = min(places, key=lambda place: abs(place - middle))
            break
    halves = text[:cut].rstrip(), text[cut + len(mark) :].lstrip("\n")
    return [piece for half in halves if half for piece in split_text(half, most)]


class SeenFilter:
    """Which 64-bit hashes were seen: a Bloom filter, so that memory is fixed at any corpus size.

    It never forgets; it wrongly takes a new text for a seen one with probability
    (1 - exp(-PROBES n / (8 n_bytes)))^PROBES after n texts: 2e-6 for a million in 4 MB.

    Parameters
    ----------
    n_bytes : int
        Size of the table.

    Examples
    --------
    >>> seen = SeenFilter(1024)
    >>> keys = np.array([5, 9, 5], dtype=np.uint64)
    >>> seen.add(keys[:1])
    >>> seen.contains(keys)
    array([ True, False,  True])
    """

    PROBES = 6

    def __init__(self, n_bytes: int) -> None:
        self._table = np.zeros(n_bytes, dtype=np.uint8)

    def _places(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probes = np.arange(1, self.PROBES + 1, dtype=np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
        bits = mix(keys + probes) % np.uint64(8 * len(self._table))  # (PROBES, n_keys)
        return bits >> np.uint64(3), np.uint8(1) << (bits & np.uint64(7)).astype(np.uint8)

    def add(self, keys: np.ndarray) -> None:
        """Remember hashes, an array of uint64."""
        np.bitwise_or.at(self._table, *self._places(keys))

    def contains(self, keys: np.ndarray) -> np.ndarray:
        """Return for each hash whether it was added before, an array of bool."""
        places, masks = self._places(keys)
        return ((self._table[places] & masks) != 0).all(axis=0)


class Cleaner:
    """Clean batches of documents and drop repeated and short ones; the first of equal texts is kept.

    Parameters
    ----------
    deduplicate : {"paragraphs", "documents", "nothing"}
        What is compared, exactly (by a 64-bit hash). Paragraphs are what blank lines separate.
    min_characters : int
        Shorter documents are dropped, after repeated paragraphs were.
    filter_bytes : int
        Memory of the table of texts seen, see `SeenFilter`.

    A call takes the documents as they came, their layout (see `clean_text`), and `longer` and `most`: documents of
    more than `longer` characters are cut into pieces of at most `most` (`split_text`), documents from then on.
    """

    def __init__(self, deduplicate: str, min_characters: int, filter_bytes: int) -> None:
        self.deduplicate, self.min_characters = deduplicate, min_characters
        self._seen = SeenFilter(filter_bytes)

    def _units(self, text: str) -> list[str]:
        return text.split("\n\n") if self.deduplicate == "paragraphs" else [text]

    def remember(self, texts: Sequence[str]) -> None:
        """Count kept documents as seen: how a resumed corpus gets its memory back."""
        if self.deduplicate != "nothing":
            keys = [text_hash(unit) for text in texts for unit in self._units(text)]
            self._seen.add(np.array(keys, dtype=np.uint64))

    def __call__(
        self, texts: Sequence[str], layout: str, longer: float = float("inf"), most: int = 0
    ) -> tuple[list[str], Counter[str]]:
        """Return the documents kept, cleaned and in order, and the counts of what was dropped by reason."""
        texts = [clean_text(text, layout) for text in texts]
        if any(len(text) > longer for text in texts):
            texts = [piece for text in texts for piece in (split_text(text, most) if len(text) > longer else [text])]
        dropped: Counter[str] = Counter()
        if self.deduplicate != "nothing":
            texts = self._without_repeats(texts, dropped)
        kept = [text for text in texts if len(text) >= self.min_characters and text]
        dropped["short documents"] += len(texts) - len(kept)
        self.remember(kept)
        return kept, dropped

    def _without_repeats(self, texts: list[str], dropped: Counter[str]) -> list[str]:
        units = [self._units(text) for text in texts]
        keys = np.array([text_hash(unit) for document in units for unit in document], dtype=np.uint64)
        new = np.zeros(len(keys), dtype=bool)
        new[np.unique(keys, return_index=True)[1]] = True  # the first of equals within this batch
        new &= ~self._seen.contains(keys)
        result, start = [], 0
        for document in units:
            fresh = [unit for unit, is_new in zip(document, new[start : start + len(document)], strict=True) if is_new]
            start += len(document)
            dropped[f"repeated {self.deduplicate}"] += len(document) - len(fresh)
            if fresh:
                result.append("\n\n".join(fresh))
            elif self.deduplicate == "paragraphs":
                dropped["documents of repeated paragraphs only"] += 1
        return result
