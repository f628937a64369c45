"""Figures 3, 5, 7, 8, 10 to 22 and 24, and the right panel of Figure 4, on sweeps and laws with a planted truth."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import planted
import planted_more
import pytest
from drawn import all_text, collisions, drawn_vertices, hidden_points, recorded_vertices

from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import labelled
from pipeline.errors import UserError
from pipeline.figures.drawing import Drawing
from pipeline.plan import catalog
from pipeline.units import PF_DAY

LINEAR_X = {("fig22", "rate"), ("fig22", "loss"), ("fig08", "transfer")}
"""Panels whose x axis is not logarithmic in the paper."""
FIGURES = tuple(f"fig{k:02}" for k in (3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24))
NEEDS_LAW = {
    "fig03": ("N_opt_min", "S_opt_min"),
    "fig04": ("L_N_S", "B_crit"),
    "fig05": ("L_N",),
    "fig10": ("B_crit",),
    "fig11": ("L_N_S", "B_crit"),
    "fig12": ("L_N_S",),
    "fig13": ("L_C", "L_C_min", "B_crit"),
    "fig14": ("N_opt", "N_opt_min", "S_opt", "S_opt_min"),
    "fig15": ("L_C_min", "D_opt_min", "L_D"),
    "fig16": ("L_N_D", "L_N_S", "B_crit"),
    "fig19": ("B_crit",),
}
"""Figure -> the laws that it says of when they are not identified."""


def inputs(figure: str, few: bool = False, **tables: pd.DataFrame) -> Inputs:
    """What the catalog gives a figure; `tables` replaces sweeps, and evaluations as NAME_evaluated."""
    needs = catalog.FIGURES[figure]
    given = planted.inputs(needs.sweeps, needs.evaluations, (), few)
    given.laws.update({name: planted_more.fits(few)[name] for name in needs.laws})
    given.points.update({name: planted_more.points(few)[name] for name in needs.points})
    for name, table in tables.items():
        kind = given.evaluations if name.endswith("_evaluated") else given.sweeps
        kind[name.removesuffix("_evaluated")] = table
    return given


def draw(figure: str, given: Inputs) -> Drawing:
    return importlib.import_module(f"pipeline.figures.{figure}").draw(given)


@cache
def drawing_of(figure: str, few: bool = False) -> Drawing:
    """Return a figure on planted data: to be read, not changed."""
    return draw(figure, inputs(figure, few))


def points_of(law: str) -> pd.DataFrame:
    """Return the points that a law of the planted sweeps was fitted to."""
    return planted_more.points()[law]


def rows(drawing: Drawing, panel: str, series: str) -> pd.DataFrame:
    """Return what the csv has of a series."""
    table = drawing.table()
    table = table[table.panel == panel]
    assert series in set(table.series), f"{series!r} is not one of {sorted(set(table.series))}"
    return table[table.series == series]


@pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("figure", FIGURES)
def test_csv_is_what_is_drawn_and_text_is_legible(figure, few):
    drawing = drawing_of(figure, few)
    for panel, axes in drawing.axes.items():
        assert recorded_vertices(drawing, panel)
        assert drawn_vertices(drawing, panel) == recorded_vertices(drawing, panel)
        assert axes.get_xscale() == ("linear" if (figure, panel) in LINEAR_X else "log")
        assert axes.get_xlabel()
    assert collisions(drawing) == []
    assert hidden_points(drawing) == []
    caption = drawing.caption
    assert all((caption.title, caption.paper, caption.ours, caption.differs))
    assert "nan" not in caption.ours.split()
    assert "planted text" in caption.differs


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES)
def test_same_data_give_the_same_bytes(figure, tmp_path):
    for folder in ("one", "two"):
        draw(figure, inputs(figure, few=True)).save(tmp_path / folder / f"{figure}.svg")
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("figure", "laws"),
    [pytest.param(figure, (law,), marks=pytest.mark.slow) for figure, laws in NEEDS_LAW.items() for law in laws]
    + [
        pytest.param(figure, laws, marks=[] if figure in ("fig05", "fig13", "fig16") else pytest.mark.slow)
        for figure, laws in NEEDS_LAW.items()
    ],
)
def test_unidentified_law_is_said_with_the_data(figure, laws):
    given = inputs(figure)
    for law in laws:
        given.laws[law] = planted.unidentified(given.laws[law], "all points on one side")
    drawing = draw(figure, given)
    assert "not identified" in all_text(drawing)
    assert "all points on one side" in drawing.caption.ours
    assert "nan" not in drawing.caption.ours.split()
    assert collisions(drawing) == []
    kinds = set(drawing.table().kind)
    assert "points" in kinds or figure in ("fig03", "fig04", "fig12", "fig15")  # these have lines only


@pytest.mark.parametrize(
    ("figure", "sweep", "keep", "message"),
    [
        ("fig05", "shapes", lambda t: ~t.label.str.contains("aspect"), "sweep shapes lacks two runs with label aspect"),
        ("fig07", "sizes", lambda t: t.n_params == 6144, "sweep sizes lacks two model sizes: 1 of 2 there"),
        ("fig08", "one_large_evaluated", lambda t: t.final, "sweep one_large lacks two snapshots of its largest model"),
        (
            "fig08",
            "sizes_evaluated",
            lambda t: t.corpus == "train",
            "evaluations of sweep sizes lack the corpus 'test'",
        ),
        ("fig08", "sizes_evaluated", lambda t: t.corpus.isin(["train", "test"]), "lack the corpus 'a corpus"),
        ("fig10", "batches", lambda t: t.d_model == 24, "sweep batches lacks a scan at two model sizes: 1 of 2"),
        ("fig11", "sizes", lambda t: t.n_params == 6144, "sweep sizes lacks two model sizes that are fitted: 1 of 2"),
        ("fig13", "sizes", lambda t: t.n_params == 6144, "sweep sizes lacks two model sizes: 1 of 2 there"),
        ("fig16", "data", lambda t: t.all_data, "sweep data lacks two data set sizes: 1 of 2 there"),
        ("fig17", "recurrent", lambda t: t.step < 0, "sweep recurrent: no run that did not diverge"),
        ("fig18", "batches", lambda t: t.batch_sequences == 8, "sweep batches lacks three batch sizes: 1 of 3 there"),
        ("fig19", "sizes", lambda t: t.n_params == 6144, "sweep sizes lacks two model sizes that are fitted: 1 of 2"),
        ("fig20", "one_large_evaluated", lambda t: t.final, "sweep one_large lacks two snapshots of its largest model"),
        ("fig21", "short_evaluated", lambda t: t.n_params == 6144, "sweep short lacks two model sizes: 1 of 2 there"),
        ("fig22", "schedules", lambda t: t.schedule == "cosine", "sweep schedules lacks two schedules: 1 of 2 there"),
        ("fig24", "transfer_evaluated", lambda t: t.n_layer == 4, "sweep transfer lacks two depths: 1 of 2 there"),
    ],
)
def test_missing_runs_are_named(figure, sweep, keep, message):
    name = sweep.removesuffix("_evaluated")
    table = planted.sweep(name) if name == sweep else planted.evaluations(name, few=True)
    with pytest.raises(UserError, match=message):
        draw(figure, inputs(figure, few=name != sweep, **{sweep: table[keep(table)]}))


def test_diverged_runs_are_left_out_and_counted():
    table = planted.sweep("recurrent").copy()
    bad = table.run.iloc[0]
    table.loc[table.run == bad, ["status", "loss"]] = "diverged", np.nan
    drawing = draw("fig17", inputs("fig17", recurrent=table))
    assert "1 run of sweep recurrent diverged and is left out." in drawing.caption.ours
    drawn = rows(drawing, "without reuse", "2x re-use")
    assert len(drawn[drawn.kind == "points"]) == 3


def test_fig03_areas_multiply_to_the_growth_of_compute():
    table = drawing_of("fig03").table()
    laws = planted_more.fits()
    top = table[table.series.str.startswith("top of model size")]
    assert top.y.max() == pytest.approx(1e9)
    batch = table[(table.series == "batch size") & (table.kind == "band")].iloc[-1]
    assert batch.low == pytest.approx(1e9 ** laws["S_opt_min"].value("p"))
    assert 1e9 / batch.high == pytest.approx(1e9 ** laws["N_opt_min"].value("p"))
    paper = table[table.series == "paper, top of batch size"].iloc[-1]
    assert paper.y == pytest.approx(1e9**0.27)
    solid = table[table.series == "top of model size"]
    assert solid.x.max() * PF_DAY == pytest.approx(points_of("N_opt_min").flops.max())


def test_fig04_right_draws_curves_against_s_min():
    drawing = drawing_of("fig04")
    points = points_of("L_N_S")
    run = points[points.run == points.run.iloc[0]]
    assert np.allclose(rows(drawing, "steps", run.run.iloc[0])[["x", "y"]], run[["steps", "loss"]])
    line = rows(drawing, "steps", "N = 6.1K, Eq 5.6")
    assert np.allclose(
        line.y, planted.loss_n(6144) + (planted.TRUTH["S_c"] / line.x) ** planted.TRUTH["alpha_S"], rtol=0.03
    )
    assert line.x.max() == pytest.approx(points[points.n_params == 6144].steps.max())


def test_fig05_increase_is_corrected_to_equal_n():
    drawing = drawing_of("fig05")
    shapes = planted.sweep("shapes")
    ends = labelled(shapes[shapes.final], "aspect").drop_duplicates("run")
    law = planted_more.fits()["L_N"]
    loss = ends.loss / law.predict(n_params=ends.n_params)
    drawn = rows(drawing, "aspect", "N = 98K")
    drawn = drawn[drawn.kind == "points"].sort_values("x")
    truth = (loss / loss.min() - 1).to_numpy()[np.argsort(ends.d_model / ends.n_layer)]
    assert np.allclose(drawn.y, truth)
    assert drawn.y.min() == 0
    assert "% more compute makes up for 1 % of loss" in all_text(drawing)
    assert f"{100 * (1.01 ** (1 / planted_more.fits()['L_C_min'].value('alpha_C_min')) - 1):.0f} % more" in all_text(
        drawing
    )


def test_fig07_draws_lstms_by_depth_and_position():
    drawing = drawing_of("fig07", few=True)
    lstms = planted.sweep("lstms", few=True)
    ends = lstms[lstms.final & (lstms.n_layer == 4)].drop_duplicates("run")
    drawn = rows(drawing, "size", "LSTM, 4 layers")
    assert sorted(drawn[drawn.kind == "points"].y) == pytest.approx(sorted(ends.loss))
    table = drawing.table()
    lines = table[table.panel == "position"].groupby("series")
    flat = {name: line.y.iloc[-4] - line.y.iloc[-1] for name, line in lines}
    assert all((fall < 1e-6) == name.startswith("LSTM") for name, fall in flat.items())


def test_fig08_offsets_and_transfer_follow_the_plan():
    drawing = drawing_of("fig08", few=True)
    for corpus, offset in planted.OFFSETS.items():
        if corpus in ("train", "test"):
            continue
        test = rows(drawing, "size", "test set").query("kind == 'points'")
        other = rows(drawing, "size", corpus).query("kind == 'points'")
        assert np.allclose(other.y.to_numpy() - test.y.to_numpy(), offset)
        for part in ("at the end", "during training"):
            line = rows(drawing, "transfer", f"{corpus}, {part}")
            assert np.allclose(line.y - line.x, offset)
        assert f"{corpus} {offset:.2f} and {offset:.2f}" in drawing.caption.ours
    low, high = drawing.axes["transfer"].get_xlim()
    assert low > high  # the loss falls to the right


def test_fig10_scans_lie_on_the_planted_critical_batch():
    drawing = drawing_of("fig10")
    for n_params in ("14K", "221K"):
        points = rows(drawing, "batch", f"empirical B_crit, N = {n_params}")
        assert np.allclose(np.log(points.y / planted.critical_batch(points.x)), 0, atol=0.3)
    noise = rows(drawing, "batch", "noise scale")
    assert abs(np.log(noise.y / planted.critical_batch(noise.x)).median()) < 0.1
    low, high = drawing.axes["batch"].get_xlim()
    assert low > high


def test_fig10_gives_no_number_when_the_law_is_not_identified():
    given = inputs("fig10")
    given.laws["B_crit"] = planted.unidentified(given.laws["B_crit"], "all losses on one side")
    drawing = draw("fig10", given)
    assert "alpha_B not identified" in drawing.caption.ours
    assert "B_crit not identified: all losses on one side" in all_text(drawing)
    assert not drawing.table().query("kind == 'line'").size


def test_fig11_lines_follow_the_points_and_the_optimum():
    drawing = drawing_of("fig11")
    table = drawing.table()
    for panel in ("compute", "steps"):
        names = sorted({name for name in table[table.panel == panel].series if name.endswith("Eq 5.6")})
        assert len(names) == 6
        for name in names:
            line = rows(drawing, panel, name).sort_values("x")
            points = rows(drawing, panel, name.removesuffix(", Eq 5.6"))
            at = np.interp(np.log(points.x), np.log(line.x), line.y)
            assert np.allclose(points.y, at, rtol=0.02)


def test_fig12_is_the_formula_of_appendix_b():
    drawing = drawing_of("fig12")
    cost = rows(drawing, "compute", "paper, B.16")
    assert np.interp(1.0, cost.x, cost.y) == pytest.approx(1.0, abs=1e-4)
    assert np.interp(0.6, cost.x, cost.y) == pytest.approx(1.164, abs=0.01)
    assert np.interp(2.2, cost.x, cost.y) == pytest.approx(1.203, abs=0.005)
    steps = rows(drawing, "steps", "paper, B.17")
    assert np.interp(2.2, steps.x, steps.y) == pytest.approx(0.547, abs=0.005)
    assert cost.y.max() <= 4.0
    band = rows(drawing, "compute", "within 1.2 times")
    assert (band.x.round(1) == [0.6, 2.2]).all()


def test_fig13_adjusted_compute_is_below_what_was_spent():
    drawing = drawing_of("fig13")
    naive, least = (rows(drawing, "compute", f"envelope, {name}") for name in ("fixed batch", "adjusted to C_min"))
    assert (np.diff(naive.x) > 0).all() and (np.diff(naive.y) < 0).all()
    at = np.exp(np.interp(-np.log(naive.y), -np.log(least.y), np.log(least.x), left=np.nan, right=np.nan))
    assert (at[np.isfinite(at)] < naive.x[np.isfinite(at)]).all()
    assert f"exponent {planted_more.fits()['L_C'].value('alpha_C'):.3f}" in drawing.caption.ours


def test_fig14_points_are_those_of_the_laws():
    drawing = drawing_of("fig14")
    for panel, column in (("size", "n_params"), ("steps", "steps")):
        for name, adjusted in (("fixed batch", False), ("adjusted", True)):
            law = {"n_params": "N_opt", "steps": "S_opt"}[column] + "_min" * adjusted
            points, truth = rows(drawing, panel, name), points_of(law)
            assert np.allclose(points.x * PF_DAY, truth.flops)
            assert np.allclose(points.y, truth[column])
    assert drawing.axes["steps"].get_yscale() == "linear"
    assert drawing.axes["steps"].get_ylim()[0] == 0


def test_fig15_marks_where_the_laws_cross():
    drawing = drawing_of("fig15")
    cross = rows(drawing, "loss", "crossing").iloc[0]
    for name in ("L(C_min), above the range fitted", "L(D(C_min))"):
        line = rows(drawing, "loss", name).sort_values("x")
        assert np.interp(np.log(cross.x), np.log(line.x), np.log(line.y)) == pytest.approx(np.log(cross.y), abs=1e-3)
    one, other = (rows(drawing, "loss", f"paper, {name}") for name in ("L(C_min)", "L(D(C_min))"))
    sign = np.sign(one.y.to_numpy() - other.y.to_numpy())
    assert 3e3 < one.x.to_numpy()[np.flatnonzero(np.diff(sign))[0]] < 3e4  # the paper's 1e4 PF-days


def test_fig16_compares_stopping_steps_with_the_bound():
    drawing, given = drawing_of("fig16"), inputs("fig16")
    data = given.sweeps["data"]
    ends = data[data.best & ~data.all_data & (data.n_unique_tokens == 100_000)].sort_values("n_params")
    law, steps, critical = (given.laws[name] for name in ("L_N_D", "L_N_S", "B_crit"))
    excess = law.predict(n_params=ends.n_params, n_tokens=1e5) - law.predict(n_params=ends.n_params, n_tokens=np.inf)
    points = rows(drawing, "stop", "D = 100K").sort_values("x", ascending=False)
    assert np.allclose(points.x, np.sort(steps.value("S_c") * excess ** (-1 / steps.value("alpha_S")))[::-1])
    least = ends.step / (1 + critical.predict(loss=ends.loss) / ends.batch_tokens)
    assert np.allclose(np.sort(points.y), np.sort(least))
    bar = rows(drawing, "curves", "test minus train")
    largest = data[data.best & (data.n_unique_tokens == 100_000)].sort_values("n_params").iloc[-1]
    assert bar.y.tolist() == [largest.train_loss, largest.loss]


def test_fig17_counts_reuse_on_the_left_only():
    drawing = drawing_of("fig17")
    for n_reuse in (2, 4, 8):
        with_reuse, without = (
            rows(drawing, panel, f"{n_reuse}x re-use").query("kind == 'points'").sort_values("x")
            for panel in ("with reuse", "without reuse")
        )
        assert np.allclose(with_reuse.x, n_reuse * without.x)
        assert np.allclose(with_reuse.y, without.y)
    assert "right (equal N) 2x -" in drawing.caption.ours


def test_fig18_points_lie_on_their_hyperbola():
    drawing = drawing_of("fig18")
    table = drawing.table()
    lines = table[table.series.str.endswith("Eq 5.1")]
    assert set(lines.panel) == {"N = 14K", "N = 221K"}
    for (panel, name), line in lines.groupby(["panel", "series"]):
        points = rows(drawing, panel, name.removesuffix(", Eq 5.1"))
        at = np.exp(np.interp(np.log(points.x), np.log(line.x), np.log(line.y)))
        assert np.median(np.abs(np.log(points.y / at))) < 0.3
        assert line.x.min() == pytest.approx(points.x.min())
        assert line.x.max() == pytest.approx(points.x.max())
    shown = table[table.kind == "points"]
    assert set((shown.y / shown.x).round().astype(int)) == set(planted.sweep("batches").batch_tokens)


def test_fig19_tokens_are_steps_times_the_critical_batch():
    critical = planted_more.fits()["B_crit"]
    table = drawing_of("fig19").table().query("kind == 'points'")
    for name, part in table.groupby("series"):
        steps, tokens = (part[part.panel == panel].sort_values("x").y.to_numpy() for panel in ("steps", "tokens"))
        loss = float(name.split(",")[0].removeprefix("L = "))
        assert np.allclose(tokens / steps, critical.predict(loss=loss), rtol=0.02)
        assert (np.diff(steps) < 0).all()  # larger models need fewer


def test_fig20_fits_recover_the_planted_exponent():
    drawing = drawing_of("fig20", few=True)
    exponents = [float(word.split(" at ")[0]) for word in drawing.caption.ours.split("exponents ")[1].split(", ")[:3]]
    sizes = np.array([6144, 24576, 98304])
    assert np.allclose(exponents, 0.5 * (1 + np.log10(sizes) / 40), atol=0.006)
    lines = set(drawing.table().query("panel == 'step'").series)
    assert lines == {f"T = {2**k}" for k in range(8)}


def test_fig21_has_both_contexts():
    drawing = drawing_of("fig21", few=True)
    series = set(drawing.table().series)
    assert {"Token 1 / 128", "Token 128 / 128", "Token 1 / 8", "Token 8 / 8"} <= series
    table = planted.evaluations("sizes", few=True)
    truth = table[table.final & table.fitted & (table.corpus == "test") & (table.position == 4)]
    drawn = rows(drawing, "position", "Token 4 / 128").query("kind == 'points'")
    assert np.allclose(drawn.y, truth.groupby("n_params").loss.mean())


def test_fig22_draws_the_schedule_itself():
    drawing = drawing_of("fig22")
    linear = rows(drawing, "rate", "linear, peak 0.01")
    assert linear.y.max() == 0.01
    assert linear.y.iloc[-1] == 0
    assert np.interp(1550, linear.x, linear.y) == pytest.approx(0.005, rel=1e-3)
    schedules = planted.sweep("schedules")
    ends = schedules[schedules.final & (schedules.schedule == "constant")].sort_values("lr_sum")
    drawn = rows(drawing, "loss", "constant, no warmup or decay").sort_values("x")
    assert np.allclose(drawn[["x", "y"]], ends[["lr_sum", "loss"]])


def test_fig22_draws_each_length_and_cooldown_of_wsd():
    table = planted.sweep("schedules")
    drawing = draw("fig22", inputs("fig22", schedules=table))
    wsd = rows(drawing, "rate", "wsd, peak 0.01")
    assert np.interp([1500, 2400, 2550, 2700, 3000], wsd.x, wsd.y) == pytest.approx(
        [0.01, 0.01, 0.005, 0.0029289, 0], abs=1e-5
    )
    own = table[(table.schedule == "wsd") & (table.lr_peak == 0.01)]
    shorter = own.assign(run="shorter", n_steps=1000, cooldown=0.5, loss=own.loss * 1.01)
    both = draw("fig22", inputs("fig22", schedules=pd.concat([table, shorter])))
    wsd = rows(both, "rate", "wsd, peak 0.01, 1000 steps")
    assert np.interp([500, 625, 1000], wsd.x, wsd.y) == pytest.approx([0.01, 0.005, 0], abs=1e-5)
    assert rows(both, "rate", "wsd, peak 0.01, 3000 steps").x.max() == 3000


def test_fig22_shows_an_interval_where_a_schedule_has_seeds():
    table = planted.sweep("schedules")
    run = table[table.run == table[table.schedule == "cosine"].run.iloc[0]]
    again = run.assign(run="again", seed=1, loss=run.loss * 1.01)
    drawing = draw("fig22", inputs("fig22", schedules=pd.concat([table, again])))
    drawn = rows(drawing, "loss", "cosine")
    both = drawn[drawn.n == 2]
    assert len(both) == 1
    assert both.low.iloc[0] < both.y.iloc[0] < both.high.iloc[0]
    drawing = draw("fig22", inputs("fig22", schedules=pd.concat([table, again.assign(lr_hidden=0.5)])))
    assert (rows(drawing, "loss", "cosine").n == 1).all()  # another rate of hidden matrices is another setting


def test_fig24_has_a_series_a_corpus():
    drawing = drawing_of("fig24", few=True)
    names = {"train": "training text", "test": "test set"}
    for corpus in planted.OFFSETS:
        points = rows(drawing, "depth", names.get(corpus, corpus)).query("kind == 'points'")
        assert points.x.tolist() == [1, 4, 16]


def test_figures_of_laws_without_draws_have_no_band():
    given = inputs("fig14")
    given.laws["N_opt"] = replace(given.laws["N_opt"], draws=given.laws["N_opt"].draws[:0])
    bands = draw("fig14", given).table().query("kind == 'band'").series
    assert not any(name.startswith("N_opt,") for name in bands)
    assert any(name.startswith("N_opt_min,") for name in bands)
