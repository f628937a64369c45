"""An experiment: everything that a config asks for, planned and checked before any job starts.

Standard library only (and the schema check): the Snakefile makes one each time it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pipeline.errors import UserError
from pipeline.plan import catalog
from pipeline.plan.run import Run, content_id
from pipeline.plan.sweeps import Member, runs_of_sweep

RECIPE = 1
"""Raised by hand when the data stages change their meaning (cleaning, splitting, tokenizing); part of their ids."""


class Experiment:
    """The corpora, token files, sweeps, runs, figures and tables of a config.

    Parameters
    ----------
    config
        The whole config, checked against its schema (`pipeline.plan.config.check_config`).

    Raises
    ------
    UserError
        When an entry contradicts another: it names the key and what is allowed.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.preset: str = config["preset"]
        self.figures = catalog.wanted("figures", config)
        self.tables = catalog.wanted("tables", config)
        for role in ("train", "transfer"):
            for name in config["data"][role]:
                if name not in config["corpora"]:
                    known = ", ".join(sorted(config["corpora"]))
                    raise UserError(f"config: data/{role}: {name!r} is not a corpus; there are {known}")
        self._check_data_sets()
        catalog.check_sizes(self.needs, self.sweeps)

    def _check_data_sets(self) -> None:
        """Refuse a run that asks for more unique tokens than the text is sure to give."""
        sure = self.config["data"]["min_train_tokens"]
        for name, members in self.sweeps.items():
            most = max(member.run.n_unique_tokens or 0 for member in members)
            if most > sure:
                raise UserError(
                    f"config: sweeps/{name}/n_unique_tokens: {most:,} is above data/min_train_tokens {sure:,.0f}, "
                    "which is all that the corpora are sure to give"
                )

    @cached_property
    def corpora(self) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """Corpus id -> (name, spec) of the corpora that the text is made from."""
        data, corpora = self.config["data"], self.config["corpora"]
        return {self.corpus_id(name): (name, corpora[name]) for name in [*data["train"], *data["transfer"]]}

    def corpus_id(self, name: str) -> str:
        """Return the id of a corpus of the config."""
        return content_id(name, {"corpus": self.config["corpora"][name], "recipe": RECIPE})

    @cached_property
    def tokens_id(self) -> str:
        """Id of the token files: it holds the data settings and the corpora."""
        data = self.config["data"]
        return content_id(data["name"], {"data": data, "corpora": sorted(self.corpora), "recipe": RECIPE})

    @cached_property
    def sweeps(self) -> dict[str, list[Member]]:
        """Sweep -> its members."""
        return {name: runs_of_sweep(name, self.config, self.tokens_id) for name in self.config["sweeps"]}

    @cached_property
    def wanted_sweeps(self) -> dict[str, list[Member]]:
        """Sweep -> its members, of the sweeps that the wanted figures and tables read."""
        wanted = catalog.all_sweeps(self.needs)
        return {name: members for name, members in self.sweeps.items() if name in wanted}

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Run id -> run."""
        return {member.run.id: member.run for members in self.sweeps.values() for member in members}

    @cached_property
    def needs(self) -> list[catalog.Needs]:
        """What the wanted figures and tables read."""
        return [catalog.FIGURES[name] for name in self.figures] + [catalog.TABLES[name] for name in self.tables]
