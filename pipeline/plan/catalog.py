"""What each figure, table and law is made from: the sweeps, evaluations and laws that it reads.

Code, not config, since a plot needs particular columns. Standard library only: the Snakefile imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError
from pipeline.plan.counts import count
from pipeline.plan.sweeps import Member


@dataclass(frozen=True)
class Needs:
    """Names of the sweeps, evaluated sweeps, laws, and points of laws that something reads."""

    sweeps: tuple[str, ...] = ()
    evaluations: tuple[str, ...] = ()
    laws: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    """Laws whose points are read: the rows that they were fitted to, with residuals."""
    other_text: bool = False
    """Whether there must be text that was never trained on (the config's data/transfer)."""
    cases: bool = False
    """Whether the simulated worlds are read, all of `pipeline.power.cases`."""


LAWS: dict[str, Needs] = {
    "L_N": Needs(sweeps=("sizes",)),
    "log_N": Needs(sweeps=("sizes",)),
    "L_D": Needs(sweeps=("data",)),
    "L_N_D": Needs(sweeps=("data",)),
    "L_C": Needs(sweeps=("sizes",)),
    "N_opt": Needs(sweeps=("sizes",)),
    "S_opt": Needs(sweeps=("sizes",)),
    "B_crit": Needs(sweeps=("batches",)),
    "L_N_S": Needs(sweeps=("sizes",), laws=("B_crit",)),
    "L_C_min": Needs(sweeps=("sizes",), laws=("B_crit",)),
    "N_opt_min": Needs(sweeps=("sizes",), laws=("B_crit",)),
    "S_opt_min": Needs(sweeps=("sizes",), laws=("B_crit",)),
    "D_opt_min": Needs(sweeps=("sizes",), laws=("B_crit",)),
    "B_opt_min": Needs(sweeps=("sizes",), laws=("B_crit",)),
    "chinchilla": Needs(sweeps=("validation",), evaluations=("validation",)),
}
"""Law -> what its points are taken from; `pipeline.analysis.points` says which rows."""

FIGURES: dict[str, Needs] = {
    "fig01": Needs(
        sweeps=("sizes", "data"),
        laws=("L_N", "L_D", "L_C", "L_C_min", "B_crit"),
        points=("L_N", "L_D", "L_C", "L_C_min"),
    ),
    "fig02": Needs(sweeps=("sizes",)),
    "fig03": Needs(sweeps=("sizes",), laws=("N_opt_min", "S_opt_min", "L_C_min", "B_crit"), points=("N_opt_min",)),
    "fig04": Needs(sweeps=("data", "sizes"), laws=("L_N_D", "L_N_S", "B_crit"), points=("L_N_D", "L_N_S")),
    "fig05": Needs(sweeps=("shapes",), laws=("L_N", "L_C", "L_C_min")),
    "fig06": Needs(sweeps=("depths", "sizes")),
    "fig07": Needs(sweeps=("sizes", "lstms"), evaluations=("sizes", "lstms")),
    "fig08": Needs(evaluations=("sizes", "one_large"), other_text=True),
    "fig09": Needs(sweeps=("data",), laws=("L_N_D",), points=("L_N_D",)),
    "fig10": Needs(sweeps=("batches", "sizes"), laws=("B_crit",), points=("B_crit",)),
    "fig11": Needs(sweeps=("sizes",), laws=("L_N_S", "B_crit"), points=("L_N_S",)),
    "fig12": Needs(laws=("L_N_S",)),
    "fig13": Needs(sweeps=("sizes",), laws=("L_C", "L_C_min", "B_crit"), points=("L_C", "L_C_min")),
    "fig14": Needs(
        sweeps=("sizes",),
        laws=("N_opt", "N_opt_min", "S_opt", "S_opt_min", "B_crit"),
        points=("N_opt", "N_opt_min", "S_opt", "S_opt_min"),
    ),
    "fig15": Needs(sweeps=("sizes", "data"), laws=("L_C_min", "D_opt_min", "L_D", "B_crit"), points=("L_C_min", "L_D")),
    "fig16": Needs(sweeps=("data",), laws=("L_N_D", "L_N_S", "B_crit")),
    "fig17": Needs(sweeps=("sizes", "recurrent")),
    "fig18": Needs(sweeps=("batches",), laws=("B_crit",)),
    "fig19": Needs(sweeps=("sizes",), laws=("B_crit",)),
    "fig20": Needs(evaluations=("sizes", "one_large")),
    "fig21": Needs(evaluations=("sizes", "short")),
    "fig22": Needs(sweeps=("schedules",)),
    "fig23": Needs(sweeps=("sizes",), laws=("L_N", "log_N"), points=("L_N",)),
    "fig24": Needs(evaluations=("transfer",)),
    "validation": Needs(sweeps=("validation",), laws=("chinchilla",), points=("chinchilla",)),
}
"""Figure of the paper -> what it is drawn from."""

TABLES: dict[str, Needs] = {
    "table1": Needs(sweeps=("sizes",)),
    "table2": Needs(laws=("L_N_D",)),
    "table3": Needs(laws=("L_N_S",)),
    "table4": Needs(sweeps=("sizes", "data"), laws=("L_N", "L_D", "L_C", "L_C_min", "L_N_D", "L_N_S")),
    "table5": Needs(laws=("L_N", "L_D", "L_C", "L_C_min", "B_crit", "L_N_S")),
    "table6": Needs(laws=("N_opt_min", "B_opt_min", "S_opt_min", "D_opt_min")),
    "claims": Needs(
        sweeps=("sizes", "data", "depths", "batches", "shapes", "lstms", "recurrent", "schedules"),
        evaluations=("sizes", "lstms", "short", "one_large", "transfer"),
        laws=(
            *("L_N", "L_D", "L_N_D", "L_C", "L_C_min", "L_N_S", "B_crit"),
            *("N_opt", "N_opt_min", "B_opt_min", "S_opt_min", "D_opt_min"),
        ),
        points=("L_D", "L_N_D", "L_C", "L_C_min", "L_N_S"),
    ),
    "learning_rates": Needs(sweeps=("lr_scan",)),
    "precision": Needs(sweeps=("precision",)),
    "power": Needs(cases=True),
}
"""Table of the paper -> what it is made from."""

EXTRAS = ("learning_rates", "power", "precision", "validation")
"""Not in the paper: made when they are named, not with `all`."""


@dataclass(frozen=True)
class Least:
    """How many different values of something the members of a sweep must have at least."""

    sweep: str
    number: int
    what: str
    value: Callable[[Member], Hashable]
    """What is counted of a member; None does not count."""


def _size(member: Member) -> Hashable:
    return count(member.run).n_params or None


def _fitted_size(member: Member) -> Hashable:
    return count(member.run).n_params if member.fitted else None


def _data_set(member: Member) -> Hashable:
    return (member.run.n_unique_tokens,) if member.fitted else None


def _runs(condition: Callable[[Member], Any]) -> Callable[[Member], Hashable]:
    return lambda member: member.run.id if condition(member) else None


def _sizes(sweep: str, number: int = 2) -> Least:
    return Least(sweep, number, "sizes of model (shape)", _size)


def _fitted_sizes(sweep: str, number: int) -> Least:
    return Least(sweep, number, "fitted sizes of model (shape)", _fitted_size)


def _labelled(label: str) -> Least:
    return Least("shapes", 2, f"runs with label {label}", _runs(lambda member: label in member.label.split(",")))


_DATA_SETS = Least("data", 3, "fitted sizes of data (n_unique_tokens)", _data_set)
_BATCHES = Least("batches", 4, "sizes of batch (batch_sequences)", lambda member: member.run.batch_tokens)
_SNAPSHOTS = Least("one_large", 1, "runs with snapshots", _runs(lambda member: member.run.snapshots))

LEAST: dict[str, tuple[Least, ...]] = {
    "L_N": (_fitted_sizes("sizes", 3),),
    "log_N": (_fitted_sizes("sizes", 3),),
    "L_C": (_fitted_sizes("sizes", 3),),
    "L_D": (_DATA_SETS,),
    "L_N_D": (_fitted_sizes("data", 2), _DATA_SETS),
    "B_crit": (_BATCHES,),
    "chinchilla": (_fitted_sizes("validation", 3),),
    "fig02": (_sizes("sizes"),),
    "fig05": (_labelled("d_ff_ratio"), _labelled("aspect"), _labelled("heads")),
    "fig06": (
        Least("depths", 1, "runs of 0 layers", _runs(lambda member: member.run.n_layer == 0)),
        Least("depths", 1, "runs of 2 layers or more", _runs(lambda member: member.run.n_layer >= 2)),
    ),
    "fig07": (_sizes("sizes"),),
    "fig08": (_SNAPSHOTS,),
    "fig09": (Least("data", 1, "runs on all data", _runs(lambda member: member.run.n_unique_tokens is None)),),
    "fig10": (_sizes("batches"),),
    "fig13": (_sizes("sizes"),),
    "fig17": (_sizes("sizes"),),
    "fig18": (_sizes("batches"),),
    "fig20": (_SNAPSHOTS,),
    "fig21": (_sizes("sizes"), _sizes("short")),
    "fig22": (Least("schedules", 2, "schedules", lambda member: member.run.schedule),),
    "fig24": (Least("transfer", 2, "depths (n_layer)", lambda member: member.run.n_layer),),
}
"""Law or figure -> what its sweeps must have, as far as the plan can tell, so that it can be made at all."""


def wanted(kind: str, config: Mapping[str, Any]) -> list[str]:
    """Return the names of `figures` or `tables` that the config asks for.

    Raises
    ------
    UserError
        For an unknown name, or when a sweep or the text that one of them needs is not in the config.
    """
    known = {"figures": FIGURES, "tables": TABLES}[kind]
    everything = [name for name in known if name not in (*EXTRAS, *left_out(config))]
    names = everything if config[kind] == "all" else config[kind]
    for name in names:
        if name not in known:
            raise UserError(f"config: {kind}: {name!r} is not one of {', '.join(known)}")
        if missing := sorted(all_sweeps([known[name]]) - set(config["sweeps"])):
            raise UserError(
                f"config: {kind}: {name} needs the sweep {', '.join(missing)}, which the config's sweeps lack"
            )
        if reason := left_out(config).get(name):
            raise UserError(f"config: {kind}: {name} can't be made: {reason}")
    return names


def left_out(config: Mapping[str, Any]) -> dict[str, str]:
    """Return figure or table -> why it can't be made with the config's text, for those that `all` leaves out."""
    if config["data"]["transfer"]:
        return {}
    reason = "it shows the loss on text that was never trained on, and data/transfer names none"
    return {name: reason for name, needs in {**FIGURES, **TABLES}.items() if needs.other_text}


def all_laws(needs: Iterable[Needs]) -> list[str]:
    """Return the laws behind some needs, those that other laws rest on included."""
    found: set[str] = set()
    for need in needs:
        named = {*need.laws, *need.points}
        found |= named | set(all_laws([LAWS[law] for law in named]))
    return sorted(found)


def all_sweeps(needs: Iterable[Needs]) -> set[str]:
    """Return the sweeps behind some needs, those of their laws included."""
    needs = list(needs)
    entries = needs + [LAWS[law] for law in all_laws(needs)]
    return {name for entry in entries for name in (*entry.sweeps, *entry.evaluations)}


def check_least(names: Iterable[str], sweeps: Mapping[str, Sequence[Member]]) -> None:
    """Refuse a sweep with too little in it for one of these laws and figures.

    Raises
    ------
    UserError
        One line that names the sweep, the law or figure, and what is needed.
    """
    for name in names:
        for least in LEAST.get(name, ()):
            found = len({least.value(member) for member in sweeps[least.sweep]} - {None})
            if found < least.number:
                raise UserError(
                    f"config: sweeps/{least.sweep}: {name} needs {least.what}: at least {least.number}; there "
                    f"{'is' if found == 1 else 'are'} {found}"
                )
