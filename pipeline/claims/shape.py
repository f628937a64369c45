"""Claims 4, 5, 7, 8, 22: what of a model's shape and kind matters at a given size (sections 3.1, 3.2, appendix D)."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import labelled
from pipeline.claims import measure
from pipeline.claims.verdict import Claim, Number, Undecided, check
from pipeline.units import PF_DAY

A_FEW_PERCENT = 0.03
"""Loss increase that the caption of the paper's Figure 5 calls slight (docs/paper.md, claim 4)."""
LEAST_LAYERS = 2
"""Layers from which on depth does not matter: Figure 6 excepts fewer (docs/paper.md, claim 4)."""
MODERATE = {"d_ff_ratio": (0.0, 8.0), "aspect": (5.0, 250.0), "heads": (16.0, 300.0)}
"""Range of each ratio over which the paper's Figure 5 is flat, as we read it (docs/paper.md, claim 4)."""
SAME_SIZE = 1.5
"""Models whose N differ by a smaller factor than this from the next are of about equal N; L(N) takes out the rest
(docs/paper.md, claim 4)."""
PLAIN = (12.0, 250.0)
"""Range of d_model / n_layer over which the paper's Figure 5 stays below 1.5 %, as we read it: beyond, depth over width
is extreme (docs/paper.md, claim 5)."""
APART = 0.03
"""Part of the loss by which embeddings must move models of one N apart to be told from shape: twice what shape costs
within `PLAIN` (docs/paper.md, claim 5)."""
PAPER_EXPONENT = 0.076
"""Exponent of L(N), by which a shift in ln N becomes one in ln L (docs/paper.md, claim 5)."""
LEVELS_OFF = 100
"""Tokens of context by which the paper's LSTMs have stopped improving, section 3.2.1 (docs/paper.md, claim 7)."""
EARLY_TOKENS = 10
"""Places at the start of the context where LSTMs are to be as good as Transformers (docs/paper.md, claim 7)."""
EQUAL = 0.03
"""Losses within this part of each other are equal to the eye on the paper's Figure 7 (docs/paper.md, claim 7)."""
BUMP = 1e-5 * PF_DAY
"""Compute at which the paper sees the step from one layer to two, in FLOP: caption of Figure 13 (section 6.1) and
appendix D.7 (docs/paper.md, claim 22)."""
DECADE = 10.0
"""Factor of compute above and below the bump at which losses are compared (docs/paper.md, claim 22)."""


# Claim 4


def _increase(given: Inputs, label: str) -> Number:
    """Return the largest loss increase over the best shape of equal N, within the moderate range of a ratio."""
    rows = measure.ends(given, "shapes")
    rows = labelled(rows[rows["n_layer"] >= LEAST_LAYERS], label).drop_duplicates("run")
    ratio = {
        "d_ff_ratio": rows["d_ff"] / rows["d_model"],
        "aspect": rows["d_model"] / rows["n_layer"],
        "heads": rows["d_model"] / rows["n_head"],
    }[label]
    low, high = MODERATE[label]
    rows = rows[(ratio >= low) & (ratio <= high)]
    away = np.log(rows["loss"] / measure.law(given, "L_N").predict(n_params=rows["n_params"]))
    groups = away.groupby(_alike(rows["n_params"]))
    increase = (groups.max() - groups.min())[groups.size() > 2]
    if increase.empty:
        raise Undecided(f"the sweep shapes has no three runs of {label} of about equal N in the range")
    noise, freedom = measure.seed_noise(given)
    value = math.expm1(increase.max())
    half = measure.stdtrit(freedom, 0.975) * noise * math.sqrt(2)
    return Number(value, value - half, value + half)


def _alike(n_params: pd.Series) -> pd.Series:
    """Return a number for each run, the same for sizes that differ by less than SAME_SIZE from the next."""
    sizes = np.sort(n_params.unique())
    steps = np.diff(np.log(sizes)) > math.log(SAME_SIZE)
    return n_params.map(dict(zip(sizes, np.r_[0, np.cumsum(steps)], strict=True)))


@check("largest loss increase over feed-forward ratios up to 8", "shapes", most=A_FEW_PERCENT)
def feed_forward_ratio(given: Inputs) -> Number:
    return _increase(given, "d_ff_ratio")


@check("largest loss increase over aspect ratios of 5 to 250", "shapes", most=A_FEW_PERCENT)
def aspect_ratio(given: Inputs) -> Number:
    return _increase(given, "aspect")


@check("largest loss increase over heads of 16 to 300", "shapes", most=A_FEW_PERCENT)
def head_size(given: Inputs) -> Number:
    return _increase(given, "heads")


# Claim 5


def _depths(given: Inputs) -> pd.DataFrame:
    """Return the last rows of the sweep depths, and of runs of the sweep sizes that were trained as long."""
    rows = measure.ends(given, "depths").drop_duplicates("run")
    if "sizes" in given.sweeps:
        more = measure.ends(given, "sizes")
        alike = np.abs(np.log(more["n_tokens"] / rows["n_tokens"].median())) <= math.log(measure.SAME_TOKENS)
        rows = pd.concat([rows, more[alike & more["fitted"]]]).drop_duplicates("run")
    deep = _deep(rows)
    if deep["n_layer"].nunique() < 2 or len(deep) < measure.LEAST_RUNS + 1:
        raise Undecided(f"there are {len(deep)} runs of {deep['n_layer'].nunique()} depths from 2 layers on")
    return rows


def _deep(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the models of two layers and more whose depth and width are not extreme."""
    aspect = rows["d_model"] / rows["n_layer"].clip(lower=1)
    return rows[(rows["n_layer"] >= LEAST_LAYERS) & (aspect >= PLAIN[0]) & (aspect <= PLAIN[1])]


def embeddings_too_small(given: Inputs) -> str | None:
    """Say how little embeddings move models of equal N apart, if that can't be told from what their shape costs."""
    rows = measure.design(given, "depths")
    if "sizes" in given.sweeps:
        sizes = measure.design(given, "sizes")
        rows = pd.concat([rows, sizes[sizes["fitted"]]])
    deep, apart = _deep(rows), 0.0
    if deep["n_layer"].nunique() > 1 and deep["n_params"].nunique() > 2:
        total, n_params = (np.log(deep[name].astype(float)) for name in ("n_params_total", "n_params"))
        away = total - np.polyval(np.polyfit(n_params, total, 1), n_params)
        apart = PAPER_EXPONENT * float(away.max() - away.min())
    if apart >= APART:
        return None
    return (
        f"it asks for embeddings that move models of one N apart by {100 * APART:.0f} % of the loss, twice what shape "
        f"may cost, and here they do by {100 * apart:.1f} %"
    )


def _line(rows: pd.DataFrame, x: str) -> np.ndarray:
    return np.polyfit(np.log(rows[x].astype(float)), np.log(rows["loss"]), 1)


def _residual(rows: pd.DataFrame, x: str, line: np.ndarray) -> pd.Series:
    return np.log(rows["loss"]) - np.polyval(line, np.log(rows[x].astype(float)))


@check("scatter of 2 and more layers about one line, against N over against all parameters", "depths", most=1)
def collapse_without_embeddings(given: Inputs) -> Number:
    rows = _depths(given)
    deep = _deep(rows)
    return measure.paired_spread_ratio(*(_residual(deep, x, _line(deep, x)) for x in ("n_params", "n_params_total")))


@check("excess loss of 1 layer over the line of more layers", "depths", least=0)
def one_layer_is_apart(given: Inputs) -> Number:
    rows = _depths(given)
    one = rows[rows["n_layer"] == 1]
    if one.empty:
        raise Undecided("the sweep depths has no run of 1 layer")
    return measure.mean(_residual(one, "n_params", _line(_deep(rows), "n_params")))


# Claim 7


def _by_part(given: Inputs, name: str) -> pd.DataFrame:
    """Return one row a run: its mean test loss on the early tokens, the third quarter of the context, and the last."""
    rows = measure.evaluations(given, name)
    rows = rows[(rows["corpus"] == "test") & rows["final"] & (rows["n_params"] > 0)]
    if rows.empty:
        raise Undecided(f"the evaluated sweep {name} has no final test losses")
    place = rows["position"] / rows["n_ctx"]
    parts = {
        "early": (rows["position"] > 1) & (rows["position"] <= EARLY_TOKENS),
        "third": (place > 0.5) & (place <= 0.75),
        "late": place > 0.75,
    }
    table = rows.drop_duplicates("run").set_index("run")
    losses = {part: rows[chosen].groupby("run")["loss"].mean() for part, chosen in parts.items()}
    return table.assign(**losses).reset_index()


def short_context(given: Inputs) -> str | None:
    """Say how short the contexts are, if their second half begins before the paper's LSTMs have levelled off."""
    shortest = min(int(measure.evaluations(given, name)["n_ctx"].min()) for name in ("lstms", "sizes"))
    if shortest >= 2 * LEVELS_OFF:
        return None
    return (
        f"it asks for contexts of {2 * LEVELS_OFF} tokens and more, the second half of which lies past the "
        f"{LEVELS_OFF} where LSTMs level off, and here they have {shortest}"
    )


def _lstm_excess(given: Inputs, part: str) -> pd.Series:
    """Return run -> relative excess of LSTMs over Transformers of equal N on a part of the context."""
    lstms, transformers = (
        table.assign(loss=table[part]) for table in (_by_part(given, name) for name in ("lstms", "sizes"))
    )
    return measure.excess(lstms, transformers).set_index("run")["excess"]


@check("excess loss of LSTMs on the last quarter of the context", "lstms", least=0)
def lstm_late(given: Inputs) -> Number:
    return measure.mean(_lstm_excess(given, "late"))


@check("excess loss of LSTMs on the first ten tokens", "lstms", least=-EQUAL, most=EQUAL)
def lstm_early(given: Inputs) -> Number:
    return measure.mean(_lstm_excess(given, "early"))


@check("gain over the second half of the context that Transformers make and LSTMs do not", "lstms", least=0)
def lstm_plateau(given: Inputs) -> Number:
    gained = _lstm_excess(given, "late") - _lstm_excess(given, "third")
    return measure.mean(gained.dropna())


# Claim 8


def _recurrent_excess(given: Inputs, x: str) -> Number:
    standard = measure.ends(given, "sizes")
    return measure.mean(measure.excess(measure.ends(given, "recurrent"), standard[standard["fitted"]], x)["excess"])


@check("excess loss of recurrent models over standard ones of equal N", "recurrent", most=0)
def recurrent_at_equal_size(given: Inputs) -> Number:
    return _recurrent_excess(given, "n_params")


@check("excess loss of recurrent models over standard ones of equal compute", "recurrent", least=0)
def recurrent_at_equal_compute(given: Inputs) -> Number:
    return _recurrent_excess(given, "n_params_reuse")


# Claim 22


def _one_layer_excess(given: Inputs, flops: float) -> Number:
    """Return ln of the least loss of 1-layer models over that of deeper ones within half a decade of a compute."""
    curves = pd.concat([measure.sweep(given, "depths"), measure.sweep(given, "sizes")])
    curves = curves[(curves["n_tokens"] > 0) & (curves["n_layer"] >= 1)]
    reached = np.log(curves["flops"] / flops).abs() <= math.log(DECADE) / 2
    best = [
        curves[reached & chosen].groupby("run")["loss"].min().min()
        for chosen in (curves["n_layer"] == 1, curves["n_layer"] > 1)
    ]
    if not np.isfinite(best).all():
        low, high = (curves["flops"].quantile(part) / PF_DAY for part in (0.0, 1.0))
        raise Undecided(
            f"no curves of 1 layer and of more near {flops / PF_DAY:.0e} PF-days: ours are of {low:.1e} to {high:.1e}"
        )
    noise, freedom = measure.seed_noise(given)
    value = math.log(best[0] / best[1])
    half = measure.stdtrit(freedom, 0.975) * noise * math.sqrt(2)
    return Number(value, value - half, value + half)


def too_little_compute(given: Inputs) -> str | None:
    """Say how much compute the runs are planned for, if it is not a decade above the bump."""
    runs = pd.concat([measure.design(given, name) for name in ("depths", "sizes")])
    flops = 6.0 * runs["n_params_reuse"] * runs["n_steps"] * runs["batch_tokens"]
    most = min(flops[chosen].max() for chosen in (runs["n_layer"] == 1, runs["n_layer"] > 1) if chosen.any())
    if most >= BUMP * math.sqrt(DECADE):
        return None
    return (
        f"it asks for models of one layer and of more that are trained for {BUMP * DECADE / PF_DAY:.0e} PF-days, and "
        f"here they are for {most / PF_DAY:.1e}"
    )


@check("excess loss of 1 layer over more, a decade of compute above the bump", "depths", least=0)
def one_layer_loses_above(given: Inputs) -> Number:
    return _one_layer_excess(given, BUMP * DECADE)


@check("excess loss of 1 layer over more, a decade below it", "depths", most=0)
def one_layer_wins_below(given: Inputs) -> Number:
    return _one_layer_excess(given, BUMP / DECADE)


CLAIMS = (
    Claim(
        4,
        "At a fixed number of parameters the shape of a model hardly matters.",
        paper="within 3 %",
        test="Largest loss increase over the best shape of two layers and more, moved to equal N with our L(N), for "
        "d_ff / d_model up to 8, d_model / n_layer of 5 to 250, and d_model / n_head of 16 to 300; the interval is the "
        "noise of seeds.",
        checks=(feed_forward_ratio, aspect_ratio, head_size),
    ),
    Claim(
        5,
        "Losses of models of any depth fall on one line against the parameters without embeddings, not against all "
        "parameters; models of less than two layers are exceptions.",
        paper="one line from 2 layers on",
        test="Scatter of ln L about one line of all depths from 2 layers on, d_model / n_layer of 12 to 250: against "
        "N over against all parameters; whether 1-layer models lie above that line.",
        checks=(collapse_without_embeddings, one_layer_is_apart),
        reach=embeddings_too_small,
    ),
    Claim(
        7,
        "LSTMs equal Transformers on early tokens of the context, are worse on late ones, and stop improving within "
        "it.",
        paper="LSTM plateau after fewer than 100 tokens",
        test="Loss of LSTMs over that of Transformers interpolated at the same N, by place in the context, mean over "
        "runs.",
        checks=(lstm_late, lstm_early, lstm_plateau),
        reach=short_context,
    ),
    Claim(
        8,
        "Recurrent Transformers are slightly better than standard ones of equal N, slightly worse at equal compute.",
        paper="slightly better, slightly worse",
        test="Loss of recurrent models over that of standard ones interpolated at the same N, each weight counted "
        "once, and counted as often as it is applied; mean over runs.",
        checks=(recurrent_at_equal_size, recurrent_at_equal_compute),
    ),
    Claim(
        22,
        "The step from one layer to two makes a bump in the loss against compute.",
        paper="near 1e-5 PF-days",
        test="Least loss of 1-layer models over that of deeper ones a decade of compute above 1e-5 PF-days (worse) and "
        "a decade below (not worse).",
        checks=(one_layer_loses_above, one_layer_wins_below),
        reach=too_little_compute,
    ),
)
