"""Claims 6 and 18: other text, and the place in the context (section 3.2.2, appendices D.5 and D.8)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from pipeline.analysis.evaluated import mean_by_corpus, transfer_corpora
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import longest
from pipeline.claims import measure
from pipeline.claims.verdict import Claim, Number, Undecided, check, near
from pipeline.laws import FORMULAS

NOT_PROSE = ("code", "documentation", "tweets")
"""Corpora of this repository that are no prose: shown beside the paper's kind of text, and not tested (docs/paper.md,
claim 6)."""
SAME_OFFSET = 0.05
"""Nats within which two offsets are the same: the width of the lines on Figures 8 and 24 (docs/paper.md, claim 6)."""
FIRST_TOKENS = 4
"""Places in the context that are its first tokens: half of the short context of 8 (docs/paper.md, claim 18)."""
SHORT_RANGE = 8
"""Places up to here are predicted from the short range: the paper's short context (docs/paper.md, claim 18)."""


# Claim 6


def _losses(
    given: Inputs, name: str, chosen: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows
) -> pd.DataFrame:
    """Return one row a (run, step) of an evaluated sweep: `test`, and a column of mean loss for each other corpus."""
    table = mean_by_corpus(chosen(measure.evaluations(given, name)))
    corpora = transfer_corpora(table)
    if not corpora or "test" not in set(table["corpus"]):
        raise Undecided(f"the evaluated sweep {name} lacks the test corpus or any other")
    wide = table.pivot(index=["run", "step"], columns="corpus", values="loss")[["test", *corpora]]
    about = table.drop_duplicates(["run", "step"]).set_index(["run", "step"])[
        ["n_layer", "n_params", "final", "fitted"]
    ]
    return wide.join(about).reset_index()


def _corpora(table: pd.DataFrame) -> list[str]:
    """Return the texts that are tested: those of the paper's kind.

    Raises
    ------
    Undecided
        When there are none.
    """
    known = {"run", "step", "test", "n_layer", "n_params", "final", "fitted"}
    found = [column for column in table.columns if column not in known and column not in NOT_PROSE]
    if not found:
        raise Undecided("there is no other prose")
    return found


def _farthest(numbers: list[Number], centre: float) -> Number:
    return max(numbers, key=lambda number: abs(number.value - centre))


def _converged(given: Inputs) -> pd.DataFrame:
    table = _losses(given, "sizes", longest)
    table = table[table["final"] & table["fitted"]]
    if table["n_params"].nunique() < 3:
        raise Undecided(f"{table['n_params'].nunique()} evaluated sizes; 3 are needed")
    return table


@check("slope of other losses against the test loss, the farthest from 1", "sizes", **near(1.0))
def transfer_slope(given: Inputs) -> Number:
    table = _converged(given)
    return _farthest([measure.slope(table["test"], table[corpus]) for corpus in _corpora(table)], 1.0)


@check(
    "loss during training over converged models of equal test loss, the farthest",
    "one_large",
    least=-SAME_OFFSET,
    most=SAME_OFFSET,
)
def transfer_by_phase(given: Inputs) -> Number:
    converged = _converged(given).groupby("n_params").mean(numeric_only=True).sort_values("test")
    during = _losses(given, "one_large")
    low, high = converged["test"].iloc[[0, -1]]
    during = during[(during["test"] >= low) & (during["test"] <= high) & ~during["final"]]
    if len(during) < 3:
        raise Undecided(f"{len(during)} checkpoints with test losses of converged models; 3 are needed")
    away = [
        measure.mean(during[corpus] - np.interp(during["test"], converged["test"], converged[corpus]))
        for corpus in _corpora(during)
        if corpus in converged
    ]
    return _farthest(away, 0.0)


@check(
    "change of other losses less the test loss in a decade of depth, the farthest",
    "transfer",
    least=-SAME_OFFSET,
    most=SAME_OFFSET,
)
def transfer_by_depth(given: Inputs) -> Number:
    table = _losses(given, "transfer")
    table = table[table["final"]]
    if table["n_layer"].nunique() < 3:
        raise Undecided(f"{table['n_layer'].nunique()} evaluated depths; 3 are needed")
    depth = np.log10(table["n_layer"])
    return _farthest([measure.slope(depth, table[corpus] - table["test"]) for corpus in _corpora(table)], 0.0)


# Claim 18


def _by_position(given: Inputs, name: str) -> pd.DataFrame:
    """Return the final test losses by run and position of a sweep's models with layers."""
    rows = measure.evaluations(given, name)
    rows = rows[(rows["corpus"] == "test") & rows["final"] & (rows["n_layer"] > 0)]
    if rows.empty:
        raise Undecided(f"the evaluated sweep {name} has no final test losses")
    return rows


def _sizes(given: Inputs) -> pd.DataFrame:
    rows = longest(_by_position(given, "sizes"))
    rows = rows[rows["fitted"]]
    if rows["n_params"].nunique() < 3:
        raise Undecided(f"{rows['n_params'].nunique()} evaluated sizes; 3 are needed")
    return rows


@check("growth of the exponent of the loss by position in a decade of N", "sizes", least=0)
def position_exponent_grows(given: Inputs) -> Number:
    x, y = [], []
    for _, rows in _sizes(given).groupby("run"):
        fit = FORMULAS["position"].fit(rows[["position", "loss"]].astype(float), n_boot=0)
        if fit.identified:
            x.append(math.log10(rows["n_params"].iloc[0]))
            y.append(fit.value("c"))
    if len(y) < 3:
        raise Undecided(f"a power law of the position is identified for {len(y)} runs; 3 are needed")
    return measure.slope(x, y)


@check("change of the loss in a decade of N, of the position that gains least after the first", "sizes", most=0)
def every_token_but_the_first_improves(given: Inputs) -> Number:
    rows = _sizes(given)
    last = int(rows["n_ctx"].iloc[0])
    octave = np.floor(np.log2(rows["position"]))
    rows = rows[rows["position"] > 1].assign(octave=octave)
    gains = []
    for _, part in rows[rows["position"] <= last].groupby("octave"):
        runs = part.groupby("run").agg(n_params=("n_params", "first"), loss=("loss", "mean"))
        gains.append(measure.slope(np.log10(runs["n_params"]), runs["loss"]))
    return max(gains, key=lambda number: number.value)


@check("excess loss of short-context models on the first four tokens", "short", most=0)
def short_context_wins_early(given: Inputs) -> Number:
    first = [
        rows[rows["position"] <= FIRST_TOKENS]
        .groupby("run")
        .agg({"loss": "mean", "n_params": "first", "n_tokens": "first", "n_ctx": "first"})
        for rows in (_by_position(given, "short"), _sizes(given))
    ]
    if first[0]["n_ctx"].max() >= first[1]["n_ctx"].min():
        raise Undecided("the contexts of the sweep short are not shorter than those of the sweep sizes")
    return measure.mean(measure.excess(*first)["excess"])


@check(
    "part of its gain that the loss has made, short range less long range, mean over checkpoints", "one_large", least=0
)
def short_range_is_learned_first(given: Inputs) -> Number:
    rows = measure.evaluations(given, "one_large")
    rows = rows[rows["corpus"] == "test"]
    far = rows["position"] > rows["n_ctx"] / 2
    near_ = (rows["position"] > 1) & (rows["position"] <= SHORT_RANGE)
    made = {}
    for part, chosen in (("short", near_), ("long", far)):
        loss = rows[chosen].groupby("step")["loss"].mean().sort_index()
        if len(loss) < 4:
            raise Undecided(f"{len(loss)} checkpoints of one model; 4 are needed")
        made[part] = (loss.iloc[0] - loss) / (loss.iloc[0] - loss.iloc[-1])
    return measure.mean((made["short"] - made["long"]).iloc[1:-1])


CLAIMS = (
    Claim(
        6,
        "The loss on other text follows the test loss at a near-constant offset, and depends on it alone: not on the "
        "phase of training, not on depth.",
        paper="parallel, at a constant offset",
        test="Slope of each corpus's loss against the test loss over converged models; offset of one model during "
        "training from converged models of the same test loss, and its change with depth, within 0.05 nats.",
        checks=(transfer_slope, transfer_by_phase, transfer_by_depth),
    ),
    Claim(
        18,
        "The loss falls with the place in the context as a power law with an exponent that grows with N; all tokens "
        "but the first improve with N; short-context models are better on the first tokens; the short range is learned "
        "first.",
        paper="exponents 0.47 to 0.62",
        test="Slope in log N of the exponent of a + b T^-c and of the loss by octave of position; loss of the "
        "short-context models at equal N; part of the gain made during training at positions 2 to 8 and in the second "
        "half.",
        checks=(
            position_exponent_grows,
            every_token_but_the_first_improves,
            short_context_wins_early,
            short_range_is_learned_first,
        ),
    ),
)
