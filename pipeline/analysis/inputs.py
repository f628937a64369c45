"""What a figure, a table or a claim is given: sweeps, evaluations, laws and their points by name."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.analysis import tables
from pipeline.errors import UserError
from pipeline.files import read_json, reading

if TYPE_CHECKING:
    from pipeline.laws.fitting.fit import Fit


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
    points: Mapping[str, pd.DataFrame] = field(default_factory=lambda: Named("points"))
    """Law -> the rows that it was fitted to, with `residual` (ln of measured over predicted); none if it has none."""
    cases: Mapping[str, dict[str, Any]] = field(default_factory=lambda: Named("case"))
    """Simulated world -> what became of the claims there (`pipeline.power.simulate.outcomes`)."""
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
        points: Mapping[str, pd.DataFrame] = {},
        cases: Mapping[str, dict[str, Any]] = {},
        *,
        preset: str = "",
        title: str = "",
    ) -> Inputs:
        """Make inputs from plain dicts of tables, fits and simulated worlds."""
        named = Named("sweep", sweeps), Named("evaluation", evaluations), Named("law", laws), Named("points", points)
        return cls(*named, Named("case", cases), preset, title)

    @classmethod
    def read(
        cls,
        sweeps: Iterable[str] = (),
        evaluations: Iterable[str] = (),
        laws: Iterable[str] = (),
        points: Iterable[str] = (),
        cases: Iterable[str] = (),
        *,
        preset: str = "",
        title: str = "",
    ) -> Inputs:
        """Read the files of command-line options, each NAME=FILE.

        Raises
        ------
        UserError
            When an option is not NAME=FILE, or its file is missing, damaged, or says that it holds something else.
        """
        return cls.of(
            {name: tables.read(path, "sweep", name, preset) for name, path in map(_named, sweeps)},
            {name: tables.read(path, "evaluation", name, preset) for name, path in map(_named, evaluations)},
            {name: _read_law(path, name) for name, path in map(_named, laws)},
            {name: tables.read(path, "points", name, preset) for name, path in map(_named, points)},
            {name: _read_case(path, name, preset) for name, path in map(_named, cases)},
            preset=preset,
            title=title,
        )

    @classmethod
    def of_options(cls, options: argparse.Namespace) -> Inputs:
        """Read the files that the options of `add_options` name."""
        given = options.sweep, options.evaluation, options.law, options.points, options.case
        return cls.read(*given, preset=options.preset, title=options.title)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options that name a figure's or a table's inputs."""
    for kind in ("sweep", "evaluation", "law", "case"):
        parser.add_argument(f"--{kind}", action="append", default=[], metavar="NAME=FILE", help=f"a {kind}'s file")
    parser.add_argument("--points", action="append", default=[], metavar="LAW=FILE", help="the points of a law")
    parser.add_argument("--preset", default="", help="name of the experiment")
    parser.add_argument("--title", default="", help="what the experiment is, in words")


def module_of(command: str, name: str, kind: str, shared: Sequence[str]) -> ModuleType:
    """Return the module of a figure or table, which is a file beside that of its command.

    The files are the list: a command that read the catalog would run again for all when one line is added to it.

    Parameters
    ----------
    command : str
        The file of the command.
    name : str
        What was asked for.
    kind : str
        What it is, for the error.
    shared : sequence of str
        The modules of that folder that are none.

    Raises
    ------
    UserError
        When there is no such module.
    """
    folder = Path(command).parent
    known = sorted(path.stem for path in folder.glob("[a-z]*.py") if path.stem not in shared)
    if name not in known:
        raise UserError(f"{kind}: {name!r} is not one of {', '.join(known)}")
    return importlib.import_module(f"pipeline.{folder.name}.{name}")


def _named(option: str) -> tuple[str, Path]:
    name, equals, path = option.partition("=")
    if not (name and equals and path):
        raise UserError(f"{option!r} is not NAME=FILE")
    if not Path(path).is_file():
        raise UserError(f"{name}: there is no file {path}")
    return name, Path(path)


def _read_law(path: Path, name: str) -> Fit:
    from pipeline.laws.fitting.fit import load_fit

    again = "remove it, and start the workflow again"
    try:
        fit = load_fit(path)
    except UserError as error:
        raise UserError(f"{error}; {again}") from error
    if fit.law != name:
        raise UserError(f"{path}: holds the law {fit.law}, not {name}; {again}")
    return fit


def _read_case(path: Path, name: str, preset: str) -> dict[str, Any]:
    again = "remove it, and start the workflow again"
    with reading(path, f"the simulated world {name}", again):
        case = dict(read_json(path))
        holds, of = case["case"], case["preset"]
        if missing := {"experiments", "draws", "claims"} - case.keys():
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    if holds != name or (preset and of != preset):
        raise UserError(f"{path}: holds the world {holds} of preset {of}, not {name} of preset {preset}; {again}")
    return case
