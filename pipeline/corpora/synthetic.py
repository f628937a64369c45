r"""Source kind `synthetic`: a generated language whose entropy rate is known exactly.

A lexicon of distinct words is drawn once, and each word is given one of `classes` classes. The next word depends on the
class of the word before it: class c ranks the lexicon in an order of its own, and the word of rank r follows with the
Zipf probability p_r proportional to r^-exponent. Whatever the class, the word of rank r has the same number of letters
l_r (`word_lengths`, in turn). After each word the document ends with probability q = 1 / document_words, otherwise a
space follows; a document starts as if a word of class 0 came before. So whatever came before, a word and the token
after it take the same number of tokens on average and cost the same:

    entropy rate = (H(p) + h(q)) / (1 + sum_r p_r l_r)   nats per token,

with H(p) = -sum_r p_r ln p_r and h(q) = -q ln q - (1 - q) ln(1 - q). This is exact, the end of text included, as long
as a token is one character (`data: tokenizer: characters`).

Why it suits scaling laws: there are words * classes facts to learn, used with heavy-tailed frequencies. A model that
knows the k most frequent of each class misses a share of about k^(1 - exponent) of the words, so that the excess of the
loss over the entropy rate falls as a slow power of N and of D, as in language, but towards a floor that is known. And
why words differ in length: were they all of one length, a window cut at a multiple of it would tell a model by position
alone which letter comes next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
        Size of the lexicon.
    classes : int
        Number of classes of words, at least 1.
    letters : int
        Size of the alphabet, 2 to 62. With the space and the end of text, tokens have letters + 2 values.
    word_lengths : sequence of int
        Letters of the words of rank 1, 2, ..., and again from the start. No more than letters^l words may have l.
    exponent : float
        Zipf exponent, positive; about 1.1 to 1.5 gives a heavy tail.
    document_words : float
        Mean number of words of a document, above 1.
    seed : int
        Draws the lexicon, the classes and their orders.

    Examples
    --------
    Two equally likely words of one letter, in long documents, cost ln 2 nats every two tokens:

    >>> language = Language(2, 1, 2, [1], exponent=1e-9, document_words=1e9, seed=0)
    >>> round(language.entropy_rate, 4)  # ln 2 / 2
    0.3466
    """

    def __init__(
        self,
        words: int,
        classes: int,
        letters: int,
        word_lengths: Sequence[int],
        exponent: float,
        document_words: float,
        seed: int,
    ) -> None:
        if not 2 <= letters <= len(LETTERS):
            raise UserError(f"letters of a synthetic source: {letters} is not between 2 and {len(LETTERS)}")
        self.end = 1.0 / document_words
        self.lengths = np.resize(word_lengths, words)  # (words,): letters of the word of each rank
        random = _random(seed, "language")
        self.lexicon = _draw_words(random, self.lengths, letters)  # as many of each length as ranks of that length
        self.word_class = random.integers(classes, size=words)
        self.order = np.tile(np.arange(words), (classes, 1))  # (classes, words): rank -> word
        for order in self.order:
            for length in set(word_lengths):
                ranks = np.flatnonzero(self.lengths == length)
                order[ranks] = random.permutation(ranks)
        weights = np.arange(1, words + 1, dtype=np.float64) ** -exponent
        self.probability = weights / weights.sum()  # (words,): of each rank
        self._cumulative = np.cumsum(self.probability)[:-1]

    @property
    def word_tokens(self) -> float:
        """Mean tokens of a word and what follows it: a space or the end of the document."""
        return 1.0 + float(self.probability @ self.lengths)

    @property
    def entropy_rate(self) -> float:
        """Entropy rate in nats per token, by the formula of this module."""
        p, q = self.probability, self.end
        return (_entropy(p) + _entropy(np.array([q, 1 - q]))) / self.word_tokens

    def window_excess(self, samples: int = 20_000, seed: int = 0) -> float:
        """Return what not knowing the past costs the best predictor of a long window, in nats a window.

        A window starts at any token of a word. Its predictor does not know which word that is, nor the class before it,
        and both are beyond doubt once the next whole word has ended. The excess is the mean of ln p(with the past) -
        ln p(without) of the tokens up to there, over random starts: exact but for sampling (about 0.02 nats).
        """
        random, words, classes = _random(seed, "window excess"), len(self.lexicon), len(self.order)
        p = np.empty((classes, words))  # of the next word, by the class before it
        np.put_along_axis(p, self.order, self.probability[None, :], axis=1)
        step = np.stack([np.bincount(self.word_class, row, minlength=classes) for row in p]) * (1 - self.end)
        step[:, 0] += self.end
        stationary = np.linalg.matrix_power(step, 1000)[0]  # (classes,): of the class before a word
        joint = stationary[:, None] * p  # (classes, words)
        ends: dict[str, np.ndarray] = {}  # the end of a word -> (classes,): probability of it, by the word's class
        starts: dict[str, np.ndarray] = {}  # the start of a word -> (classes,): its probability after each class
        for word, spelling in enumerate(self.lexicon):
            for cut in range(len(spelling) + 1):
                end = ends.setdefault(spelling[cut:], np.zeros(classes))
                end[self.word_class[word]] += joint[:, word].sum() / self.word_tokens
                starts.setdefault(spelling[:cut], np.zeros(classes))[:] += p[:, word]
        # A start is uniform over tokens, so a word is met in proportion to its tokens.
        weights = (joint * (1 + self.lengths)).ravel()
        before, word = np.divmod(random.choice(weights.size, samples, p=weights / weights.sum()), words)
        total = 0.0
        for c, w in zip(before, word, strict=True):
            cut = random.integers(self.lengths[w] + 1)
            first, rest = self.lexicon[w][:cut], self.lexicon[w][cut:]
            belief = ends[rest]
            after = self.word_class[w]
            if random.random() < self.end:  # the document ends, which tells the class
                belief, after = np.where(np.arange(classes) == 0, belief.sum(), 0.0), 0
            following = self.order[after, np.searchsorted(self._cumulative, random.random(), side="right")]
            total += np.log(p[c, w] / starts[first][c] * p[after, following]) - np.log(belief @ p[:, following])
        return float(total / samples)

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


def _draw_words(random: np.random.Generator, lengths: np.ndarray, letters: int) -> list[str]:
    """Return different random words of these lengths."""
    words = np.empty(len(lengths), dtype=object)
    for length in sorted(set(lengths.tolist())):
        places = np.flatnonzero(lengths == length)
        if len(places) > letters**length:
            raise UserError(
                f"words of a synthetic source: {len(places)} of {length} letters are more than the {letters}^{length} "
                "there are; lower words, or raise letters or word_lengths"
            )
        for place, spelling in zip(places, random.choice(letters**length, len(places), replace=False), strict=True):
            words[place] = "".join(LETTERS[spelling // letters**digit % letters] for digit in range(length))
    return words.tolist()


def _entropy(p: np.ndarray) -> float:
    """Return the entropy of a distribution in nats."""
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def _random(seed: int, *name: object) -> np.random.Generator:
    """Return a stream of random numbers of its own for a seed and a name."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *"/".join(map(str, name)).encode()])))


def load(source: Mapping[str, Any], downloads: Path) -> tuple[IterableDataset, dict[str, Any]]:
    """Generate about `tokens` tokens of a `Language` with the source's parameters."""
    from datasets import IterableDataset

    names = ("words", "classes", "letters", "word_lengths", "exponent", "document_words", "seed")
    parameters = {name: source[name] for name in names}
    language = Language(**parameters)
    shard_tokens = DOCUMENTS * source["document_words"] * language.word_tokens
    shards = list(range(max(1, round(source["tokens"] / shard_tokens))))
    facts = {"entropy_rate": language.entropy_rate, "window_excess": language.window_excess()}
    return IterableDataset.from_generator(_generate, gen_kwargs={"shards": shards, "parameters": parameters}), facts


def _generate(shards: list[int], parameters: dict[str, Any]) -> Iterator[dict[str, str]]:
    language = Language(**parameters)
    for shard in shards:
        for text in language.documents(DOCUMENTS, parameters["seed"], shard):
            yield {"text": text}
