"""An experiment: everything that a config asks for, planned and checked before any job starts.

Standard library only (and the schema check): the Snakefile makes one each time it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pipeline.corpora.local import Hashes, contents, digest_of
from pipeline.errors import UserError
from pipeline.plan import catalog
from pipeline.plan.run import Run, content_id
from pipeline.plan.sweeps import Member, place_of, runs_of_sweep
from pipeline.plan.trunk import Trunk, shared_trunks

RECIPE = 1
"""Raised by hand when the data stages change their meaning (cleaning, splitting, tokenizing); part of their ids."""

HASHES = Path("results/scratch/hashes.json")
"""Where the hashes of own text are kept, below the working folder; see `pipeline.corpora.local.Hashes`."""

BYTES_OF_BPE = 257
"""Least vocabulary of byte-level BPE: the bytes and the end of text (`pipeline.tokens.tokenizer`)."""


OWN_CORPORA = ("train", "test")
"""Names that the evaluation gives to text of the training corpora; no other corpus may have them."""


class Experiment:
    """The corpora, token files, sweeps, runs, figures and tables of a config.

    Parameters
    ----------
    config
        The whole config, checked against its schema (`pipeline.plan.config.check_config`).
    hashes
        JSON file in which the hashes of files of own text are kept.

    Raises
    ------
    UserError
        When an entry contradicts another, or a file of own text is missing: it names the key and what is allowed.
    """

    def __init__(self, config: Mapping[str, Any], hashes: Path = HASHES) -> None:
        self.config = config
        self._hashes = Hashes(hashes)
        self.local_files = cache(self._local_files)
        self.preset: str = config["preset"]
        self.figures = catalog.wanted("figures", config)
        self.tables = catalog.wanted("tables", config)
        self._check_names()
        self._check_corpora()
        self._check_data_sets()
        catalog.check_least([*catalog.all_laws(self.needs), *self.figures], self.sweeps)

    def _check_names(self) -> None:
        """Refuse corpora that there are not, and text that is trained on and held out at once."""
        data, corpora = self.config["data"], self.config["corpora"]
        for role in ("train", "transfer"):
            for name in data[role]:
                if name not in corpora:
                    known = ", ".join(sorted(corpora))
                    raise UserError(f"config: data/{role}: {name!r} is not a corpus; there are {known}")
        for name in data["transfer"]:
            if name in OWN_CORPORA:
                raise UserError(
                    f"config: data/transfer: {name!r} is what evaluations call the training text; rename it"
                )
            for other in data["train"]:
                shared = any(_text(a) == _text(b) for a in corpora[name]["sources"] for b in corpora[other]["sources"])
                if name == other or shared:
                    what = "is trained on" if name == other else f"has a source of {other!r}, which is trained on"
                    raise UserError(f"config: data/transfer: {name!r} {what}; only other text may be named there")

    def _check_corpora(self) -> None:
        """Refuse settings of text that can't work, and files that are in a training corpus and in another one."""
        data, corpora = self.config["data"], self.config["corpora"]
        if data["tokenizer"] == "bpe" and data["vocabulary"] < BYTES_OF_BPE:
            raise UserError(
                f"config: data/vocabulary: {data['vocabulary']} is less than {BYTES_OF_BPE}, the bytes and the end of "
                "text (data/tokenizer is bpe)"
            )
        if data["tokenizer_bytes"] < data["vocabulary"]:
            raise UserError(
                f"config: data/tokenizer_bytes: {data['tokenizer_bytes']:g} is less than data/vocabulary "
                f"{data['vocabulary']}: so little text has not so many entries"
            )
        for name, spec in self.corpora.values():
            shortest = spec.get("min_characters", 1)
            for number, source in enumerate(spec["sources"]):
                if source.get("max_characters", 4 * shortest) < 4 * shortest:
                    raise UserError(
                        f"config: corpora/{name}/sources/{number}/max_characters: {source['max_characters']} is less "
                        f"than 4 min_characters = {4 * shortest}: pieces may be a quarter as long, and be dropped"
                    )
        trained = {sha256: (file, name) for name in data["train"] for file, sha256 in self.local_files(name).items()}
        own = [name for name in data["transfer"] if all(s["kind"] == "files" for s in corpora[name]["sources"])]
        for name in own:
            for file, sha256 in self.local_files(name).items():
                if sha256 in trained and Path(file).stat().st_size:
                    same, other = trained[sha256]
                    what = f"{file} is trained on as well" if file == same else f"{file} is {same}, which is trained on"
                    raise UserError(f"config: data/transfer: {name}: {what} (corpus {other})")

    def _check_data_sets(self) -> None:
        """Refuse a run that asks for more tokens than the text is sure to give, of training or of test."""
        data = self.config["data"]
        sure = data["min_train_tokens"]
        for name, members in self.sweeps.items():
            most = max(member.run.n_unique_tokens or 0 for member in members)
            if most > sure:
                place = place_of("n_unique_tokens", name, self.config)
                raise UserError(
                    f"config: {place}: {most:,} is above data/min_train_tokens {sure:,.0f}, which is all that the "
                    "corpora are sure to give"
                )
            run = max((member.run for member in members), key=lambda run: test_size(run.test_tokens, run.n_ctx))
            if test_size(run.test_tokens, run.n_ctx) > data["min_test_tokens"]:
                place = place_of("test_tokens", name, self.config)
                raise UserError(
                    f"config: {place}: {run.test_tokens:,} (sweep {name}, windows of {run.n_ctx}) need "
                    f"{test_size(run.test_tokens, run.n_ctx):,} tokens, more than data/min_test_tokens "
                    f"{data['min_test_tokens']:,.0f}, which is all that the test set is sure to have; raise that one "
                    "(and data/test_fraction, if the text is then too small), or lower test_tokens"
                )
        wanted, most = self.config["evaluation"]["tokens_per_corpus"], data["transfer_tokens"]
        if data["transfer"] and wanted > most:
            raise UserError(
                f"config: evaluation/tokens_per_corpus: {wanted:,} is above data/transfer_tokens {most:,.0f}, the most "
                "that is kept of a transfer corpus"
            )

        names = {name for needs in self.needs for name in needs.evaluations}
        n_ctx, name = max(((member.run.n_ctx, name) for name in names for member in self.sweeps[name]), default=(0, ""))
        if wanted < n_ctx:
            raise UserError(
                f"config: evaluation/tokens_per_corpus: {wanted:,} is below n_ctx {n_ctx:,} of the sweep {name}: "
                "not one window"
            )

    @cached_property
    def corpora(self) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """Corpus id -> (name, spec) of the corpora that the text is made from; see `_spec`."""
        data = self.config["data"]
        return {self.corpus_id(name): (name, self._spec(name)) for name in [*data["train"], *data["transfer"]]}

    def corpus_id(self, name: str) -> str:
        """Return the id of a corpus of the config: of its settings, and of the content of its files on this machine."""
        spec = dict(self._spec(name))
        content = spec.pop("content", None)
        return content_id(name, {"corpus": spec, "recipe": RECIPE} | ({"content": content} if content else {}))

    def _spec(self, name: str) -> Mapping[str, Any]:
        """Return the settings of a corpus, with the digest of the files of this machine that it reads as `content`."""
        files = self.local_files(name)
        return self.config["corpora"][name] | ({"content": digest_of(files)} if files else {})

    def _local_files(self, name: str) -> dict[str, str]:
        try:
            return contents(self.config["corpora"][name], self._hashes)
        except UserError as error:
            raise UserError(f"config: corpora/{name}/{error}") from error

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
    def trunks(self) -> dict[str, Trunk]:
        """Trunk id -> trunk of those that runs share."""
        return shared_trunks(self.runs.values())

    @cached_property
    def needs(self) -> list[catalog.Needs]:
        """What the wanted figures and tables read."""
        return [catalog.FIGURES[name] for name in self.figures] + [catalog.TABLES[name] for name in self.tables]


def _text(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a source that say which text it is, without those of how much and what becomes of it."""
    ways = ("licence", "origin", "layout", "max_bytes", "max_characters")
    return {key: value for key, value in source.items() if key not in ways}


def test_size(test_tokens: int, n_ctx: int) -> int:
    """Return how many tokens the fixed windows of a test need (`pipeline.tokens.windows.test_windows`)."""
    return max(1, test_tokens // n_ctx) * n_ctx + 1
