"""Approach 2 of Hoffmann et al. 2022: the best size of each compute budget, and the power laws through the budgets.

Runs of one budget C differ in size N. A parabola in ln N through their losses (or an Akima interpolation, which
assumes no shape) has its minimum at N_opt(C). A budget whose minimum is at an end of its sizes says only that the
best size lies beyond, so it is left out and named.

The loss is no parabola far from its minimum, so the parabola goes through a window of sizes about the lowest loss.
That of a factor of 10 was chosen by simulation (`python -m benchmarks.isoflop`: Chinchilla's law, 5, 8 or 11 sizes that
reach 4 to 30 times beyond the best, or are the same for all budgets). The rms error of the exponent over the designs:

| noise | all sizes | all, cubic | nearest 5 | nearest 7 | factor 4 | factor 10 | factor 16 | Akima |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| none | .0205 | .0240 | .0100 | .0110 | .0003 | .0005 | .0006 | .0009 |
| 0.1 % | .0206 | .0242 | .0104 | .0112 | .0029 | .0016 | .0016 | .0096 |
| 0.3 % | .0209 | .0253 | .0129 | .0122 | .0089 | .0048 | .0046 | .0219 |
| 1 % | .0243 | .0340 | .0249 | .0201 | .0275 | .0183 | .0176 | .0450 |

Without noise the best sizes are within 1.5 % of the true ones by a factor of 10, and up to 16 % off by all sizes; where
the law's two exponents are as unlike as 0.3 and 0.45, within 10 % (factor 16: 13 %, all: 32 %). Of the exponents of
five experiments of Porian et al. 2024, which are by Akima's interpolation, it is at most .025 off, all sizes .094.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.interpolate import Akima1DInterpolator

from ...errors import UserError
from ..fitting import estimate
from ..fitting.draws import wild_replicates
from ..fitting.estimate import Array, Objective
from ..fitting.findings import FLAT
from .optimum import Optima, Optimum, Replicates, parameters

GAP = np.log(1.1)  # budgets are at least a tenth apart
WIDTH = np.log(1.5)  # and one budget's runs at most this
LEAST = 3  # sizes in a budget
CURVES = {2: "parabola", 3: "cubic"}
WINDOW = "factor=10"


class IsoFLOP(Optimum):
    """Parabolas of the loss in ln N, by least squares of the loss (`mse`) or of its logarithm (`mse_log`).

    Parameters
    ----------
    window : str
        Which sizes of a budget the parabola goes through: `factor=10` those within a factor of 10 of the size with the
        lowest loss, and its two neighbours at least; `nearest=5` the 5 that are nearest to it; `all`.
    degree : {2, 3}
        Of the polynomial; 3 for a curve that is steeper on one side.

    Raises
    ------
    UserError
        For a window or a degree of another form.

    Examples
    --------
    >>> flops = np.repeat([1e18, 1e20], 5)
    >>> n = 0.1 * flops**0.5 * np.tile([0.2, 0.5, 1.1, 2.0, 5.0], 2)
    >>> points = pd.DataFrame({"flops": flops, "n_params": n, "loss": 2 + np.log(n / (0.1 * flops**0.5)) ** 2})
    >>> fit = IsoFLOP("nearest=4").fit(points, n_boot=0)
    >>> round(fit.value("a"), 6), fit.details["window"], fit.details["optima"][0]["points"]
    (0.5, 'nearest=4', 4)
    """

    name = "isoflop"
    equation = "Hoffmann et al. 2022, section 3.2"
    size = "flops"
    objective = "mse"
    objectives = ("mse", "mse_log")
    parameters = parameters(0.49, 0.51)

    def __init__(self, window: str = WINDOW, degree: int = 2) -> None:
        if degree not in CURVES:
            raise UserError(f"degree (--degree): {degree} is not {' or '.join(map(str, CURVES))}")
        self.window, self.degree = window, degree
        self.kind, self.width = read_window(window, degree)
        self.settings: dict[str, object] = {"window": window, "degree": degree}
        sizes = "all sizes" if self.kind == "all" else f"the sizes of the window {window}"
        self.definition = (
            f"{CURVES[degree]} in ln N by least squares of the loss (mse) or ln loss (mse_log) through {sizes};"
            " lines through the minima"
        )

    def optima(self, points: pd.DataFrame, objective: Objective) -> Optima:
        """See `Optimum.optima`."""
        found: list[dict[str, object]] = []
        left_out: list[dict[str, object]] = []
        curves: list[dict[str, object]] = []
        for flops, rows in budgets(points):
            reason = at_end(rows, self.degree + 1)
            if reason is None:
                rows = self.near(rows)
                ln_n, ln_loss = self.minimum(rows, target(rows, objective)[None], weights(rows)[None], objective)
                if not np.isfinite(ln_n[0]):
                    reason = "the curve has no minimum between the smallest and largest size that it goes through"
            if reason is not None:
                left_out.append({"flops": flops, "reason": reason})
                continue
            tokens = np.exp(tokens_at(rows, ln_n)[0])
            nearest = rows["run"].iloc[int(np.argmin(np.abs(np.log(rows["n_params"]) - ln_n[0])))]
            found.append({"flops": flops, "n": np.exp(ln_n[0]), "d": tokens, "l": np.exp(ln_loss[0]), "run": nearest})
            curves.append(self.curve(rows, objective, float(ln_n[0])))
        columns = [np.array([one[key] for one in found], dtype=float) for key in ("flops", "n", "d", "l")]
        return Optima(*columns, [str(one["run"]) for one in found], left_out, curves, self.settings)

    def near(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a budget that the curve goes through."""
        by_size = rows.groupby("n_params")["loss"].mean()
        kept = self.inside(np.log(by_size.index.to_numpy()), by_size.to_numpy()[None])[0]
        return rows[rows["n_params"].isin(by_size.index[kept])]

    def inside(self, ln_sizes: Array, losses: Array) -> Array:
        """Return which sizes are in the window about the lowest loss: ln N increasing, losses (n, n_sizes)."""
        lowest = losses.argmin(-1)[:, None]
        away = np.abs(ln_sizes - ln_sizes[lowest])
        rank = away.argsort(-1, kind="stable").argsort(-1)
        least = (rank <= self.degree) | (np.abs(np.arange(len(ln_sizes)) - lowest) <= 1)
        if self.kind == "factor":
            return least | (away <= np.log(self.width) * (1 + 1e-9))
        return least | (rank < self.width)

    def polynomials(self, rows: pd.DataFrame, y: Array, w: Array) -> tuple[Array, float, float]:
        """Return coefficients (n, degree + 1) of powers of u = (ln N - centre) / scale, and centre and scale.

        y and w are (n, n_points) or (1, n_points); NaN where too few sizes have a weight.
        """
        x = np.log(rows["n_params"].to_numpy())
        centre, scale = x.mean(), x.std()
        basis = ((x - centre) / scale) ** np.arange(self.degree + 1)[:, None]
        w = np.broadcast_to(w, (max(len(w), len(y)), len(x)))
        gram = (basis * w[:, None]) @ basis.T
        enough = np.array([(w * (x == size) > 0).any(-1) for size in np.unique(x)]).sum(0) > self.degree
        gram[~enough] = np.eye(self.degree + 1)
        c = np.linalg.solve(gram, (basis @ (w * y)[:, :, None]))[:, :, 0]
        return np.where(enough[:, None], c, np.nan), float(centre), float(scale)

    def minimum(self, rows: pd.DataFrame, y: Array, w: Array, objective: Objective) -> tuple[Array, Array]:
        """Return ln N and ln L at the minimum for targets y and weights w, both (n, n_points) or (1, n_points).

        NaN where there is none between the smallest and the largest size.
        """
        c, centre, scale = self.polynomials(rows, y, w)
        u, (low, high) = lowest_point(c), (np.log(rows["n_params"].agg(["min", "max"]).to_numpy()) - centre) / scale
        u = np.where((u > low) & (u < high), u, np.nan)
        with np.errstate(all="ignore"):
            value = (c * u[:, None] ** np.arange(c.shape[1])).sum(-1)
            return centre + scale * u, value if objective.logarithmic else np.log(value)

    def curve(self, rows: pd.DataFrame, objective: Objective, ln_n: float) -> dict[str, object]:
        """Return the polynomial in powers of ln(N / N_opt), the sizes that it goes through, and how well it fits."""
        y, w = target(rows, objective), weights(rows)
        (c,), centre, scale = self.polynomials(rows, y[None], w[None])
        about = np.polynomial.Polynomial(c)(np.polynomial.Polynomial([(ln_n - centre) / scale, 1 / scale]))
        x = np.log(rows["n_params"].to_numpy())
        residual = y - about(x - ln_n)
        spare = rows["n_params"].nunique() > self.degree + 1
        total = np.average((y - np.average(y, weights=w)) ** 2, weights=w)
        square = np.average(residual**2, weights=w)
        return {
            "points": len(rows),
            "smallest": float(rows["n_params"].min()),
            "largest": float(rows["n_params"].max()),
            "coefficients": about.coef.tolist(),
            "rms": float(np.sqrt(square)) if spare else None,
            "r_squared": float(1 - square / total) if spare else None,
        }

    def replicates(
        self, points: pd.DataFrame, optima: Optima, objective: Objective, bootstrap: str, n_boot: int, seed: int
    ) -> Replicates | str:
        """See `Optimum.replicates`: wild over the residuals of the curves, or runs drawn with replacement.

        The windows stay those of the points.
        """
        parts = [(flops, self.near(rows)) for flops, rows in budgets(points) if flops in optima.flops]
        used = pd.concat([rows for _, rows in parts])
        runs = pd.Index(used["run"].unique())
        run_index, w = runs.get_indexer(used["run"]), weights(used)
        y, w = np.tile(target(used, objective), (1, 1)), np.tile(w, (1, 1))
        record: dict[str, object] = {"method": bootstrap}
        if bootstrap == "wild":
            if len(used) <= (self.degree + 1) * len(parts):
                curves = f"{len(parts)} curves of {self.degree + 1} coefficients"
                return f"{len(used)} points for {curves}: nothing is left to tell the noise from"
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

    def _wild(
        self, parts, y: Array, w: Array, runs: pd.Index, run_index: Array, n_boot: int, seed: int
    ) -> tuple[Array, float]:
        """Return replicates of the curves, and the degrees of freedom of the lines through their minima."""
        powers = np.arange(self.degree + 1)
        design, fitted = np.zeros((len(y), len(powers) * len(parts))), np.empty_like(y)
        ln_c = np.log([flops for flops, _ in parts])
        along = (ln_c - ln_c.mean()) / ((ln_c - ln_c.mean()) ** 2).sum()
        contrasts = np.zeros((2, design.shape[1]))  # slopes of ln N and of the loss, by the curves' coefficients
        start = 0
        for k, (_, rows) in enumerate(parts):
            part, own = slice(start, start + len(rows)), slice(len(powers) * k, len(powers) * (k + 1))
            c, centre, scale = self.polynomials(rows, y[None, part], w[None, part])
            basis = ((np.log(rows["n_params"].to_numpy()) - centre) / scale)[:, None] ** powers
            fitted[part], design[part, own] = basis @ c[0], basis * np.sqrt(w[part])[:, None]
            u = float(lowest_point(c)[0])
            bend = np.polynomial.Polynomial(c[0]).deriv(2)(u)
            slopes = powers * u ** np.maximum(powers - 1, 0)  # of each power at the minimum
            contrasts[0, own] = -along[k] * scale * slopes / bend
            contrasts[1, own] = along[k] * u**powers
            start = part.stop
        root = np.sqrt(w)
        residual, degrees = estimate.leverage_correction(design, run_index, (y - fitted) * root, contrasts=contrasts)
        return wild_replicates(fitted, residual / root, runs, run_index, n_boot, seed), degrees


class IsoFLOPAkima(IsoFLOP):
    """Akima interpolation of the loss against ln N: no shape is assumed, so runs are drawn for the interval."""

    name = "isoflop_akima"
    equation = "Hoffmann et al. 2022, section 3.2, with the interpolation of Akima 1970"

    def __init__(self) -> None:
        super().__init__("all")
        self.settings = {}
        self.definition = (
            "Akima interpolation of the loss (mse) or ln loss (mse_log) against ln N; lines through the minima"
        )

    def curve(self, rows: pd.DataFrame, objective: Objective, ln_n: float) -> dict[str, object]:
        """See `IsoFLOP.curve`: it goes through all points, so there is nothing to say."""
        return {}

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


def read_window(window: str, degree: int) -> tuple[str, float]:
    """Return what `IsoFLOP` means by a window: its kind and its number.

    Examples
    --------
    >>> read_window("factor=10", 2), read_window("nearest=5", 2), read_window("all", 3)
    (('factor', 10.0), ('nearest', 5.0), ('all', inf))
    """
    kind, _, text = window.partition("=")
    if window == "all":
        return kind, np.inf
    try:
        width = float(text)
    except ValueError:
        width = np.nan
    if kind == "factor" and 1 < width < np.inf:
        return kind, width
    if kind == "nearest" and width > degree and width == np.floor(width) < np.inf:
        return kind, width
    raise UserError(
        f"window (--window): {window!r} is not factor=F with F above 1, nearest=K with K a whole number from"
        f" {degree + 1}, or all"
    )


def lowest_point(c: Array) -> Array:
    """Return the minima (n,) of polynomials of degree 2 or 3 by their coefficients (n, degree + 1); NaN without one.

    Examples
    --------
    >>> lowest_point(np.array([[1.0, -4.0, 2.0, 0.0], [0.0, -3.0, 0.0, 1.0], [0.0, 1.0, -1.0, 0.0]]))
    array([ 1.,  1., nan])
    """
    c0, c1, c2, c3 = np.pad(c, ((0, 0), (0, 4 - c.shape[1]))).T
    with np.errstate(all="ignore"):
        root = np.sqrt(c2**2 - 3 * c1 * c3)  # half of the second derivative there
        good = (root > 1e-12 * np.abs(c0)) & (c2 + root > 0)
        return np.where(good, -c1 / (c2 + root), np.nan)


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


def at_end(rows: pd.DataFrame, least: int = LEAST) -> str | None:
    """Say why this budget can't have its minimum between its sizes, or return None."""
    by_size = rows.groupby("n_params")["loss"].mean()
    if len(by_size) < least:
        return f"{len(by_size)} sizes, {least} are needed"
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
