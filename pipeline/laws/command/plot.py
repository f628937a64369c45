"""Draw a fitted law over its points, and beside it the residuals (for approaches 1 and 2: the best sizes)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes

from ... import style
from ...errors import UserError
from ...files import atomic_path
from ..fitting.fit import Fit
from ..fitting.point_table import UNITS, complete, rename
from ..formulas.isoflop import IsoFLOP, budgets
from ..formulas.optimum import Optimum

SUFFIXES = (".png", ".svg", ".pdf")
SERIES = 9  # at most so many curves are drawn for a law of two inputs


def check_plot(path: str | Path) -> Path:
    """Return the path, or say which formats there are."""
    if Path(path).suffix not in SUFFIXES:
        raise UserError(f"--plot {path}: the name must end in {', '.join(SUFFIXES)}")
    return Path(path)


def plot(fit: Fit, points: pd.DataFrame, path: str | Path) -> None:
    """Write the figure, whole or not at all; a law without an optimum shows its points and the reason.

    Parameters
    ----------
    fit : Fit
    points : DataFrame
        What was fitted, as `points.read_points` gives it.
    path : str or Path
        Ends in .png, .svg or .pdf.
    """
    path = check_plot(path)
    law = fit.definition
    if law.whole_curves:
        table, _ = law.prepare(points, fit.columns)
    else:
        table, _ = complete(rename(points, fit.columns), getattr(law, "needs", law.inputs))
        names = [name for name in (*UNITS, *law.inputs, law.response) if name in table]
        table = table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in names})
    with matplotlib.rc_context(style.SETTINGS):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(style.WIDTH, style.HEIGHT + 0.5), width_ratios=(1.2, 1))
        if isinstance(law, Optimum):
            _losses(left, fit, law, table)
            _optima(right, fit)
        else:
            (_curves if law.whole_curves else _law)(left, fit, table)
            _residuals(right, fit, table)
        title = fit.formula() if len(fit.formula()) < 110 else f"{fit.formula()[:107]}..."
        said = f"\nnot identified: {fit.reason}"[:160] if fit.warning else ""
        figure.suptitle(f"{fit.law}: {title}{said}" if fit.found else title, fontsize=8)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, metadata={"Date": None} if path.suffix in (".svg",) else None)
        pyplot.close(figure)


def _label(name: str, columns: Mapping[str, str]) -> str:
    theirs, unit = columns.get(name, name), UNITS.get(columns.get(name, name), UNITS.get(name, ""))
    return f"{theirs} ({unit})" if unit else theirs


def _logarithmic(axes: Axes, x: str, y: str, y_log: bool = True) -> None:
    axes.set_xscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if y_log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high / low < 20:  # a few times: the powers of ten alone would leave the axis empty
            ticks = [t for t in matplotlib.ticker.MaxNLocator(6).tick_values(low, high) if low <= t <= high]
            axes.yaxis.set_major_locator(matplotlib.ticker.FixedLocator(ticks))
            axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def _grid(values: np.ndarray) -> np.ndarray:
    values = values[np.isfinite(values)]
    return np.geomspace(values.min(), values.max(), 200)


def _law(axes: Axes, fit: Fit, table: pd.DataFrame) -> None:
    """Points and curves against the first input; colour is the second input, a band the interval.

    With a third input there is no curve in the plane; a cross is what the law says of each point.
    """
    law = fit.definition
    x, *others = law.inputs
    y, colours, groups = table[law.response].to_numpy(), style.BLUE, [(None, None, style.ORANGE)]
    if others:
        other = table[others[0]].to_numpy(dtype=float)
        finite = other[np.isfinite(other)]
        norm = style.size_norm(finite)
        colours = style.RAINBOW(norm(np.where(np.isfinite(other), other, finite.max())))
        values = np.unique(finite)
        if len(values) > SERIES:
            values = values[np.linspace(0, len(values) - 1, SERIES).round().astype(int)]
        groups = [(others[0], value, style.RAINBOW(norm(value))) for value in values]
        colour_bar = matplotlib.cm.ScalarMappable(norm, style.RAINBOW)
        axes.figure.colorbar(colour_bar, ax=axes, label=_label(others[0], fit.columns), pad=0.02)
    if fit.found and len(others) > 1:
        predicted = fit.predict(**law.inputs_of(table))
        axes.scatter(table[x], predicted, marker="x", s=16, c=colours, linewidths=style.THIN)
    elif fit.found:
        grid = _grid(table[x].to_numpy(dtype=float))
        for name, value, colour in groups:
            inputs = {x: grid} | ({name: value} if name else {})
            low, high = fit.interval(**inputs)
            if np.isfinite(low).any():
                axes.fill_between(grid, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(grid, fit.predict(**inputs), color=colour, linewidth=style.LINE)
    axes.scatter(table[x], y, c=colours, s=9, zorder=3, linewidths=0)
    _logarithmic(axes, _label(x, fit.columns), _label(law.response, fit.columns))


def _curves(axes: Axes, fit: Fit, table: pd.DataFrame) -> None:
    """The measured curve of each run, dots, and the law's, a line."""
    law = fit.definition
    for k, (run, curve) in enumerate(table.groupby("run", sort=False)):
        curve, colour = curve.sort_values("step"), style.SERIES[k % len(style.SERIES)]
        axes.plot(curve["step"], curve[law.response], ".", color=colour, markersize=2, alpha=0.6)
        if fit.found:
            axes.plot(curve["step"], fit.predict(**law.inputs_of(curve)), color=colour, label=str(run)[:24])
    if fit.found and k < SERIES:
        axes.legend()
    axes.set_xlabel(_label("step", fit.columns))
    axes.set_ylabel(_label(law.response, fit.columns))


def _residuals(axes: Axes, fit: Fit, table: pd.DataFrame) -> None:
    """ln y - ln f in per cent against the prediction: a law of the right shape leaves no trend."""
    if not fit.found:
        axes.axis("off")
        axes.text(0.02, 0.95, f"not identified\n\n{_wrapped(fit.reason)}", transform=axes.transAxes, va="top")
        return
    law = fit.definition
    predicted = fit.predict(**law.inputs_of(table))
    residual = 100 * (np.log(table[law.response].to_numpy(dtype=float)) - np.log(predicted))
    axes.axhline(0, color=style.GREY, linewidth=style.THIN)
    axes.scatter(predicted, residual, s=9, color=style.BLUE, linewidths=0, zorder=3)
    name = law.response
    axes.set_xlabel(f"fitted {_label(name, fit.columns)}")
    axes.set_ylabel(f"ln {fit.columns.get(name, name)} - ln fit (%)")
    if predicted.max() / predicted.min() > 20:
        axes.set_xscale("log")


def _wrapped(text: str | None, width: int = 44) -> str:
    lines, line = [], ""
    for word in (text or "").split():
        if len(line) + len(word) > width:
            lines, line = [*lines, line], ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def _losses(axes: Axes, fit: Fit, law: Optimum, table: pd.DataFrame) -> None:
    """Approach 2: the loss against size, a colour a budget, and what was fitted. Approach 1: curves and envelope."""
    optima = pd.DataFrame(fit.details.get("optima", []), columns=["flops", "n_params", "n_tokens", "loss", "run"])
    if not isinstance(law, IsoFLOP):
        norm = style.size_norm(table["n_params"])
        for _, curve in table.groupby("run", sort=False):
            curve = curve.sort_values("flops")
            axes.plot(
                curve["flops"], curve["loss"], color=style.RAINBOW(norm(curve["n_params"].iloc[0])), linewidth=0.7
            )
        axes.plot(optima["flops"], optima["loss"], color=style.ORANGE, linewidth=style.HEAVY, label="envelope")
        axes.legend()
        axes.figure.colorbar(
            matplotlib.cm.ScalarMappable(norm, style.RAINBOW), ax=axes, label=_label("n_params", fit.columns)
        )
        _logarithmic(axes, _label("flops", fit.columns), _label("loss", fit.columns))
        return
    parts = budgets(law.check(table))
    norm = style.size_norm([flops for flops, _ in parts])
    curves = {one["flops"]: one for one in fit.details.get("optima", []) if "coefficients" in one}
    for flops, rows in parts:
        rows, colour = rows.sort_values("n_params"), style.RAINBOW(norm(flops))
        joined = "o" if curves else "o-"
        axes.plot(rows["n_params"], rows["loss"], joined, color=colour, markersize=2.6, linewidth=0.7, alpha=0.8)
        if flops in curves:
            axes.plot(*_curve(curves[flops], fit.objective_kind), color=colour, linewidth=0.9)
    axes.plot(optima["n_params"], optima["loss"], "D", color=style.ORANGE, markersize=4, zorder=4, label="minimum")
    axes.legend()
    axes.figure.colorbar(matplotlib.cm.ScalarMappable(norm, style.RAINBOW), ax=axes, label=_label("flops", fit.columns))
    _logarithmic(axes, _label("n_params", fit.columns), _label("loss", fit.columns))


def _curve(one: Mapping[str, object], objective: str) -> tuple[np.ndarray, np.ndarray]:
    """Return sizes and losses of the polynomial of one budget, over the sizes that it goes through."""
    sizes = np.geomspace(one["smallest"], one["largest"], 60)
    values = np.polynomial.Polynomial(one["coefficients"])(np.log(sizes / one["n_params"]))
    return sizes, values if objective == "mse" else np.exp(values)


def _optima(axes: Axes, fit: Fit) -> None:
    """The best sizes and the line through them, with its interval."""
    if not fit.found:
        _residuals(axes, fit, pd.DataFrame())
        return
    optima = pd.DataFrame(fit.details["optima"])
    grid = _grid(optima["flops"].to_numpy())
    low, high = fit.interval(flops=grid)
    if np.isfinite(low).any():
        axes.fill_between(
            grid, low, high, color=style.ORANGE, alpha=0.2, linewidth=0, label=f"{100 * fit.level:g} % interval"
        )
    exponent = fit.parameters["a"].estimate
    axes.plot(grid, fit.predict(flops=grid), color=style.ORANGE, label=f"N ~ C^{exponent:.3f}")
    axes.plot(optima["flops"], optima["n_params"], "D", color=style.BLUE, markersize=3.4, label="best size")
    axes.legend()
    _logarithmic(axes, _label("flops", fit.columns), f"best {_label('n_params', fit.columns)}")
