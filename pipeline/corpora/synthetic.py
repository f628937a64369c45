r"""Source kind `synthetic`: a generated language whose entropy rate is known exactly.

A lexicon of `words` distinct words, each of `word_length` letters, is drawn once. Each word belongs to one of `classes`
classes. The next word depends on the class of the word before it: class c ranks the lexicon in an order of its own,
and the word of rank r follows with the Zipf probability p_r proportional to r^-exponent. After each word the document
ends with probability q = 1 / document_words, otherwise a space follows; a document starts as if a word of class 0 came
before. So a word and what ends it are always word_length + 1 tokens, and cost on average the same whatever came before:

    entropy rate = (H(p) + h(q)) / (word_length + 1)   nats per token,

with H(p) = -sum_r p_r ln p_r and h(q) = -q ln q - (1 - q) ln(1 - q). This is exact, the end of text included, as long
as a token is one character (`data: tokenizer: characters`).

Why it suits scaling laws: there are words * classes facts to learn, used with heavy-tailed frequencies. A model that
knows the k most frequent of each class misses a share of about k^(1 - exponent) of the words, so that the excess of the
loss over the entropy rate falls as a slow power of N and of D, as in language, but towards a floor that is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import UserError

if TYPE_CHECKING:
    from datasets import IterableDataset

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
DOCUMENTS = 1000  # documents a shard


class Language:
    """The synthetic language of this module.

    Parameters
    ----------
    words : int
        Size of the lexicon, at most letters^word_length.
    classes : int
        Number of classes of words, at least 1.
    letters : int
        Size of the alphabet, 2 to 62. With the space and the end of text, tokens have letters + 2 values.
    word_length : int
        Letters a word.
    exponent : float
        Zipf exponent, positive; about 1.1 to 1.5 gives a heavy tail.
    document_words : float
        Mean number of words of a document, above 1.
    seed : int
        Draws the lexicon, the classes and their orders.

    Examples
    --------
    Two equally likely words of one letter, in long documents, cost ln 2 nats every two tokens:

    >>> language = Language(2, 1, 2, 1, exponent=1e-9, document_words=1e9, seed=0)
    >>> round(language.entropy_rate, 4)  # ln 2 / 2
    0.3466
    """

    def __init__(
        self,
        words: int,
        classes: int,
        letters: int,
        word_length: int,
        exponent: float,
        document_words: float,
        seed: int,
    ) -> None:
        if not 2 <= letters <= len(LETTERS):
            raise UserError(f"letters of a synthetic source: {letters} is not between 2 and {len(LETTERS)}")
        if not 1 <= words <= letters**word_length:
            raise UserError(f"words of a synthetic source: {words} is not between 1 and {letters}^{word_length}")
        self.word_length, self.end = word_length, 1.0 / document_words
        random = _random(seed, "language")
        spellings = random.choice(letters**word_length, size=words, replace=False)
        places = letters ** np.arange(word_length)
        self.lexicon = ["".join(LETTERS[digit] for digit in spelling // places % letters) for spelling in spellings]
        self.word_class = random.integers(classes, size=words)
        self.order = np.stack([random.permutation(words) for _ in range(classes)])  # (classes, words): rank -> word
        weights = np.arange(1, words + 1, dtype=np.float64) ** -exponent
        self.probability = weights / weights.sum()  # (words,): of each rank
        self._cumulative = np.cumsum(self.probability)[:-1]

    @property
    def entropy_rate(self) -> float:
        """Entropy rate in nats per token, by the formula of this module."""
        p, q = self.probability, self.end
        return float((_plogp(p) + _plogp(np.array([q, 1 - q]))) / (self.word_length + 1))

    def documents(self, n: int, seed: int, shard: int) -> Iterator[str]:
        """Yield `n` documents; the same ones for the same `seed` and `shard`."""
        random = _random(seed, "documents", shard)
        lengths = random.geometric(self.end, size=n)  # words a document
        words = np.zeros((n, lengths.max()), dtype=np.int64)
        for position in range(words.shape[1]):
            row = np.flatnonzero(lengths > position)  # documents that go on
            classes = self.word_class[words[row, position - 1]] if position else np.zeros(len(row), dtype=np.int64)
            ranks = np.searchsorted(self._cumulative, random.random(len(row)), side="right")
            words[row, position] = self.order[classes, ranks]
        for row, length in zip(words, lengths, strict=True):
            yield " ".join([self.lexicon[word] for word in row[:length]])


def _plogp(p: np.ndarray) -> float:
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def _random(seed: int, *name: object) -> np.random.Generator:
    """Return a stream of random numbers of its own for a seed and a name."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *"/".join(map(str, name)).encode()])))


def load(source: Mapping[str, Any], downloads: Path) -> tuple[IterableDataset, dict[str, Any]]:
    """Generate about `tokens` tokens of a `Language` with the source's parameters."""
    from datasets import IterableDataset

    names = ("words", "classes", "letters", "word_length", "exponent", "document_words", "seed")
    parameters = {name: source[name] for name in names}
    language = Language(**parameters)
    mean_tokens = source["document_words"] * (language.word_length + 1)
    shards = list(range(max(1, round(source["tokens"] / (mean_tokens * DOCUMENTS)))))
    facts = {"entropy_rate": language.entropy_rate, "vocabulary": source["letters"] + 2}
    return IterableDataset.from_generator(_generate, gen_kwargs={"shards": shards, "parameters": parameters}), facts


def _generate(shards: list[int], parameters: dict[str, Any]) -> Iterator[dict[str, str]]:
    language = Language(**parameters)
    for shard in shards:
        for text in language.documents(DOCUMENTS, parameters["seed"], shard):
            yield {"text": text}
