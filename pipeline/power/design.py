"""A design: what a preset would train and measure, as far as the paper's claims read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.plan import catalog
from pipeline.plan.sweeps import Member, runs_of_sweep

SECTIONS = ("data", "model", "training", "learning_rate", "evaluation", "sweeps")
"""Parts of the config that a design follows from."""
DATA = ("name", "vocabulary", "transfer", "min_train_tokens")
"""What it takes of the section data."""


def sections(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a config that a design follows from, with the sweeps that claims and their laws read."""
    wanted = catalog.all_sweeps([catalog.TABLES["claims"]])
    return {name: config[name] for name in SECTIONS} | {
        "data": {name: config["data"][name] for name in DATA},
        "sweeps": {name: sweep for name, sweep in config["sweeps"].items() if name in wanted},
    }


@dataclass(frozen=True)
class Design:
    """The sweeps of a preset, and what their evaluations read."""

    sweeps: Mapping[str, Sequence[Member]]
    """Sweep -> its members, of those that claims and their laws read."""
    n_train_tokens: int
    """Tokens of the whole training set: what the preset's corpora are sure to give."""
    windows: Mapping[str, int]
    """Corpus -> tokens that an evaluation scores of it."""
    n_vocab: int
    n_ctx: int
    """Context of the models that laws are fitted to, tokens."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Design:
        """Return the design of a config, of which `sections` are read.

        Raises
        ------
        UserError
            For a wrong setting of a sweep; it names the sweep and the key.
        """
        data = config["data"]
        sweeps = {name: runs_of_sweep(name, config, data["name"]) for name in sections(config)["sweeps"]}
        tokens = config["evaluation"]["tokens_per_corpus"]
        return cls(
            sweeps=sweeps,
            n_train_tokens=int(data["min_train_tokens"]),
            windows=dict.fromkeys(("train", "test", *data["transfer"]), tokens),
            n_vocab=data["vocabulary"],
            n_ctx=sweeps["sizes"][0].run.n_ctx if "sizes" in sweeps else config["model"]["n_ctx"],
        )
