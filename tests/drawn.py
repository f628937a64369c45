"""Look at a drawing as a reader would: what is drawn must be in the csv, and no text may lie on other text or data."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import cache

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from pipeline.figures.drawing import Drawing

Vertices = Counter


def drawn_vertices(drawing: Drawing, panel: str) -> Vertices:
    """Return every (x, y) of the lines and points of a panel, error bars left out."""
    axes = drawing.axes[panel]
    bars = {line for container in axes.containers for line in container.get_children()}
    vertices: Vertices = Counter()
    for line in axes.lines:
        if line not in bars:
            vertices.update(_rounded(line.get_xydata()))
    for collection in axes.collections:
        if isinstance(collection, PathCollection) and not isinstance(collection, PolyCollection):
            vertices.update(_rounded(np.ma.getdata(collection.get_offsets())))
    return vertices


def recorded_vertices(drawing: Drawing, panel: str) -> Vertices:
    """Return every (x, y) of the lines and points that the csv has of a panel."""
    table = drawing.table()
    rows = table[(table.panel == panel) & table.kind.isin(["line", "points"])]
    return Counter(_rounded(rows[["x", "y"]].to_numpy()))


def _rounded(points: np.ndarray) -> list[tuple[str, str]]:
    return [(f"{x:.9g}", f"{y:.9g}") for x, y in np.asarray(points, float).reshape(-1, 2)]


def hidden_points(drawing: Drawing) -> list[str]:
    """Return the series that have points, by the csv, outside of the limits of their panel."""
    rows = drawing.table()
    rows = rows[rows.kind == "points"]
    hidden = set()
    for panel, axes in drawing.axes.items():
        (left, right), (bottom, top) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
        own = rows[rows.panel == panel]
        seen = own.x.between(left, right) & own.y.between(bottom, top)
        hidden |= {f"{panel}: {series}" for series in own[~seen].series}
    return sorted(hidden)


@cache
def texts(drawing: Drawing) -> dict[Text, Bbox]:
    """Return every visible text of a finished figure with its box in pixels."""
    canvas = FigureCanvasAgg(drawing.figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    ticks = {
        label
        for axes in drawing.figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.majorTicks, *axis.minorTicks)
        for label in (tick.label1, tick.label2)
    }
    found = {
        text: text.get_window_extent(renderer)
        for text in drawing.figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in ticks
    }
    for axes in drawing.figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                inside = low * (1 - 1e-9) <= tick.get_loc() <= high * (1 + 1e-9)
                for label in (tick.label1, tick.label2):
                    if inside and label.get_visible() and label.get_text().strip():
                        found[label] = label.get_window_extent(renderer)
    return found


def all_text(drawing: Drawing) -> str:
    """Return everything that is written on the figure, with single spaces."""
    return " ".join(" ".join(text.get_text().split()) for text in texts(drawing))


def collisions(drawing: Drawing, slack: float = 1.0) -> list[str]:
    """Return what a reader would complain of: text on text, text beyond the edge, a legend or note on points."""
    boxes = texts(drawing)
    problems = []
    for (one, box), (other, more) in itertools.combinations(boxes.items(), 2):
        if _overlap(box, more) > slack:
            problems.append(f"{one.get_text()!r} lies on {other.get_text()!r}")
    edge = drawing.figure.bbox
    problems += [
        f"{text.get_text()!r} is cut off"
        for text, box in boxes.items()
        if box.x0 < -slack or box.y0 < -slack or box.x1 > edge.x1 + slack or box.y1 > edge.y1 + slack
    ]
    rows = drawing.table()
    for panel, axes in drawing.axes.items():
        points = rows[(rows.panel == panel) & (rows.kind == "points")][["x", "y"]].to_numpy()
        if not len(points):
            continue
        pixels = axes.transData.transform(points)
        own = [(text, box) for text, box in boxes.items() if _belongs(text, axes)]
        for text, box in own:
            hit = ((pixels[:, 0] > box.x0) & (pixels[:, 0] < box.x1)) & (
                (pixels[:, 1] > box.y0) & (pixels[:, 1] < box.y1)
            )
            if hit.any():
                problems.append(f"{text.get_text()!r} lies on {int(hit.sum())} points of panel {panel}")
    return problems


def _belongs(text: Text, axes) -> bool:
    legend = axes.get_legend()
    inside = list(axes.texts) + ([*legend.get_texts(), legend.get_title()] if legend else [])
    return text in inside


def _overlap(one: Bbox, other: Bbox) -> float:
    """Return the smaller side of the overlap of two boxes, in pixels."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return min(width, height)
