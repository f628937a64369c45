"""Split a compute budget into model size, data, batch and steps, as each law has it.

| rule | laws | split of C |
| --- | --- | --- |
| `chinchilla` | chinchilla | least L(N, D) at C = 6 N D, closed form (Hoffmann et al. 2022, Eq 4) |
| `L_N_S + B_crit` | L_N_S, B_crit | Appendix B of the paper, Eq B.6, B.9, B.10; C is C_min |
| `L_N_D` | L_N_D | least L(N, D) at C = 6 N D: each token is seen once |
| `muennighoff` | muennighoff | least L at C = 6 N D with U unique tokens (Muennighoff et al. 2023, Eq 13), by search |
| `isoflop`, `envelope` | one of these | its lines |
| `power laws` | N_opt_min, D_opt_min, S_opt_min, B_opt_min, L_C_min | each at C_min; D = C / (6 N) without a D |
| | N_opt, S_opt, L_C | the same at the compute C of a fixed batch |

The same split is made for each bootstrap draw, and the interval is that of the splits. Draws of several laws are paired
by replicate where their runs have names, else at random (`fit.paired_draws`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from ...errors import UserError
from ..algebra.efficiency import Laws
from ..fitting.estimate import Array
from ..fitting.fit import Fit, paired_draws
from ..fitting.intervals import interval_ends
from ..fitting.point_table import UNITS
from ..formulas import FORMULAS
from ..formulas.chinchilla import best_split
from ..formulas.optimum import Optimum
from . import remarks

SYMBOLS = {
    "n_params": "N",
    "n_tokens": "D",
    "n_unique_tokens": "U",
    "epochs": "epochs",
    "batch_tokens": "B",
    "steps": "S",
    "loss": "L",
}
QUANTITIES = UNITS | {"epochs": ""}
POWERS = {
    "N_opt": "n_params",
    "S_opt": "steps",
    "N_opt_min": "n_params",
    "D_opt_min": "n_tokens",
    "S_opt_min": "steps",
    "B_opt_min": "batch_tokens",
}
LOSSES = ("L_C_min", "L_C")
SPAN, GRID, CLOSE = 12.0, 65, 1e-8  # of the search for the best size: in ln N, and to which distance
MOST = 1e100  # as good as endless
AT_THE_END = 1e-7  # of a loss
REPEATED = "muennighoff"
ONE_EPOCH = "each token is seen once, so C = 6 N D"
EPOCHS = "C = 6 N D, and U of the D tokens are unique"
SMALL_BATCH = (
    "C is C_min, the compute of a batch far below B: S is S_min and D = B S = C / (6 N); trained at the batch B,"
    " the same loss takes twice the steps, the tokens and the compute"
)


@dataclass(frozen=True)
class Allocation:
    """What one rule says of each budget.

    `values` maps a quantity (n_params, n_tokens, steps, loss, ...) to its estimate, low and high, arrays as long as
    `flops`; low and high are NaN without an interval, infinite where it is open. A quantity that the rule says
    nothing of is absent. Where one can't be, such as a size below 1 parameter, all are NaN and `problems` says why.
    `outside` maps an input of the laws to how many decades it lies above what was fitted, or below (negative);
    `unknown` names laws whose file does not say what was fitted.
    """

    rule: str
    convention: str
    flops: Array
    values: dict[str, tuple[Array, Array, Array]]
    outside: dict[str, Array]
    problems: list[list[str]]  # of each budget
    unknown: list[str]

    def _outside(self, k: int) -> dict[str, float]:
        return {name: float(away[k]) for name, away in self.outside.items()}

    def to_dict(self) -> dict[str, object]:
        """Return what goes into JSON: a record a budget."""
        budgets = []
        for k, flops in enumerate(self.flops):
            record: dict[str, object] = {"flops": float(flops)}
            for name, ends in self.values.items():
                estimate, low, high = (float(end[k]) if np.isfinite(end[k]) else None for end in ends)
                record[name] = {"estimate": estimate, "low": low, "high": high, "unit": QUANTITIES[name]}
            record["outside_range"] = remarks.record(self._outside(k))
            record["problems"] = self.problems[k]
            budgets.append(record)
        head = {"rule": self.rule, "convention": self.convention, "range_unknown": self.unknown}
        return {**head, "budgets": budgets}

    def table(self) -> str:
        """Return a readable table: one line a budget and quantity."""
        rows = [("C (FLOP)", "", "estimate", "low", "high", "unit")]
        for k, flops in enumerate(self.flops):
            for name, ends in self.values.items():
                numbers = (f"{end[k]:.4g}" if np.isfinite(end[k]) else "-" for end in ends)
                rows.append((f"{flops:.4g}", SYMBOLS[name], *numbers, QUANTITIES[name]))
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        for k, flops in enumerate(self.flops):
            said = [*self.problems[k], remarks.sentence(self._outside(k))]
            lines += [f"C = {flops:.4g}: {one}" for one in said if one]
        lines += [f"{law}: {remarks.UNKNOWN}" for law in self.unknown]
        return "\n".join([f"{self.rule}: {self.convention}", *lines])


def allocate(fits: Sequence[Fit], flops: ArrayLike, unique_tokens: ArrayLike | None = None) -> list[Allocation]:
    """Return what each rule that the fits allow says of the budgets.

    Parameters
    ----------
    fits : sequence of Fit
        One or more; L_N_S and B_crit make one rule together, and so do the power laws.
    flops : array_like
        Budgets C in FLOP, positive.
    unique_tokens : array_like, optional
        How many different tokens there are, one number or one a budget; of muennighoff, which needs it.

    Raises
    ------
    UserError
        For a law that says nothing of the split (L(N) alone), L_N_S or B_crit without the other, two fits of one
        law, a budget that is not positive, or a fit without an optimum (exit code 3).

    Examples
    --------
    >>> import pandas as pd
    >>> from pipeline.laws import FORMULAS
    >>> n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 5)))
    >>> loss = 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28
    >>> fit = FORMULAS["chinchilla"].fit(pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss}), n_boot=0)
    >>> (split,) = allocate([fit], 5.76e23)
    >>> [f"{split.values[name][0][0]:.2g}" for name in ("n_params", "n_tokens")]
    ['3.2e+10', '3e+12']
    """
    c = np.atleast_1d(np.asarray(flops, dtype=float))
    if not (np.isfinite(c) & (c > 0)).all():
        raise UserError(f"flops: {c[~(np.isfinite(c) & (c > 0))][0]:g} must be a positive number of FLOP")
    if c.min() < 1:
        raise UserError(f"flops: {c.min():g} must be at least 1; budgets are in FLOP, not in PF-days")
    by_law: dict[str, Fit] = {}
    for fit in fits:
        fit.require()
        if fit.law in by_law:
            raise UserError(f"{fit.law}: two fits of this law are given; one is needed")
        by_law[fit.law] = fit

    found = []
    unique = _unique(unique_tokens, REPEATED in by_law, len(c))
    if REPEATED in by_law:
        fit = by_law.pop(REPEATED)
        rule = partial(_repeated, unique=unique)
        found.append(_with_intervals(REPEATED, EPOCHS, [fit], c, rule, _exhausted(fit, unique)))
    for name in [
        name for name in by_law if name in ("chinchilla", "L_N_D") or isinstance(by_law[name].definition, Optimum)
    ]:
        fit = by_law.pop(name)
        rule = {"chinchilla": _chinchilla, "L_N_D": _l_n_d}.get(name, _optimum)
        convention = ONE_EPOCH if name in ("chinchilla", "L_N_D") else "D is the data of the best size"
        found.append(_with_intervals(name, convention, [fit], c, rule))
    if "L_N_S" in by_law and "B_crit" in by_law:
        pair = [by_law.pop("L_N_S"), by_law.pop("B_crit")]
        found.append(_with_intervals("L_N_S + B_crit", SMALL_BATCH, pair, c, _appendix_b))
    powers = [by_law.pop(name) for name in list(by_law) if name in (*POWERS, *LOSSES)]
    if any(fit.law in POWERS for fit in powers):
        if len({fit.law.endswith("_min") for fit in powers}) > 1:
            names = ", ".join(fit.law for fit in powers)
            raise UserError(f"{names}: laws of C_min (their names end in _min) don't go with those of a fixed batch")
        targets = [_target(fit) for fit in powers]
        for target in targets:
            if targets.count(target) > 1:
                raise UserError(f"{', '.join(fit.law for fit in powers if _target(fit) == target)}: both give {target}")
        convention = "each is its own power law of C"
        convention += "" if "n_tokens" in targets or "n_params" not in targets else "; D = C / (6 N)"
        found.append(_with_intervals("power laws", convention, powers, c, _powers([fit.law for fit in powers])))
    else:
        by_law |= {fit.law: fit for fit in powers}
    for name in by_law:
        other = {"L_N_S": "B_crit", "B_crit": "L_N_S"}.get(name)
        needed = f"give the fit of {other} too" if other else "it does not say how to split a budget"
        raise UserError(f"{name}: alone it gives no allocation; {needed}")
    if not found:
        raise UserError("no fit is given to allocate by")
    return found


Rule = Callable[[Sequence[Array], Array], dict[str, Array]]
"""(parameter vectors of each law, each (n, p); budgets) -> quantities, each (n, n_budgets)."""


def _with_intervals(
    name: str, convention: str, fits: Sequence[Fit], flops: Array, rule: Rule, least: Array | None = None
) -> Allocation:
    """Apply a rule to the estimates and to every draw; where the loss is as good as the `least`, no split is best."""
    with np.errstate(all="ignore"):  # a wild draw can be infinite
        estimates = rule([np.asarray(fit.vector)[None] for fit in fits], flops)
        draws = paired_draws(*fits)
        n = len(draws[0])
        drawn = rule(draws, flops) if n else {}
        values = {}
        for key, estimate in estimates.items():
            low, high = interval_ends(drawn[key], fits[0].level) if n else np.full((2, len(flops)), np.nan)
            values[key] = (np.array(estimate[0]), np.array(low), np.array(high))
    outside = _outside(fits, {"flops": flops} | {key: ends[0] for key, ends in values.items()})
    problems = []
    for k in range(len(flops)):
        found = (remarks.impossible(key, ends[0][k]) for key, ends in values.items())
        problems.append([problem for problem in found if problem])
        if least is not None and values["loss"][0][k] <= least[k] * (1 + AT_THE_END):
            said = f"any split is as good: so many unique tokens give a loss of {least[k]:.6g} with endless compute"
            problems[k].append(f"{said}, which this budget reaches")
        if problems[k]:  # the other quantities of this split rest on it
            for end in itertools.chain.from_iterable(values.values()):
                end[k] = np.nan
    unknown = [fit.law for fit in fits if not fit.ranges]
    return Allocation(name, convention, flops, values, outside, problems, unknown)


def _outside(fits: Sequence[Fit], known: dict[str, Array]) -> dict[str, Array]:
    """Return by how many decades each input of the laws lies outside of what was fitted, the farthest of all laws."""
    outside: dict[str, Array] = {}
    for fit in fits:
        inputs = {column: known[column] for column in fit.definition.inputs if column in known}
        if fit.ranges and len(inputs) == len(fit.definition.inputs):
            for column, away in fit.outside(**inputs).items():
                before = outside.get(column, np.zeros_like(away))
                outside[column] = np.where(np.abs(away) > np.abs(before), away, before)
    return outside


def _chinchilla(vectors: Sequence[Array], flops: Array) -> dict[str, Array]:
    e, a, b, alpha, beta = (vectors[0][:, k, None] for k in range(5))
    n, d = best_split(flops, a, b, alpha, beta)
    loss = np.exp(e) + np.exp(a - alpha * np.log(n)) + np.exp(b - beta * np.log(d))
    return {"n_params": n, "n_tokens": d, "loss": loss}


def _repeated(vectors: Sequence[Array], flops: Array, unique: Array) -> dict[str, Array]:
    """Look for the best size between e^-SPAN and e^SPAN times that of tokens without end, ever closer."""
    law, (vector,) = FORMULAS[REPEATED], vectors
    a, alpha, b, beta = (vector[:, k, None] for k in (1, 2, 3, 4))
    middle = np.log(best_split(flops, a, b, alpha, beta)[0])
    steps, span = np.linspace(-1, 1, GRID), SPAN
    budget, different = (np.repeat(one, GRID) for one in (flops, unique))
    while span > CLOSE:
        ln_n = middle[:, :, None] + span * steps
        n = np.exp(ln_n).reshape(len(vector), -1)
        inputs = {"n_params": n, "n_tokens": budget / (6 * n), "n_unique_tokens": different}
        loss = law.evaluate(vector, inputs).reshape(ln_n.shape)
        best = np.where(np.isnan(loss), np.inf, loss).argmin(-1)[:, :, None]
        middle = np.take_along_axis(ln_n, best, -1)[:, :, 0]
        span *= 2 * (steps[1] - steps[0])
    n = np.exp(middle)
    d = flops / (6 * n)
    used = np.minimum(unique, d)
    loss = law.evaluate(vector, {"n_params": n, "n_tokens": d, "n_unique_tokens": used})
    return {"n_params": n, "n_tokens": d, "n_unique_tokens": used, "epochs": d / used, "loss": loss}


def _exhausted(fit: Fit, unique: Array) -> Array:
    """Return the loss of endless parameters and epochs on so many unique tokens."""
    endless = {"n_params": np.full(len(unique), MOST), "n_tokens": np.full(len(unique), np.inf)}
    return fit.predict(**endless, n_unique_tokens=np.minimum(unique, MOST))


def _unique(given: ArrayLike | None, wanted: bool, n: int) -> Array:
    """Return how many unique tokens there are, of each of n budgets; refuse a number too many or too few."""
    if given is None:
        if wanted:
            raise UserError(f"{REPEATED}: how many unique tokens there are is missing (--unique-tokens)")
        return np.full(n, np.inf)
    unique = np.atleast_1d(np.asarray(given, dtype=float))
    if not wanted:
        raise UserError(f"--unique-tokens: is of {REPEATED}, and of none of these fits")
    if not (unique >= 1).all():
        raise UserError(f"--unique-tokens: {unique[~(unique >= 1)][0]:g} must be at least 1")
    if len(unique) not in (1, n):
        raise UserError(f"--unique-tokens: {len(unique)} values for {n} budgets; one, or as many, are needed")
    return np.broadcast_to(unique, n)


def _l_n_d(vectors: Sequence[Array], flops: Array) -> dict[str, Array]:
    """At C = 6 N D the inside of Eq 1.5 is (N_c/N)^r + 6 D_c N / C, r = alpha_N / alpha_D; its slope is 0."""
    ln_nc, a_n, ln_dc, a_d = (vectors[0][:, k, None] for k in range(4))
    r, budget = a_n / a_d, np.log(flops / 6)
    ln_n = (np.log(r) + r * ln_nc + budget - ln_dc) / (r + 1)
    ln_d = budget - ln_n
    loss = np.exp(a_d * np.logaddexp(r * (ln_nc - ln_n), ln_dc - ln_d))
    return {"n_params": np.exp(ln_n), "n_tokens": np.exp(ln_d), "loss": loss}


def _optimum(vectors: Sequence[Array], flops: Array) -> dict[str, Array]:
    k_n, a, k_d, b, k_l, c = (vectors[0][:, k, None] for k in range(6))
    x = np.log(flops)
    return {"n_params": np.exp(k_n + a * x), "n_tokens": np.exp(k_d + b * x), "loss": np.exp(k_l - c * x)}


def _appendix_b(vectors: Sequence[Array], flops: Array) -> dict[str, Array]:
    ln_nc, a_n, ln_sc, a_s = (vectors[0][:, k, None] for k in range(4))
    ln_b, a_b = (vectors[1][:, k, None] for k in range(2))
    laws = Laws(alpha_N=a_n, N_c=np.exp(ln_nc), alpha_S=a_s, S_c=np.exp(ln_sc), alpha_B=a_b, B_star=np.exp(ln_b))
    n, loss = laws.efficient_size(flops), laws.efficient_loss(flops)
    return {
        "n_params": n,
        "n_tokens": flops / (6 * n),
        "batch_tokens": np.exp(ln_b) / loss ** (1 / a_b),
        "steps": laws.efficient_steps(flops),
        "loss": loss,
    }


def _target(fit: Fit) -> str:
    return POWERS.get(fit.law, "loss")


def _powers(laws: Sequence[str]) -> Rule:
    def rule(vectors: Sequence[Array], flops: Array) -> dict[str, Array]:
        values = {
            POWERS.get(law, "loss"): FORMULAS[law].evaluate(vector, {"flops": flops})
            for law, vector in zip(laws, vectors, strict=True)
        }
        if "n_params" in values and "n_tokens" not in values:
            values["n_tokens"] = flops / (6 * values["n_params"])
        return {name: values[name] for name in SYMBOLS if name in values}

    return rule
