"""The report's page: what it holds, in which order, and that it is honest about what is missing."""

from __future__ import annotations

import json
import re

import pandas as pd
import planted
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from test_workflow import ROOT, snakemake

from pipeline.errors import UserError
from pipeline.figures import fig06, fig23
from pipeline.plan.experiment import Experiment
from pipeline.plan.trunk import Part
from pipeline.report import costs, deviations, page
from pipeline.report.__main__ import main
from pipeline.tables import claims, table2
from pipeline.tables.table import Table
from pipeline.train.results import COLUMNS


def merged(base: dict, *layers: dict) -> dict:
    """Return a config with others laid over it, as Snakemake does: mappings deeply, lists replaced."""
    for layer in layers:
        for key, value in layer.items():
            deep = isinstance(value, dict) and isinstance(base.get(key), dict)
            base[key] = merged(base[key], value) if deep else value
    return base


def config(preset: str = "test", **sections) -> dict:
    """Return the config of a preset, some sections laid over it."""
    files = [yaml.safe_load((ROOT / path).read_text()) for path in ("config.yaml", f"presets/{preset}.yaml")]
    return merged(*files, sections)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The page of two figures and two tables, on planted data, with one run that diverged and one with records."""
    root = tmp_path_factory.mktemp("report")
    settings = config(figures=["fig06", "fig23"], tables=["table2", "claims"])
    experiment = Experiment(settings)
    results = root / "results"
    given = planted.inputs(("depths", "sizes"), laws=("L_N", "log_N", "L_N_D"), of=("L_N",))
    fig06.draw(given).save(results / "figures" / "fig06.svg")
    fig23.draw(given).save(results / "figures" / "fig23.svg")
    table2.make(given).save(results / "tables" / "table2.csv")
    claims.make(given).save(results / "tables" / "claims.csv")
    deviations.table(experiment, 20_000_000).save(results / "deviations.csv")
    first, second, *_ = experiment.runs
    for run_id, status in ((first, "diverged"), (second, "finished")):
        metadata = {"run": experiment.runs[run_id].to_json(), "status": status, "reason": "loss <NaN> at step 7"}
        path = root / "runs" / run_id / "curve.parquet"
        path.parent.mkdir(parents=True)
        rows = {name: [0] for name in COLUMNS}
        pq.write_table(pa.table(rows).replace_schema_metadata(metadata), path)
    (root / "logs" / "train").mkdir(parents=True)
    (root / "logs" / "timing").mkdir()
    (root / "logs" / "train" / f"{second}.jsonl").write_text('{"s": 90.0, "max_rss": 120.4}\n')
    timing = {"tokens_per_second": 45_678, "engine": "native"}
    (root / "logs" / "timing" / f"{second}.json").write_text(json.dumps(timing))
    options = {"--config": json.dumps(settings), "--results": results, "--runs": root / "runs", "--logs": root / "logs"}
    arguments = [str(part) for pair in options.items() for part in pair]
    assert main([*arguments, "--output", str(root / "page")]) == 0
    return {"root": root, "experiment": experiment, "page": (root / "page" / "page.html").read_text(), "first": first}


def test_claims_come_first_then_the_papers_sections(made):
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", made["page"])
    assert titles == [
        "The paper's claims",
        "3 Empirical results and basic power laws",
        "4 Charting the infinite data limit and overfitting",
        "D Supplemental figures",
        "Deviations from the paper",
        "Cost of each run",
        "Runs that diverged",
        "Versions",
    ]


def test_every_claim_has_its_verdict_and_checks(made):
    rows = re.findall(r'<td><span class="verdict (\w+)">', made["page"])
    frame = pd.read_csv(made["root"] / "results" / "tables" / "claims.csv")
    kinds = {"holds": "holds", "does not hold at this scale": "fails", "cannot be decided here": "open"}
    kinds |= {"out of reach of this preset": "beyond"}
    assert set(kinds) == set(page.COLOURS) and "beyond" in rows and "open" in rows
    assert rows == [kinds[verdict] for verdict in frame.verdict]
    assert made["page"].count("<li>") == sum(reason.count("; ") + 1 for reason in frame.reason)
    assert made["page"].count("What would decide it: ") == (frame.verdict == "cannot be decided here").sum()


def test_figures_are_in_the_page_with_their_captions(made):
    assert made["page"].count('<img src="data:image/png;base64,') == 2
    caption = json.loads((made["root"] / "results" / "figures" / "fig23.json").read_text())
    assert f"Figure 23. {caption['title']}" in made["page"]
    for name in ("fig06", "fig23"):
        assert "<b>Paper:</b>" in (made["root"] / "page" / "captions" / f"{name}.html").read_text()


def test_the_page_asks_for_nothing_from_a_network(made):
    assert not re.search(r"(src|href)=\"(https?:)?//", made["page"])
    assert "url(" not in made["page"]


def test_a_run_that_diverged_is_named_with_its_reason(made):
    part = made["page"].split('id="diverged"')[1]
    assert f"<td>{made['first']}</td><td>sizes" in part
    assert "loss &lt;NaN&gt; at step 7" in part  # escaped
    assert part.count("<tr>") == 2  # the header and one run


def test_costs_are_what_the_records_say(made):
    rows = costs.by_sweep(made["experiment"], made["root"] / "logs")
    total = rows[-1]
    assert [row["sweep"] for row in rows] == ["sizes", "one_large", *(row["sweep"] for row in rows[2:-1]), "total"]
    assert (total["recorded"], total["minutes"], total["memory"]) == (1, 1.5, 120.4)
    assert total["new"] == sum(row["new"] for row in rows[:-1]) == total["runs"]
    assert total["planned"] == pytest.approx(sum(row["planned"] for row in rows[:-1]))
    assert "45,678" in made["page"] and "native" in made["page"]


def test_a_benchmark_that_could_not_be_measured_is_no_number(tmp_path):
    run = planted.make_run(2, 16)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / f"{run.id}.jsonl").write_text('{"s": 1.5, "max_rss": "NA"}\n')
    found = costs.record(Part(run), tmp_path)
    assert (found.seconds, found.memory, found.speed) == (1.5, None, None)
    assert costs.record(Part(planted.make_run(2, 24)), tmp_path).seconds is None


def test_a_figure_that_was_not_drawn_is_named(made, tmp_path):
    with pytest.raises(UserError, match=r"fig01\.png: no such file; figure fig01 is not drawn"):
        page.read_figure(made["root"] / "results" / "figures", "fig01")
    with pytest.raises(UserError, match=r"table3\.md: no such file; table table3 is not made"):
        page.read_grid(tmp_path / "table3.md")


def test_a_table_is_read_as_it_was_written(tmp_path):
    frame = pd.DataFrame({"quantity": ["a | b", "c"], "ours": [0.1, None], "note": ["", "x_y"]})
    Table("A title.", frame, ("One note.", "Two notes.")).save(tmp_path / "t.csv")
    grid = page.read_grid(tmp_path / "t.md")
    assert (grid.title, list(grid.header)) == ("A title.", ["quantity", "ours", "note"])
    assert grid.rows == [["a | b", "0.100", ""], ["c", "", "x_y"]]
    assert list(grid.notes) == ["One note.", "Two notes."]


def test_every_figure_and_table_of_the_paper_has_its_section():
    placed = [name for names in page.SECTIONS.values() for name in names]
    assert sorted(placed) == [*(f"fig{n:02d}" for n in range(1, 25)), *(f"table{n}" for n in range(1, 7))]


# Deviations


def test_the_laptop_says_where_it_departs():
    found = {one.setting: one for one in deviations.deviations(Experiment(config("laptop")), 27_000_000)}
    assert (found["vocabulary"].paper, found["vocabulary"].here) == ("50,257 entries", "512 entries")
    assert found["batch"].paper == "524,288 tokens"
    assert found["data sets D"].here.endswith("to 2.7e7 tokens")
    assert found["training text"].here == "news, documentation: 2.70e7 tokens"
    assert all(one.why for one in found.values())


def test_a_setting_that_agrees_with_the_paper_is_no_deviation():
    settings = config("laptop", data={"vocabulary": 50_257}, model={"n_ctx": 1024})
    found = {one.setting for one in deviations.deviations(Experiment(settings))}
    assert not found & {"vocabulary", "context"}
    assert "passes over all data" not in found  # not known before the text is there


def test_deviations_follow_the_config():
    def rate(settings: dict) -> str | None:
        found = {one.setting: one.here for one in deviations.deviations(Experiment(settings))}
        return found.get("peak learning rate")

    assert rate(config("laptop")).startswith("0.00")
    kaplan = config("laptop")
    kaplan["learning_rate"] = {"rule": "kaplan"}
    assert rate(kaplan) is None


def test_rates_of_hidden_matrices_are_a_deviation():
    def rates(settings: dict) -> list[str | None]:
        found = {one.setting: one.here for one in deviations.deviations(Experiment(settings))}
        return [found.get(name) for name in ("peak learning rate", "learning rate of hidden matrices")]

    settings = config("laptop")
    assert rates(settings)[1] is None
    settings["learning_rate"] = {"rule": "width", "coefficient": 0.012, "width": 32}
    assert rates(settings) == ["0.012 at every N", "0.167 to 2 times that of embeddings, norms and biases"]
    settings["training"]["lr_hidden"] = 0.5
    assert rates(settings)[1] == "0.5 times that of embeddings, norms and biases"


# Snakemake's own report


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
def test_the_report_is_one_file_that_opens_with_the_page(tmp_path):
    settings = config(figures=[], tables=[])
    tokens = tmp_path / "results" / "tokens" / Experiment(settings).tokens_id / "meta.json"
    tokens.parent.mkdir(parents=True)
    train = {"file": "train.bin", "tokens": 9_000_000}
    tokens.write_text(json.dumps({"vocabulary": 300, "train": train}))
    override = tmp_path / "override.yaml"
    override.write_text(yaml.safe_dump({"figures": [], "tables": []}))
    done = snakemake(
        "--cores", "1", "report", "--configfile", str(override), "--config", "preset=test", cwd=tmp_path
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "results" / "test" / "report.html").read_text()
    assert "Deviations from the paper" in text
    assert "news: 9.00e6 tokens" in text
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=\"https?:", text)
