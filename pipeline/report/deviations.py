"""Where an experiment departs from the paper: what the paper did, what is done here, why.

The paper's side is from docs/paper.md, part 1, ours is computed from the config; a line where both agree is left out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import pandas as pd

from pipeline.errors import command
from pipeline.plan.counts import count
from pipeline.plan.experiment import Experiment
from pipeline.plan.run import Run
from pipeline.tables.table import Table, text
from pipeline.tokens.windows import read_tokens_meta

TITLE = "What the paper did, what is done here, and why."
COLUMNS = ("setting", "paper", "here", "why")


@dataclass(frozen=True)
class Deviation:
    """A setting in which an experiment departs from the paper."""

    setting: str
    paper: str
    here: str
    why: str


@dataclass(frozen=True)
class Fact:
    """A setting of the paper and how to read ours."""

    setting: str
    paper: Any
    """The paper's value: a number, a pair of numbers (a range), or words."""
    unit: str
    here: Callable[[Experiment, int | None], Any]
    """Experiment and tokens of the training set (None before the text is there) -> our value, of the same kind."""
    why: str


def runs(experiment: Experiment, sweep: str) -> list[Run]:
    """Return the runs of a sweep, none if the config lacks it."""
    return [member.run for member in experiment.sweeps.get(sweep, [])]


def ranged(values: Sequence[float]) -> Any:
    """Return the least and the most of some values, the value itself when they are one, None when there is none."""
    values = sorted(set(values))
    if not values:
        return None
    return values[0] if len(values) == 1 else (values[0], values[-1])


def tokens_of(run: Run) -> int:
    """Return the training tokens of a run."""
    return run.n_steps * run.batch_tokens


def _data_sets(experiment: Experiment, train_tokens: int | None) -> Any:
    sizes = {run.n_unique_tokens or train_tokens for run in runs(experiment, "data")}
    return ranged([size for size in sizes if size])


def _epochs(experiment: Experiment, train_tokens: int | None) -> Any:
    if not train_tokens:
        return None
    return ranged([float(f"{tokens_of(run) / train_tokens:.2g}") for run in runs(experiment, "sizes")])


def _schedule(experiment: Experiment, _: int | None) -> str:
    settings = experiment.config["training"]
    floor = settings.get("lr_final", 0.0)
    return f"{settings.get('schedule', 'cosine')} to {f'{floor:g} of the peak' if floor else 'zero'}"


def _rate(experiment: Experiment, _: int | None) -> str:
    rule = experiment.config["learning_rate"]
    match rule["rule"]:
        case "kaplan":
            return KAPLAN_RATE
        case "width":
            return f"{rule['coefficient']:g} at every N"
    return f"{rule['coefficient']:g} (N / 1e5)^-{rule['exponent']:g}, at most {rule['most']:g}"


def _hidden_rate(experiment: Experiment, _: int | None) -> str:
    parts = ranged([run.lr_hidden for run in runs(experiment, "sizes")])
    return ONE_RATE if parts in (None, 1) else words(parts, "times that of embeddings, norms and biases")


def _unstated(experiment: Experiment, _: int | None) -> str:
    model, run = experiment.config["model"], runs(experiment, "sizes")[0]
    positions = f"positions start as sinusoids of size {run.position_sinusoids:g}; " if run.position_sinusoids else ""
    return (
        f"embeddings drawn with standard deviation {run.embedding_std:g}; {positions}Adam's betas {run.beta1:g} and "
        f"{run.beta2:g}; gradient clipped at {run.clip:g}; weight decay {run.weight_decay:g}; {run.precision}; heads "
        f"about {model.get('head_width', 32)} wide"
    )


def _all_data(experiment: Experiment, train_tokens: int | None) -> str:
    names = ", ".join(experiment.config["data"]["train"])
    return f"{names}: {text(float(train_tokens))} tokens" if train_tokens else names


KAPLAN_RATE = "0.003239 - 0.0001395 ln N"
ONE_RATE = "that of all weights"
FACTS = (
    Fact("training text", "WebText2: 2.29e10 tokens of web pages", "", _all_data,
         "WebText2 was never published."),
    Fact("other text", "Books, Common Crawl, Wikipedia, Internet Books", "",
         lambda e, _: ", ".join(e.config["data"]["transfer"]), "The paper's copies were not published."),
    Fact("vocabulary", 50257, "entries", lambda e, _: e.config["data"]["vocabulary"],
         "A large vocabulary costs a small model most of its compute, and hides its N behind the embeddings."),
    Fact("context", 1024, "tokens", lambda e, _: ranged([run.n_ctx for run in runs(e, "sizes")]),
         "A short context keeps the attention's share of a small model's compute small, which C = 6 N B S leaves out."),
    Fact("parameters N of L(N)", (768, 1.5e9), "",
         lambda e, _: ranged([count(run).n_params for run in runs(e, "sizes")]), "What the budget can train."),
    Fact("layers of these models", (1, 207), "", lambda e, _: ranged([run.n_layer for run in runs(e, "sizes")]),
         "A ladder that changes the width alone: at small widths more layers gain little (Figure 5)."),
    Fact("model of L(D)", "36 layers of width 1280, N = 7.08e8", "", lambda e, _: _largest(runs(e, "data")),
         "What the budget can train."),
    Fact("data sets D", (2.15e7, 2.29e10), "tokens", _data_sets, "In proportion to the smaller models."),
    Fact("models of the batch scans", (3e6, 8.5e7), "parameters",
         lambda e, _: ranged([count(run).n_params for run in runs(e, "batches")]), "What the budget can train."),
    Fact("batch", 2**19, "tokens", lambda e, _: ranged([run.batch_tokens for run in runs(e, "sizes")]),
         "At the paper's batch a small budget is a few steps."),
    Fact("training of a run", 2.5e5 * 2**19, "tokens",
         lambda e, _: ranged([tokens_of(run) for run in runs(e, "sizes")]),
         "The budget. The largest models are less near to convergence than the paper's."),
    Fact("steps of a run", 250_000, "", lambda e, _: ranged([run.n_steps for run in runs(e, "sizes")]),
         "Follows from tokens and batch."),
    Fact("passes over all data", 5.9, "", _epochs, "Follows from tokens and text."),
    Fact("warmup", 0.012, "of the steps",
         lambda e, _: ranged([float(f"{run.warmup_steps / run.n_steps:.2g}") for run in runs(e, "sizes")]),
         "3,000 steps of the paper's batch are 1.6e9 tokens; a warmup longer than a run's best length biases N(C)."),
    Fact("peak learning rate", KAPLAN_RATE, "", _rate,
         "Fitted to our sweep lr_scan: the paper's rule is for its batch."),
    Fact("learning rate of hidden matrices", ONE_RATE, "", _hidden_rate,
         "As in muP: with Adam a wide hidden matrix wants a lower rate than a narrow one, an embedding does not."),
    Fact("schedule", "cosine to zero", "", _schedule, "Set so in the config."),
    Fact("optimizer", "Adam; Adafactor above 1e9 parameters", "",
         lambda e, _: " and ".join(sorted({_optimizer(run) for run in runs(e, "sizes")})),
         "Adafactor saves memory that smaller models do not need."),
    Fact("dropout of the early-stopped runs", 0.1, "", lambda e, _: ranged([run.dropout for run in runs(e, "data")]),
         "Set so in the config."),
    Fact("text that a loss is measured on", 6.6e8, "tokens held out",
         lambda e, _: ranged([run.test_tokens for run in runs(e, "sizes")]),
         "Evaluations are part of the budget; all runs share the same windows, so that the noise is shared too."),
    Fact("not stated in the paper", "-", "", _unstated, "Usual values; see the config for what was tried."),
)  # fmt: skip


def _largest(members: list[Run]) -> str | None:
    if not members:
        return None
    run = max(members, key=lambda member: count(member).n_params)
    return f"{run.n_layer} layers of width {run.d_model}, N = {text(float(count(run).n_params))}"


def _optimizer(run: Run) -> str:
    if run.optimizer == "adamw" and run.weight_decay == 0:
        return "Adam"
    return {"adamw": "AdamW", "adafactor": "Adafactor"}[run.optimizer]


def deviations(experiment: Experiment, train_tokens: int | None = None) -> list[Deviation]:
    """Return the settings in which an experiment departs from the paper.

    Parameters
    ----------
    experiment
        The experiment.
    train_tokens
        Tokens of the whole training set; lines that need it are left out without it.
    """
    found = []
    for fact in FACTS:
        here = fact.here(experiment, train_tokens)
        if here is not None and not same(here, fact.paper):
            found.append(Deviation(fact.setting, words(fact.paper, fact.unit), words(here, fact.unit), fact.why))
    return found


def same(here: Any, paper: Any) -> bool:
    """Return whether two values agree, numbers within 5 %.

    Examples
    --------
    >>> same(1.3107e11, 2.5e5 * 2**19), same((768, 1_474_560_000), (768, 1.5e9)), same(128, 1024), same("a", "b")
    (True, True, False, False)
    """
    if isinstance(here, tuple) and isinstance(paper, tuple):
        return all(same(first, second) for first, second in zip(here, paper, strict=True))
    if isinstance(here, (tuple, str)) or isinstance(paper, (tuple, str)):
        return here == paper
    return math.isclose(here, paper, rel_tol=0.05)


def words(value: Any, unit: str) -> str:
    """Write a value or a range with its unit.

    Examples
    --------
    >>> words((768, 1.5e9), "parameters"), words(524288, "tokens"), words("cosine", "")
    ('768 to 1.5e9 parameters', '524,288 tokens', 'cosine')
    """
    if isinstance(value, tuple):
        written = " to ".join(words(end, "") for end in value)
    elif isinstance(value, str):
        written = value
    elif float(value).is_integer() and value < 1e6:
        written = text(int(value))
    else:
        written = text(float(f"{value:.3g}"), exact=True)
    return f"{written} {unit}".strip()


def table(experiment: Experiment, train_tokens: int | None = None) -> Table:
    """Return the deviations as a table."""
    rows = [astuple(deviation) for deviation in deviations(experiment, train_tokens)]
    note = (
        f"Preset {experiment.preset} ({experiment.config['title']}). Exponents and ratios are compared with the paper."
    )
    return Table(TITLE, pd.DataFrame(rows, columns=list(COLUMNS)), (note,))


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Write the deviations of an experiment as csv and markdown."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report.deviations", description=main.__doc__)
    parser.add_argument("--config", required=True, help="the config as JSON")
    parser.add_argument("--tokens", required=True, help="meta.json of the token files")
    parser.add_argument("--output", required=True, metavar="CSV", help="markdown is written beside it")
    options = parser.parse_args(argv)
    table(Experiment(json.loads(options.config)), read_tokens_meta(options.tokens)["train"]["tokens"]).save(
        options.output
    )


if __name__ == "__main__":
    raise SystemExit(main())
