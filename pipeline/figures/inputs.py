"""What a figure or a table is given: sweeps, evaluations and laws by name."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.laws.fit import Fit


class Named(dict):
    """A dict whose missing key is a `UserError` that says which option was not given.

    Examples
    --------
    >>> Named("sweep", sizes=1)["data"]
    Traceback (most recent call last):
    ...
    pipeline.errors.UserError: sweep 'data' is needed and was not given (--sweep data=FILE); given: sizes
    """

    def __init__(self, kind: str, /, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.kind = kind

    def __missing__(self, name: str) -> Any:
        given = ", ".join(sorted(self)) or "none"
        raise UserError(f"{self.kind} {name!r} is needed and was not given (--{self.kind} {name}=FILE); given: {given}")


@dataclass(frozen=True)
class Inputs:
    """Sweep tables, evaluation tables and fitted laws by name, and where they come from."""

    sweeps: Mapping[str, pd.DataFrame] = field(default_factory=lambda: Named("sweep"))
    """Sweep -> its table: one row a (run, evaluation)."""
    evaluations: Mapping[str, pd.DataFrame] = field(default_factory=lambda: Named("evaluation"))
    """Sweep -> its evaluation table: one row a (run, step, corpus, position)."""
    laws: Mapping[str, Fit] = field(default_factory=lambda: Named("law"))
    """Law -> its fit. A law that a figure can do without is asked for by `laws.get`."""
    preset: str = ""
    """Name of the experiment, for captions."""
    title: str = ""
    """What the experiment is, in words, for captions."""

    @property
    def where(self) -> str:
        """The sentence of a caption that says which experiment this is."""
        return f"Preset {self.preset or 'unnamed'}{f' ({self.title})' if self.title else ''}."

    @classmethod
    def of(
        cls,
        sweeps: Mapping[str, pd.DataFrame] = {},
        evaluations: Mapping[str, pd.DataFrame] = {},
        laws: Mapping[str, Fit] = {},
        preset: str = "",
        title: str = "",
    ) -> Inputs:
        """Make inputs from plain dicts of tables and fits."""
        return cls(Named("sweep", sweeps), Named("evaluation", evaluations), Named("law", laws), preset, title)

    @classmethod
    def read(
        cls,
        sweeps: Iterable[str] = (),
        evaluations: Iterable[str] = (),
        laws: Iterable[str] = (),
        preset: str = "",
        title: str = "",
    ) -> Inputs:
        """Read the files of command-line options, each NAME=FILE.

        Raises
        ------
        UserError
            When an option is not NAME=FILE, or its file is missing.
        """
        return cls.of(
            {name: pd.read_parquet(path) for name, path in map(_named, sweeps)},
            {name: pd.read_parquet(path) for name, path in map(_named, evaluations)},
            {name: _read_law(path) for name, path in map(_named, laws)},
            preset,
            title,
        )

    @classmethod
    def of_options(cls, options: argparse.Namespace) -> Inputs:
        """Read the files that the options of `add_options` name."""
        return cls.read(options.sweep, options.evaluation, options.law, options.preset, options.title)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options that name a figure's or a table's inputs."""
    for kind in ("sweep", "evaluation", "law"):
        parser.add_argument(f"--{kind}", action="append", default=[], metavar="NAME=FILE", help=f"a {kind}'s file")
    parser.add_argument("--preset", default="", help="name of the experiment")
    parser.add_argument("--title", default="", help="what the experiment is, in words")


def _named(option: str) -> tuple[str, Path]:
    name, equals, path = option.partition("=")
    if not (name and equals and path):
        raise UserError(f"{option!r} is not NAME=FILE")
    if not Path(path).is_file():
        raise UserError(f"{name}: there is no file {path}")
    return name, Path(path)


def _read_law(path: Path) -> Fit:
    from pipeline.laws.fit import load_fit

    return load_fit(path)
