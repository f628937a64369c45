"""The framework, and Figures 1, 2, 4, 6, 9 and 23, on sweeps with a planted truth."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import planted
import pytest
from drawn import all_text, collisions, drawn_vertices, hidden_points, recorded_vertices

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import mean_over_seeds
from pipeline.errors import UserError
from pipeline.figures.__main__ import main
from pipeline.figures.drawing import COLUMNS, Drawing
from pipeline.plan import catalog

FIGURES = ("fig01", "fig02", "fig04", "fig06", "fig09", "fig23")
LAWS_DRAWN = [("fig01", "L_N"), ("fig04", "L_N_D"), ("fig09", "L_N_D"), ("fig23", "log_N")]
LAWS_DRAWN += [pytest.param(*pair, marks=pytest.mark.slow) for pair in (("fig01", "L_D"), ("fig01", "L_C_min"))]
DRAWN = [(figure, False) for figure in FIGURES] + [("fig09", True)]
DRAWN += [pytest.param(figure, True, marks=pytest.mark.slow) for figure in FIGURES if figure != "fig09"]


def inputs_of(figure: str, few: bool = False, **sweeps: pd.DataFrame) -> Inputs:
    needs = catalog.FIGURES[figure]
    inputs = planted.inputs(needs.sweeps, needs.evaluations, needs.laws, few, needs.points)
    return replace(inputs, sweeps={**inputs.sweeps, **sweeps})


def draw(figure: str, inputs: Inputs) -> Drawing:
    return importlib.import_module(f"pipeline.figures.{figure}").draw(inputs)


@cache
def drawn(figure: str, few: bool = False) -> Drawing:
    """Return the drawing of planted data, made once: for tests that only look."""
    return draw(figure, inputs_of(figure, few))


def series(drawing: Drawing, panel: str, name: str) -> pd.DataFrame:
    table = drawing.table()
    rows = table[(table.panel == panel) & (table.series == name)]
    assert len(rows), f"{name!r} is not one of {sorted(set(table[table.panel == panel].series))}"
    return rows


@pytest.mark.parametrize(("figure", "few"), DRAWN)
def test_csv_is_what_is_drawn_and_text_is_legible(figure, few):
    drawing = drawn(figure, few)
    for panel in drawing.axes:
        assert drawn_vertices(drawing, panel) == recorded_vertices(drawing, panel)
        assert recorded_vertices(drawing, panel)
    assert collisions(drawing) == []
    assert hidden_points(drawing) == []
    assert 7 <= style.SETTINGS["font.size"] <= 9
    assert drawing.figure.get_figwidth() <= 7.0
    for axes in drawing.axes.values():
        assert axes.get_xlabel()
        assert axes.get_xscale() == "log"
    caption = drawing.caption
    assert all((caption.title, caption.paper, caption.ours, caption.differs))
    assert "planted text" in caption.differs


@pytest.mark.parametrize("figure", ["fig09", *(pytest.param(name, marks=pytest.mark.slow) for name in FIGURES)])
def test_same_data_give_the_same_bytes(figure, tmp_path):
    for folder in ("one", "two"):
        draw(figure, inputs_of(figure, few=True)).save(tmp_path / folder / f"{figure}.svg")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [f"{figure}.{end}" for end in ("csv", "json", "md", "png", "svg")]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert str(tmp_path).encode() not in (tmp_path / "one" / name).read_bytes()
    table = pd.read_csv(tmp_path / "one" / f"{figure}.csv")
    assert tuple(table.columns) == COLUMNS
    assert set(table.kind) <= {"points", "line", "band"}
    assert "dc:date" not in (tmp_path / "one" / f"{figure}.svg").read_text()


@pytest.mark.parametrize(("figure", "law"), LAWS_DRAWN)
def test_unidentified_law_is_said_not_drawn(figure, law):
    inputs = inputs_of(figure)
    reason = "all points lie on one side"
    inputs.laws[law] = planted.unidentified(inputs.laws[law], reason)
    drawing = draw(figure, inputs)
    symbol = {"L_N": "L(N)", "L_D": "L(D)", "L_C_min": "L(C_min)", "L_N_D": "L(N, D)", "log_N": "log(N)"}[law]
    assert f"{symbol} not identified: {reason}" in all_text(drawing)
    assert f"{symbol} is not identified: {reason}." in drawing.caption.ours
    assert collisions(drawing) == []
    before = drawn(figure).table()
    gone = set(before[before.kind == "line"].series) - set(drawing.table().series)
    assert gone
    assert (drawing.table().kind == "points").sum() == (before.kind == "points").sum()


def test_fig01_points_and_laws_follow_the_truth():
    inputs = inputs_of("fig01")
    for law in ("L_C_min", "B_crit"):
        inputs.laws.pop(law, None)
    drawing = draw("fig01", inputs)
    points = series(drawing, "size", "all data")
    sizes = inputs.sweeps["sizes"]
    ends = sizes[sizes.final & sizes.fitted].groupby("n_params").loss
    assert np.allclose(points.x, sorted(ends.groups))
    assert np.allclose(points.y, ends.mean())
    assert (points.n == 2).all()
    assert ((points.low < points.y) & (points.y < points.high)).all()
    hollow = series(drawing, "size", "all data, not fitted")
    assert hollow.x.tolist() == [3072]
    line = drawing.table()[lambda t: (t.panel == "size") & (t.kind == "line") & t.series.str.startswith("L = (N")]
    assert np.allclose(line.y, planted.loss_n(line.x), rtol=0.01)
    data = drawing.table()[lambda t: (t.panel == "data") & (t.kind == "line") & t.series.str.startswith("L = (D")]
    assert np.allclose(data.y, planted.loss_d(data.x), rtol=0.01)
    compute = drawing.table()[lambda t: t.panel == "compute"]
    curves = compute[compute.series.isin(sizes.run)]
    assert curves.series.nunique() == sizes.run.nunique()
    one = sizes[(sizes.run == sizes.run.iloc[0]) & (sizes.n_tokens > 0)]
    assert np.allclose(curves[curves.series == one.run.iloc[0]].x, 6 * one.n_params * one.n_tokens / 8.64e19, atol=0)
    assert "naive" in all_text(drawing)
    assert "naive" in drawing.caption.differs


def test_fig01_is_adjusted_once_the_law_is_given():
    inputs = inputs_of("fig01")
    for law in ("L_C_min", "B_crit"):
        inputs.laws[law] = planted.fits()[law]
    drawing = draw("fig01", inputs)
    sizes = inputs.sweeps["sizes"]
    run = sizes[(sizes.run == sizes.run.iloc[0]) & (sizes.n_tokens > 0)]
    drawn = series(drawing, "compute", run.run.iloc[0])
    c_min = run.flops / (1 + run.batch_tokens / planted.critical_batch(run.loss)) / 8.64e19
    assert np.allclose(drawn.x, c_min, atol=0)
    assert "naive" not in all_text(drawing)
    assert collisions(drawing) == []


def test_fig01_stays_naive_when_the_critical_batch_is_not_identified():
    inputs = inputs_of("fig01")
    known = planted.fits()
    for law in ("L_C_min", "B_crit"):
        inputs.laws[law] = planted.unidentified(known[law], "all losses on one side")
    drawing = draw("fig01", inputs)
    assert "naive" in all_text(drawing)
    assert "C_min is not known: B_crit is not identified: all losses on one side." in drawing.caption.differs


def test_law_is_solid_over_the_range_fitted_and_dashed_beyond():
    drawing = drawn("fig23")
    table = drawing.table()
    name = next(s for s in table.series if s.startswith("L = (N") and "range" not in s and "interval" not in s)
    solid = series(drawing, "loss", name)
    assert (solid.x.min(), solid.x.max()) == (6144, 786432)
    below, above = (series(drawing, "loss", f"{name}, {part} the range fitted") for part in ("below", "above"))
    assert below.x.max() == solid.x.min()
    assert above.x.min() == solid.x.max()
    styles = {line.get_linestyle() for line in drawing.axes["loss"].lines if line.get_color() == style.ORANGE}
    assert styles == {"-", "--"}


def test_fig02_draws_every_curve_twice():
    inputs, drawing = inputs_of("fig02"), drawn("fig02")
    for run, rows in inputs.sweeps["sizes"].groupby("run"):
        rows = rows[rows.n_tokens > 0]
        assert np.allclose(series(drawing, "tokens", run)[["x", "y"]], rows[["n_tokens", "loss"]])
        assert np.allclose(series(drawing, "compute", run).x, rows.flops / 8.64e19, atol=0)


def test_fig04_lines_are_the_law_at_each_size():
    drawing = drawn("fig04")
    for n_params, name in ((6144, "N = 6.1K"), (786432, "N = 786K")):
        line = series(drawing, "data", f"{name}, Eq 1.5")
        assert np.allclose(line.y, planted.loss_n_d(n_params, line.x), rtol=0.01)
        points = series(drawing, "data", name)
        assert np.allclose(points.y, planted.loss_n_d(n_params, points.x), rtol=0.03)


def test_fig06_series_and_both_counts():
    inputs, drawing = inputs_of("fig06"), drawn("fig06")
    assert "0 layers" not in set(drawing.table()[lambda t: t.panel == "non_embedding"].series)
    both = pd.concat([inputs.sweeps["depths"], inputs.sweeps["sizes"]])
    for layers in (2, 3, 6):
        ends = both[both.final & (both.n_layer == layers)].drop_duplicates("run")
        with_embedding = series(drawing, "all", f"{layers} layers")
        assert sorted(set(with_embedding.x)) == sorted(set(ends.n_params_total))
        without = series(drawing, "non_embedding", f"{layers} layers")
        assert np.allclose(without.y, planted.loss_n(without.x), rtol=0.06)
    table = drawing.table()
    assert table[table.series == "1 layer"].n.max() == 2


def test_fig06_compares_runs_of_one_length_only():
    longer = planted.sizes(planted.LADDER, (0,), n_steps=6000)
    drawing = draw("fig06", inputs_of("fig06", sizes=longer))
    assert "9 runs of sweep sizes trained on another number of tokens" in drawing.caption.ours
    assert not set(longer.n_params_total) & set(series(drawing, "all", "6 layers").x)
    assert (drawing.table().n.dropna() == 1).all()


def test_fig09_excess_is_against_the_same_size_on_all_data():
    inputs, drawing = inputs_of("fig09"), drawn("fig09")
    data = inputs.sweeps["data"]
    best = data[data.best]
    unlimited = best[best.all_data].set_index("n_params").loss
    law = inputs.laws["L_N_D"]
    ratio = law.value("alpha_N") / law.value("alpha_D")
    rows = best[best.n_unique_tokens == 100_000].sort_values("n_params")
    points = series(drawing, "excess", "D = 100K")
    assert np.allclose(points.x, rows.n_params**ratio / 100_000)
    assert np.allclose(points.y, rows.loss.to_numpy() / unlimited[rows.n_params].to_numpy() - 1)
    line = series(drawing, "excess", "Eq 4.3")
    n_params = 100_000.0
    truth = planted.loss_n_d(n_params, n_params**ratio / line.x) / planted.loss_n(n_params) - 1
    assert np.allclose(line.y, truth, atol=0.02)


def test_figures_name_the_runs_that_are_missing():
    depths = planted.sweep("depths")
    with pytest.raises(UserError, match="sweep depths lacks a run of 0 layers"):
        draw("fig06", inputs_of("fig06", depths=depths[depths.n_layer > 0]))
    data = planted.sweep("data")
    with pytest.raises(UserError, match="sweep data lacks a run on all data"):
        draw("fig09", inputs_of("fig09", data=data[~data.all_data]))
    one = data[data.n_params == data.n_params.max()]
    with pytest.raises(UserError, match="sweep data lacks two model sizes: 1 of 2 there"):
        draw("fig04", inputs_of("fig04", data=one))
    with pytest.raises(UserError, match=r"sweep 'sizes' is needed and was not given \(--sweep sizes=FILE\)"):
        draw("fig02", Inputs.of({"data": data}))
    with pytest.raises(UserError, match="law 'L_N_D' is needed"):
        draw("fig09", Inputs.of({"data": data}))


def test_diverged_runs_are_left_out_and_counted():
    sizes = planted.sweep("sizes").copy()
    bad = sizes.run.iloc[-1]
    sizes.loc[sizes.run == bad, "status"] = "diverged"
    sizes.loc[sizes.run == bad, "loss"] = np.nan
    for figure in ("fig01", "fig02", "fig06", "fig23"):
        drawing = draw(figure, inputs_of(figure, sizes=sizes))
        assert "1 run of sweep sizes diverged and is left out." in drawing.caption.ours
        assert bad not in set(drawing.table().series)
    assert series(draw("fig23", inputs_of("fig23", sizes=sizes)), "loss", "all data").n.tolist()[-1] == 1
    with pytest.raises(UserError, match="sweep sizes: no run that did not diverge"):
        draw("fig02", inputs_of("fig02", sizes=sizes.assign(status="diverged")))


def test_mean_over_seeds_pools_the_relative_spread():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        runs = pd.DataFrame({"n_params": np.repeat([1, 2, 3, 4], 3), "fitted": True})
        truth = 4.0 / runs.n_params**0.1
        runs["loss"] = truth * (1 + 0.01 * rng.standard_normal(12))
        means = mean_over_seeds(runs, "n_params")
        covered += ((means.low < 4.0 / means.n_params**0.1) & (4.0 / means.n_params**0.1 < means.high)).sum()
    assert 0.92 < covered / 400 < 0.98


def test_command_writes_all_files_from_files(tmp_path):
    inputs = inputs_of("fig09", few=True)
    inputs.sweeps["data"].to_parquet(tmp_path / "data.parquet")
    inputs.laws["L_N_D"].to_json(tmp_path / "L_N_D.json")
    output = tmp_path / "figures" / "fig09.svg"
    inputs.points["L_N_D"].to_parquet(tmp_path / "points.parquet")
    options = ["--sweep", f"data={tmp_path}/data.parquet", "--law", f"L_N_D={tmp_path}/L_N_D.json"]
    options += ["--points", f"L_N_D={tmp_path}/points.parquet"]
    assert main(["fig09", *options, "--preset", "test", "--title", "a title", "--output", str(output)]) == 0
    assert {path.suffix for path in output.parent.iterdir()} == {".svg", ".png", ".csv", ".md", ".json"}
    caption = json.loads(output.with_suffix(".json").read_text())
    assert caption["figure"] == "fig09"
    assert "Preset test (a title)." in caption["differs"]
    assert output.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["fig99", "--output", "x.svg"], "figure: 'fig99' is not one of fig01"),
        (["fig02", "--output", "x.svg"], "sweep 'sizes' is needed"),
        (["fig02", "--sweep", "sizes", "--output", "x.svg"], "'sizes' is not NAME=FILE"),
        (["fig02", "--sweep", "sizes=nowhere.parquet", "--output", "x.svg"], "sizes: there is no file nowhere.parquet"),
    ],
)
def test_command_ends_in_one_clear_line(options, message, capsys):
    assert main(options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_output_must_be_svg(tmp_path: Path):
    with pytest.raises(UserError, match=r"output: fig02.pdf does not end in .svg"):
        draw("fig02", inputs_of("fig02", few=True)).save(tmp_path / "fig02.pdf")
