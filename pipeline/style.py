"""How every figure looks: sizes, colours, line widths, axes. Set once, here.

Figures are made at print size: 7 inches wide for a page of two columns, text of 7 to 8 points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
from matplotlib import colors, ticker
from matplotlib.axes import Axes

matplotlib.use("Agg")

WIDTH = 7.0
"""Inches: both columns of a page."""
HEIGHT = 2.6
"""Inches: a row of panels."""
DPI = 200

INK = "#262626"
"""Text, axes, frontiers."""
GREY = "#8c8c8c"
"""The paper's own law; notes."""
PALE = "#a9c1dd"
"""Learning curves that are background."""
BLUE = "#1f5a9d"
"""Points of a figure's only series."""
ORANGE = "#e1700e"
"""A figure's fit."""
GREEN = "#2f8f6b"
"""A second fit or series."""
BLUES = ("#8db4dd", "#3f7fc1", "#123f73")
REDS = ("#f0a08c", "#d4523f", "#86200f")
"""Two families of models, each from small to large."""

SERIES = ("#1f5a9d", "#e1700e", "#2f8f6b", "#b0417e", "#6f5aa8", "#b58a00", "#4ba3c3", "#7a4a2b")
"""Series without an order, told apart with and without full colour vision."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

THIN, LINE, HEAVY = 0.6, 1.1, 1.6
"""Line widths in points: learning curves, fits and series, frontiers."""
POINT = 3.6
"""Marker size in points."""

RAINBOW = colors.LinearSegmentedColormap.from_list("size", matplotlib.colormaps["viridis"].colors[:236])
"""Colour by size, loss or position: viridis without its palest end, which print loses."""

SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 6.8,
    "legend.title_fontsize": 6.8,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.handletextpad": 0.5,
    "legend.borderaxespad": 0.3,
    "legend.labelspacing": 0.3,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.which": "major",
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 1.6,
    "ytick.minor.size": 1.6,
    "lines.linewidth": LINE,
    "lines.markersize": POINT,
    "lines.solid_capstyle": "round",
    "mathtext.fontset": "dejavusans",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.04,
    "figure.constrained_layout.h_pad": 0.04,
    "svg.hashsalt": "scaling-laws",
    "svg.fonttype": "path",
    "savefig.dpi": DPI,
}


def size_norm(values: Sequence[float]) -> colors.LogNorm:
    """Return the logarithmic colour scale that spans `values`; one value gets half a decade each side."""
    low, high = min(values), max(values)
    if high <= low * 1.01:
        low, high = low / 3, high * 3
    return colors.LogNorm(low, high)


def series_colour(index: int, n: int) -> tuple[float, float, float, float]:
    """Return the colour of series `index` of `n` ordered series, dark to light."""
    return RAINBOW(0.0 if n == 1 else index / (n - 1))


def number(value: float) -> str:
    """Write a number as people say it: 393K, 3.1M, 1.4B.

    Examples
    --------
    >>> number(393_216), number(3.1e6), number(22e9), number(768)
    ('393K', '3.1M', '22B', '768')
    """
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= scale:
            short = value / scale
            return f"{short:.{0 if short >= 10 else 1}f}".removesuffix(".0") + letter
    return f"{value:.2g}" if value < 1 else f"{value:.0f}"


class PlainLocator(ticker.MaxNLocator):
    """Ticks at round values, equally spaced in value, also on a logarithmic axis: 2.5, 3, 3.5, ..."""

    def __init__(self) -> None:
        super().__init__(nbins=5, steps=[1, 2, 2.5, 5, 10])

    def view_limits(self, vmin: float, vmax: float) -> tuple[float, float]:
        return vmin, vmax


def loss_axis(axes: Axes, label: str = "Test loss (nats / token)", scale: str = "log", axis: str = "y") -> None:
    """Make an axis one of loss: logarithmic (or `scale`), ticks as plain numbers equally spaced in value."""
    axes.set(**{f"{axis}scale": scale, f"{axis}label": label})
    which = getattr(axes, f"{axis}axis")
    which.set_major_locator(PlainLocator())
    which.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    which.set_minor_locator(ticker.NullLocator())
    which.set_minor_formatter(ticker.NullFormatter())


def log_axis(axes: Axes, label: str, axis: str = "x") -> None:
    """Make an axis logarithmic, with ticks at powers of ten, or at 1, 2 and 5 where it spans hardly a decade.

    Call it after drawing: the ticks follow the data's range, and are as many as there is room for.
    """
    axes.set(**{f"{axis}scale": "log", f"{axis}label": label})
    which = getattr(axes, f"{axis}axis")
    low, high = sorted(getattr(axes, f"get_{axis}lim")())
    if low <= 0:  # nothing is drawn: the axis has the limits of an empty panel, which have no logarithm
        axes.set(**{f"{axis}lim": (0.1, 1)})
        which.set_ticks([])
        return
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    inside = last - first + 1
    place = axes.get_subplotspec()
    columns = place.get_gridspec().ncols if place else 2
    most = max(3, int(axes.figure.get_figwidth() / columns / 0.45))
    if inside < 2:
        decades = math.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades > 0.6 else tuple(float(k) for k in range(1, 10))
        which.set_major_locator(ticker.LogLocator(subs=subs, numticks=20))
        which.set_major_formatter(ticker.FuncFormatter(_plain if low > 0.008 and high < 2e4 else _mantissa))
    else:
        stride = math.ceil(inside / most)
        powers = range(first + (-first) % stride if stride > 1 else first, last + 1, stride)
        which.set_major_locator(ticker.FixedLocator([10.0**power for power in powers]))
        which.set_major_formatter(ticker.LogFormatterMathtext())
    which.set_minor_locator(ticker.LogLocator(subs=tuple(range(2, 10)) if inside < 9 else (1.0,), numticks=50))
    which.set_minor_formatter(ticker.NullFormatter())


def _plain(value: float, _: int | None = None) -> str:
    return f"{value:g}"


def _mantissa(value: float, _: int | None = None) -> str:
    if value <= 0:
        return ""
    power = math.floor(math.log10(value) + 1e-9)
    lead = round(value / 10**power)
    return rf"$10^{{{power}}}$" if lead == 1 else rf"${lead}\!\times\!10^{{{power}}}$"
