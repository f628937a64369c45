"""Approach 2 of Hoffmann et al. 2022: the best size of each compute budget, and the power laws through the budgets.

Runs of one budget C differ in size N. A parabola in ln N through their losses (or an Akima interpolation, which
assumes no shape) has its minimum at N_opt(C). A budget whose minimum is at an end of its sizes says only that the
best size lies beyond, so it is left out and named.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.interpolate import Akima1DInterpolator

from pipeline.errors import UserError
from pipeline.laws.fitting import estimate
from pipeline.laws.fitting.draws import wild_replicates
from pipeline.laws.fitting.estimate import Array, Objective
from pipeline.laws.fitting.findings import FLAT
from pipeline.laws.formulas.optimum import Optima, Optimum, Replicates, parameters

GAP = np.log(1.1)  # budgets are at least a tenth apart
WIDTH = np.log(1.5)  # and one budget's runs at most this
LEAST = 3  # sizes in a budget


class IsoFLOP(Optimum):
    """Parabolas of the loss in ln N, by least squares of the loss (`mse`) or of its logarithm (`mse_log`)."""

    name = "isoflop"
    equation = "Hoffmann et al. 2022, section 3.2"
    size = "flops"
    objective = "mse"
    objectives = ("mse", "mse_log")
    definition = "parabola in ln N by least squares of the loss (mse) or ln loss (mse_log); lines through the minima"
    parameters = parameters(0.49, 0.51)

    def optima(self, points: pd.DataFrame, objective: Objective) -> Optima:
        """See `Optimum.optima`."""
        found: list[dict[str, object]] = []
        left_out: list[dict[str, object]] = []
        for flops, rows in budgets(points):
            reason = at_end(rows)
            if reason is None:
                ln_n, ln_loss = self.minimum(rows, target(rows, objective)[None], weights(rows)[None], objective)
                if not np.isfinite(ln_n[0]) or not rows.n_params.min() < np.exp(ln_n[0]) < rows.n_params.max():
                    reason = "the curve has no minimum between its smallest and largest size"
            if reason is not None:
                left_out.append({"flops": flops, "reason": reason})
                continue
            tokens = np.exp(tokens_at(rows, ln_n)[0])
            nearest = rows["run"].iloc[int(np.argmin(np.abs(np.log(rows["n_params"]) - ln_n[0])))]
            found.append({"flops": flops, "n": np.exp(ln_n[0]), "d": tokens, "l": np.exp(ln_loss[0]), "run": nearest})
        columns = [np.array([one[key] for one in found], dtype=float) for key in ("flops", "n", "d", "l")]
        return Optima(*columns, [str(one["run"]) for one in found], left_out)

    def minimum(self, rows: pd.DataFrame, y: Array, w: Array, objective: Objective) -> tuple[Array, Array]:
        """Return ln N and ln L at the minimum for targets y and weights w, both (n, n_points) or (1, n_points)."""
        x = np.log(rows["n_params"].to_numpy())
        centre, scale = x.mean(), x.std()
        u = (x - centre) / scale
        basis = np.stack([np.ones_like(u), u, u * u])
        w = np.broadcast_to(w, (max(len(w), len(y)), len(x)))
        gram = (basis * w[:, None]) @ basis.T
        sizes = np.unique(x)
        enough = np.array([(w * (x == size) > 0).any(-1) for size in sizes]).sum(0) >= LEAST
        gram[~enough] = np.eye(3)
        c0, c1, c2 = np.linalg.solve(gram, (basis @ (w * y)[:, :, None]))[:, :, 0].T
        with np.errstate(all="ignore"):
            good = enough & (c2 > 1e-12 * np.abs(c0))
            vertex, value = -c1 / (2 * c2), c0 - c1**2 / (4 * c2)
            value = value if objective.logarithmic else np.log(value)
        return np.where(good, centre + scale * vertex, np.nan), np.where(good, value, np.nan)

    def replicates(
        self, points: pd.DataFrame, optima: Optima, objective: Objective, bootstrap: str, n_boot: int, seed: int
    ) -> Replicates | str:
        """See `Optimum.replicates`: wild over the residuals of the parabolas, or runs drawn with replacement."""
        parts = [(flops, rows) for flops, rows in budgets(points) if flops in optima.flops]
        used = pd.concat([rows for _, rows in parts])
        runs = pd.Index(used["run"].unique())
        run_index, w = runs.get_indexer(used["run"]), weights(used)
        y, w = np.tile(target(used, objective), (1, 1)), np.tile(w, (1, 1))
        record: dict[str, object] = {"method": bootstrap}
        if bootstrap == "wild":
            spare = len(used) - 3 * len(parts)
            if spare < 1:
                return f"{len(used)} points for {len(parts)} parabolas: nothing is left to tell the noise from"
            y, degrees = self._wild(parts, y[0], w[0], runs, run_index, n_boot, seed)
            record |= {"degrees_of_freedom": degrees}
        else:
            w, _ = estimate.pairs_replicates(run_index, w[0], n_boot, seed, lambda some: np.ones(len(some), dtype=bool))
        columns, start = [], 0
        for _, rows in parts:
            part = slice(start, start + len(rows))
            ln_n, ln_loss = self.minimum(rows, y[:, part], w[:, part], objective)
            columns.append((ln_n, tokens_at(rows, ln_n), ln_loss))
            start = part.stop
        values = tuple(np.stack(one, axis=-1) for one in zip(*columns, strict=True))
        return Replicates(np.array([flops for flops, _ in parts]), values, record)

    @staticmethod
    def _wild(
        parts, y: Array, w: Array, runs: pd.Index, run_index: Array, n_boot: int, seed: int
    ) -> tuple[Array, float]:
        """Return replicates of the parabolas, and the degrees of freedom of the slopes of the lines through them."""
        design, fitted = np.zeros((len(y), 3 * len(parts))), np.empty_like(y)
        ln_c = np.log([flops for flops, _ in parts])
        along = (ln_c - ln_c.mean()) / ((ln_c - ln_c.mean()) ** 2).sum()
        contrasts = np.zeros((2, 3 * len(parts)))  # slopes of ln N and of the loss, by the parabolas' coefficients
        start = 0
        for k, (_, rows) in enumerate(parts):
            part, own = slice(start, start + len(rows)), slice(3 * k, 3 * k + 3)
            x = np.log(rows["n_params"].to_numpy())
            u = (x - x.mean()) / x.std()
            basis = np.stack([np.ones_like(u), u, u * u], axis=1)
            root = np.sqrt(w[part])[:, None]
            c = np.linalg.lstsq(basis * root, y[part] * root[:, 0], rcond=None)[0]
            fitted[part], design[part, own] = basis @ c, basis * root
            vertex = -c[1] / (2 * c[2])
            contrasts[0, own] = along[k] * x.std() * np.array([0, -0.5, -vertex]) / c[2]
            contrasts[1, own] = along[k] * np.array([1, vertex, vertex**2])
            start = part.stop
        root = np.sqrt(w)
        residual, degrees = estimate.leverage_correction(design, run_index, (y - fitted) * root, contrasts=contrasts)
        return wild_replicates(fitted, residual / root, runs, run_index, n_boot, seed), degrees


class IsoFLOPAkima(IsoFLOP):
    """Akima interpolation of the loss against ln N: no shape is assumed, so runs are drawn for the interval."""

    name = "isoflop_akima"
    equation = "Hoffmann et al. 2022, section 3.2, with the interpolation of Akima 1970"
    definition = "Akima interpolation of the loss (mse) or ln loss (mse_log) against ln N; lines through the minima"

    def minimum(self, rows: pd.DataFrame, y: Array, w: Array, objective: Objective) -> tuple[Array, Array]:
        """See `IsoFLOP.minimum`; NaN where the lowest size is an end."""
        x, size_index = np.unique(np.log(rows["n_params"].to_numpy()), return_inverse=True)
        n = max(len(w), len(y))
        found = np.full((2, n), np.nan)
        y, w = np.broadcast_to(y, (n, len(rows))), np.broadcast_to(w, (n, len(rows)))
        for k, (one, weight) in enumerate(zip(y, w, strict=True)):
            total = np.bincount(size_index, weight)
            there = total > 0
            if there.sum() < LEAST:
                continue
            sizes, losses = x[there], np.bincount(size_index, weight * one)[there] / total[there]
            lowest = int(np.argmin(losses))
            if lowest in (0, len(sizes) - 1):
                continue
            curve = Akima1DInterpolator(sizes, losses)
            places = curve.derivative().roots(extrapolate=False)
            places = np.append(places[np.isfinite(places)], sizes[lowest])
            values = curve(places)
            best = int(np.argmin(values))
            found[:, k] = places[best], values[best] if objective.logarithmic else np.log(values[best])
        return found[0], found[1]

    def replicates(
        self, points: pd.DataFrame, optima: Optima, objective: Objective, bootstrap: str, n_boot: int, seed: int
    ) -> Replicates | str:
        """See `Optimum.replicates`: an interpolation has no residuals, so runs are drawn with replacement."""
        return super().replicates(points, optima, objective, "pairs", n_boot, seed)


def weights(rows: pd.DataFrame) -> Array:
    """Return the weights of rows."""
    return rows["weight"].to_numpy()


def target(rows: pd.DataFrame, objective: Objective) -> Array:
    """Return what the curve is fitted to: the loss or its logarithm."""
    loss = rows["loss"].to_numpy()
    return np.log(loss) if objective.logarithmic else loss


def tokens_at(rows: pd.DataFrame, ln_n: Array) -> Array:
    """Return ln D at ln N: on one budget a straight line, of slope -1 where C = 6 N D."""
    x, y = np.log(rows["n_params"].to_numpy()), np.log(rows["n_tokens"].to_numpy())
    slope, intercept = np.polyfit(x - x.mean(), y, 1)
    return intercept + slope * (ln_n - x.mean())


def at_end(rows: pd.DataFrame) -> str | None:
    """Say why this budget can't have its minimum between its sizes, or return None."""
    by_size = rows.groupby("n_params")["loss"].mean()
    if len(by_size) < LEAST:
        return f"{len(by_size)} sizes, {LEAST} are needed"
    if by_size.max() <= by_size.min() * (1 + FLAT):
        return "its losses are equal, to rounding"
    lowest = by_size.idxmin()
    if lowest == by_size.index.min():
        return f"its lowest loss is at its smallest size, {lowest:.3g}"
    if lowest == by_size.index.max():
        return f"its lowest loss is at its largest size, {lowest:.3g}"
    return None


def budgets(points: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    """Return the rows of each compute budget, with its compute (the geometric mean) in FLOP, in ascending order.

    Rows within a tenth of their neighbour in compute are one budget, since models can't be cut to a budget exactly.

    Raises
    ------
    UserError
        When a budget found so spans more than half as much again: the computes are not in budgets.

    Examples
    --------
    >>> table = pd.DataFrame({"flops": [1e15, 3e15, 1.02e15, 2.9e15]})
    >>> [(f"{flops:.3g}", list(rows.index)) for flops, rows in budgets(table)]
    [('1.01e+15', [0, 2]), ('2.95e+15', [1, 3])]
    """
    ln_c = np.log(points["flops"].to_numpy())
    order = np.argsort(ln_c, kind="stable")
    cuts = np.flatnonzero(np.diff(ln_c[order]) > GAP) + 1
    parts = [np.sort(part) for part in np.split(order, cuts)]
    for part in parts:
        low, high = np.exp(ln_c[part].min()), np.exp(ln_c[part].max())
        if np.log(high / low) > WIDTH:
            raise UserError(
                f"column 'flops': {low:.3g} to {high:.3g} has no gap of a tenth, so these {len(part)} rows are in no"
                " compute budgets; isoflop needs several sizes at each of a few computes"
            )
    return [(float(np.exp(ln_c[part].mean())), points.iloc[part]) for part in parts]
