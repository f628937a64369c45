"""A figure that writes down what it draws: svg, png, csv and caption of one figure, made together.

Everything of a panel that carries data goes through `Drawing`: the csv then holds exactly the points and lines drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from pipeline import style
from pipeline.errors import UserError
from pipeline.files import atomic_path, write_json

COLUMNS = ("panel", "series", "kind", "x", "y", "low", "high", "n")
"""Columns of a figure's csv; kind is points, line or band, low and high are bounds of y, n is how many runs."""

CORNERS = {
    "upper left": (0.03, 0.97, "left", "top"),
    "upper right": (0.97, 0.97, "right", "top"),
    "lower left": (0.03, 0.03, "left", "bottom"),
    "lower right": (0.97, 0.03, "right", "bottom"),
    "upper center": (0.5, 0.97, "center", "top"),
    "lower center": (0.5, 0.03, "center", "bottom"),
}


@dataclass(frozen=True)
class Caption:
    """What stands below a figure: the paper's figure, ours, and where they differ."""

    title: str
    paper: str
    ours: str
    differs: str

    def markdown(self) -> str:
        """Return the caption as a paragraph of markdown."""
        return f"**{self.title}** *Paper:* {self.paper} *Ours:* {self.ours} *Differences:* {self.differs}\n"


class Drawing:
    """Panels in a row (or rows), drawn and recorded at once.

    Parameters
    ----------
    panels
        Names of the panels, left to right: the csv's `panel`. A list of lists is rows of panels, for example
        [["left", "right"]].
    width, height
        Inches.

    Examples
    --------
    >>> drawing = Drawing(["left", "right"])
    >>> drawing.points("left", "ours", [1e3, 1e4], [4.0, 3.5])
    >>> drawing.line("right", "law", [1e3, 1e4], [4.1, 3.4])
    >>> drawing.table()[["panel", "series", "kind", "x", "y"]].values.tolist()
    [['left', 'ours', 'points', 1000.0, 4.0], ['left', 'ours', 'points', 10000.0, 3.5],
     ['right', 'law', 'line', 1000.0, 4.1], ['right', 'law', 'line', 10000.0, 3.4]]
    """

    def __init__(
        self,
        panels: Sequence[str] | Sequence[Sequence[str]],
        width: float = style.WIDTH,
        height: float = style.HEIGHT,
    ) -> None:
        rows = [list(panels)] if isinstance(panels[0], str) else [list(row) for row in panels]
        with matplotlib.rc_context(style.SETTINGS):
            self.figure = Figure(figsize=(width, height), layout="constrained")
            self.axes: dict[str, Axes] = self.figure.subplot_mosaic(rows)
        self.notes: list[str] = []
        self.caption: Caption | None = None
        self._rows: list[dict[str, Any]] = []

    def points(
        self,
        panel: str,
        series: str,
        x: Iterable[float],
        y: Iterable[float],
        low: Iterable[float] | None = None,
        high: Iterable[float] | None = None,
        n: Iterable[int] | None = None,
        *,
        colour: Any = style.BLUE,
        marker: str = "o",
        hollow: bool = False,
        label: str | None = None,
        size: float = style.POINT,
    ) -> None:
        """Draw points, with bars from `low` to `high` where those are given and not NaN.

        `hollow` is for what is shown but not fitted. `label` enters the legend; without it the points don't.
        """
        rows = self._record(panel, series, "points", x, y, low, high, n)
        colours = colour if isinstance(colour, (list, np.ndarray)) and np.ndim(colour) == 2 else None
        face = "white" if hollow else colour
        axes = self.axes[panel]
        if colours is not None:
            axes.scatter(
                rows.x,
                rows.y,
                s=size**2,
                marker=marker,
                facecolors="white" if hollow else colours,
                edgecolors=colours,
                linewidths=0.8,
                zorder=4,
                label=label,
            )
        else:
            axes.plot(
                rows.x,
                rows.y,
                linestyle="none",
                marker=marker,
                markersize=size,
                color=colour,
                markerfacecolor=face,
                markeredgewidth=0.8,
                label=label,
                zorder=4,
            )
        bars = rows[rows.low.notna() & rows.high.notna()]
        if len(bars):
            axes.errorbar(
                bars.x,
                bars.y,
                yerr=np.abs([bars.y - bars.low, bars.high - bars.y]),
                fmt="none",
                ecolor=colour if colours is None else style.INK,
                elinewidth=0.8,
                capsize=1.8,
                capthick=0.8,
                zorder=3,
            )

    def line(
        self,
        panel: str,
        series: str,
        x: Iterable[float],
        y: Iterable[float],
        *,
        colour: Any = style.BLUE,
        dash: str = "-",
        width: float = style.LINE,
        label: str | None = None,
        zorder: float = 2,
        alpha: float = 1.0,
    ) -> None:
        """Draw a line."""
        rows = self._record(panel, series, "line", x, y)
        self.axes[panel].plot(
            rows.x, rows.y, linestyle=dash, color=colour, linewidth=width, label=label, zorder=zorder, alpha=alpha
        )

    def means(
        self, panel: str, series: str, table: pd.DataFrame, x: str, y: str = "loss", *, scale: float = 1.0, **look: Any
    ) -> None:
        """Draw a table of `mean_over_seeds`: means with their intervals; x is divided by `scale`."""
        self.points(panel, series, table[x] / scale, table[y], table.low, table.high, table.n, **look)

    def curve(
        self,
        panel: str,
        series: str,
        x: Iterable[float],
        y: Iterable[float],
        *,
        colour: Any = style.PALE,
        label: str | None = None,
    ) -> None:
        """Draw a learning curve: a thin line behind everything else."""
        self.line(panel, series, x, y, colour=colour, width=style.THIN, zorder=1.5, alpha=0.9, label=label)

    def band(
        self,
        panel: str,
        series: str,
        x: Iterable[float],
        low: Iterable[float],
        high: Iterable[float],
        *,
        colour: Any = style.ORANGE,
        label: str | None = None,
        alpha: float = 0.15,
    ) -> None:
        """Fill the area between two lines."""
        x, low, high = (np.asarray(values, float) for values in (x, low, high))
        rows = self._record(panel, series, "band", x, (low + high) / 2, low, high)
        self.axes[panel].fill_between(
            rows.x, rows.low, rows.high, color=colour, alpha=alpha, linewidth=0, label=label, zorder=1
        )

    def law(
        self,
        panel: str,
        series: str,
        x: Iterable[float],
        y: Iterable[float],
        fitted: tuple[float, float],
        *,
        colour: Any = style.ORANGE,
        label: str | None = None,
        width: float = style.LINE,
    ) -> None:
        """Draw a fit: solid over the range of x that was fitted, dashed beyond it.

        The bounds of the range should be among `x` (see `law_grid`).
        """
        x, y = np.asarray(x, float), np.asarray(y, float)
        low, high = fitted
        slack = 1 + 1e-9
        inside = (x >= low / slack) & (x <= high * slack)
        self.line(panel, series, x[inside], y[inside], colour=colour, width=width, label=label, zorder=3)
        for part, outside in (("below", x <= low * slack), ("above", x >= high / slack)):
            if outside.sum() > 1:
                self.line(
                    panel,
                    f"{series}, {part} the range fitted",
                    x[outside],
                    y[outside],
                    colour=colour,
                    dash=(0, (3.2, 1.8)),
                    width=width,
                    zorder=3,
                )

    def text(
        self, panel: str, text: str, where: str = "lower left", *, colour: Any = style.INK, size: float = 7, **more: Any
    ) -> None:
        """Write in a corner of a panel."""
        x, y, horizontal, vertical = CORNERS[where]
        axes = self.axes[panel]
        axes.text(
            x,
            y,
            text,
            transform=axes.transAxes,
            ha=horizontal,
            va=vertical,
            color=colour,
            fontsize=size,
            zorder=6,
            linespacing=1.35,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0},
            **more,
        )

    def legend(self, panel: str, where: str = "upper right", **more: Any) -> None:
        """Write the legend of the labelled series; `where` may also be "right", beside the panel."""
        with matplotlib.rc_context(style.SETTINGS):
            if where == "right":
                more = {"bbox_to_anchor": (1.02, 1.0), "borderaxespad": 0.0} | more
                where = "upper left"
            self.axes[panel].legend(loc=where, alignment="left", **more)

    def share_y(self) -> None:
        """Give all panels the y limits that hold what any of them shows."""
        limits = [axes.get_ylim() for axes in self.axes.values()]
        for axes in self.axes.values():
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))

    def colourbar(self, panels: Sequence[str], norm: Normalize, label: str, **more: Any) -> None:
        """Draw the colour scale of `style.RAINBOW` to the right of `panels`."""
        with matplotlib.rc_context(style.SETTINGS):
            bar = self.figure.colorbar(
                ScalarMappable(norm, style.RAINBOW),
                ax=[self.axes[panel] for panel in panels],
                pad=0.02,
                fraction=0.05,
                aspect=26,
                **more,
            )
            bar.set_label(label)
            bar.outline.set_linewidth(0.4)
            if norm.__class__.__name__ == "LogNorm":
                style.log_axis(bar.ax, label, axis="y")

    def note(self, text: str) -> None:
        """Add a sentence to the caption, once; nothing if it is empty."""
        if text and text not in self.notes:
            self.notes.append(text)

    def describe(self, title: str, paper: str, ours: str, differs: str) -> None:
        """End the drawing: make room for legends, and set the caption.

        The caption says what the paper shows, what ours shows, and where they differ; it begins with the paper's title.
        """
        sentences = (title, paper, " ".join([ours, *self.notes]), differs)
        self.caption = Caption(*(" ".join(text.split()) for text in sentences))
        self._make_room()

    def table(self) -> pd.DataFrame:
        """Return what was drawn, in the order of drawing: one row a point or vertex."""
        return pd.concat(self._rows, ignore_index=True) if self._rows else pd.DataFrame(columns=COLUMNS)

    def save(self, path: str | Path) -> None:
        """Write svg, png, csv and the caption as md and json beside `path`, whole or not at all.

        The same data give the same bytes.
        """
        path = Path(path)
        if path.suffix != ".svg":
            raise UserError(f"output: {path.name} does not end in .svg")
        with matplotlib.rc_context(style.SETTINGS):
            with atomic_path(path) as temporary:
                self.figure.savefig(temporary, metadata={"Date": None, "Creator": None})
            with atomic_path(path.with_suffix(".png")) as temporary:
                self.figure.savefig(temporary, metadata={"Software": None})
        with atomic_path(path.with_suffix(".csv")) as temporary:
            self.table().to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")
        if self.caption:
            with atomic_path(path.with_suffix(".md")) as temporary:
                temporary.write_text(self.caption.markdown(), encoding="utf-8")
            write_json(path.with_suffix(".json"), {"figure": path.stem} | asdict(self.caption))

    def _make_room(self, most: int = 10) -> None:
        """Widen the y axis of a panel whose legend lies on its data, on the legend's side, by steps of 6 %."""
        legends = {panel: axes.get_legend() for panel, axes in self.axes.items() if axes.get_legend()}
        if not legends:
            return
        with matplotlib.rc_context(style.SETTINGS):
            self.figure.draw_without_rendering()  # the layout, in pixels
        table = self.table()
        for panel, legend in legends.items():
            axes, box = self.axes[panel], legend.get_window_extent().padded(2)
            vertices = table[(table.panel == panel) & (table.kind != "band")][["x", "y"]].to_numpy()
            for _ in range(most):
                x, y = axes.transData.transform(vertices).T
                if not ((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).any():
                    break
                _widen(axes, up=_middle(legend) > _middle(axes))

    def _record(
        self,
        panel: str,
        series: str,
        kind: str,
        x: Iterable[float],
        y: Iterable[float],
        low: Iterable[float] | None = None,
        high: Iterable[float] | None = None,
        n: Iterable[int] | None = None,
    ) -> pd.DataFrame:
        """Write down what is drawn; points that are not finite are neither drawn nor recorded."""
        x = np.asarray(x, float)
        frame = pd.DataFrame(
            {
                "panel": panel,
                "series": series,
                "kind": kind,
                "x": x,
                "y": np.asarray(y, float),
                "low": np.nan if low is None else np.asarray(low, float),
                "high": np.nan if high is None else np.asarray(high, float),
                "n": pd.array([None] * len(x) if n is None else np.asarray(n), dtype="Int64"),
            }
        )
        frame = frame[np.isfinite(frame.x) & np.isfinite(frame.y)].reset_index(drop=True)
        self._rows.append(frame)
        return frame


def _middle(artist: Axes | Legend) -> float:
    box = artist.get_window_extent()
    return (box.y0 + box.y1) / 2


def _widen(axes: Axes, up: bool, part: float = 0.06) -> None:
    """Move one end of the y axis outward by a part of its length, as it is drawn."""
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(np.array(axes.get_ylim()))
    step = part * (high - low)
    low, high = (low, high + step) if up else (low - step, high)
    axes.set_ylim(*scale.inverted().transform(np.array([low, high])))


def law_grid(low: float, high: float, *inside: float, n: int = 120) -> np.ndarray:
    """Return log-spaced values from `low` to `high` that hold the values `inside` exactly.

    Examples
    --------
    >>> law_grid(1.0, 100.0, 10.0, n=4).round(2).tolist()
    [1.0, 4.64, 10.0, 21.54, 100.0]
    """
    return np.unique(np.concatenate([np.geomspace(low, high, n), [low, high], [v for v in inside if low <= v <= high]]))
