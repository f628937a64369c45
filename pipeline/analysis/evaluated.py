"""Rows of an evaluation table that figures share: mean loss by corpus, and loss by position.

An evaluation table has one row a (run, step, corpus, position). Corpus "test" is text like that of the training,
"train" is training text itself, and every other corpus was never trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.errors import UserError

IN_DISTRIBUTION = ("train", "test")
"""Corpora that are not transfer."""


def transfer_corpora(table: pd.DataFrame) -> list[str]:
    """Return the corpora that were never trained on, the nearest to the test text (lowest loss) first."""
    others = table[~table.corpus.isin(IN_DISTRIBUTION)]
    return others.groupby("corpus").loss.mean().sort_values(kind="stable").index.tolist()


def mean_by_corpus(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a (run, step, corpus): the mean loss over positions, weighted by the tokens behind each.

    Examples
    --------
    >>> rows = {"run": "a", "step": 9, "corpus": "test", "position": [1, 2], "loss": [4.0, 3.0], "n": [1, 3]}
    >>> mean_by_corpus(pd.DataFrame(rows)).to_dict("records")
    [{'run': 'a', 'step': 9, 'corpus': 'test', 'loss': 3.25}]
    """
    keys = ["run", "step", "corpus"]
    sums = table.assign(total=table.loss * table.n).groupby(keys)[["total", "n"]].sum()
    rows = table.drop_duplicates(keys).drop(columns=["position", "loss", "n"]).set_index(keys)
    return rows.join((sums.total / sums.n).rename("loss")).sort_index().reset_index()


def final_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each run's last weights."""
    return table[table.final]


def on_corpus(table: pd.DataFrame, corpus: str, sweep: str) -> pd.DataFrame:
    """Return the rows of one corpus.

    Raises
    ------
    UserError
        When the evaluations of `sweep` have none.
    """
    rows = table[table.corpus == corpus]
    if rows.empty:
        raise UserError(f"evaluations of sweep {sweep} lack the corpus {corpus!r}; there are {_names(table.corpus)}")
    return rows


def positions_of(n_ctx: int, wanted: Sequence[int] = (1, 2, 4, 8, 16, 64, 256, 1024)) -> list[int]:
    """Return the positions, from 1, that a figure shows of a context: the paper's, and the last.

    Examples
    --------
    >>> positions_of(128), positions_of(8)
    ([1, 2, 4, 8, 16, 64, 128], [1, 2, 4, 8])
    """
    return [position for position in wanted if position < n_ctx] + [n_ctx]


def by_position(table: pd.DataFrame, per_octave: int = 3) -> pd.DataFrame:
    """Return the loss by position, averaged over models' repeats and, late in the context, over neighbours.

    Single positions are noisy where thousands of tokens are not: from the 8th position on, `per_octave` bins an
    octave hold means over their positions, at their geometric mean.

    Parameters
    ----------
    table
        Rows of one model, one corpus and one step: position, loss, n. Several runs are averaged.

    Returns
    -------
    DataFrame
        position, loss; sorted by position.

    Examples
    --------
    >>> flat = pd.DataFrame({"position": range(1, 17), "loss": 3.0, "n": 10})
    >>> by_position(flat).position.round(1).tolist()
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0, 11.5, 14.0, 16.0]
    """
    position = table.position.to_numpy(float)
    edge = np.floor(per_octave * np.log2(position / 8) + 1e-9)
    bins = np.where(position < 8, position, 8 + edge)
    grouped = pd.DataFrame(
        {"bin": bins, "log": np.log(position) * table.n, "total": table.loss * table.n, "n": table.n}
    )
    sums = grouped.groupby("bin").sum()
    return pd.DataFrame({"position": np.exp(sums.log / sums.n), "loss": sums.total / sums.n}).reset_index(drop=True)


def _names(values: pd.Series) -> str:
    return ", ".join(sorted(values.unique())) or "none"
