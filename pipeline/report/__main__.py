"""Write the report's page, and the captions of the figures, as fragments of HTML.

python -m pipeline.report --config JSON --results results/test --output results/test/report
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import command
from pipeline.files import atomic_path, write_json
from pipeline.plan.experiment import Experiment
from pipeline.report import costs, page
from pipeline.train.results import CURVE, read_curve


def diverged(experiment: Experiment, runs: Path) -> list[dict[str, str]]:
    """Return the runs that diverged, with the reason that their curve records and the sweeps that want them."""
    found = []
    for run_id in experiment.runs:
        path = runs / run_id / CURVE
        if path.is_file() and (curve := read_curve(path, run_id)).status == "diverged":
            names = [name for name, members in experiment.sweeps.items() if run_id in {m.run.id for m in members}]
            found.append({"run": run_id, "sweeps": ", ".join(names), "reason": curve.reason})
    return found


def contents(experiment: Experiment, results: Path, runs: Path, logs: Path) -> dict[str, Any]:
    """Return everything that the page shows."""
    blocks = {name: page.read_figure(results / "figures", name) for name in experiment.figures}
    blocks |= {name: page.read_grid(results / "tables" / f"{name}.md") for name in experiment.tables}
    placed = page.sections(experiment.figures, experiment.tables)
    claims = page.read_claims(results / "tables" / "claims.csv") if "claims" in experiment.tables else []
    return {
        "title": experiment.config["title"],
        "preset": experiment.preset,
        "claims": claims,
        "colours": page.COLOURS,
        "counts": {kind: sum(row["verdict"] == kind for row in claims) for kind in page.COLOURS},
        "sections": {title: [blocks[name] for name in names] for title, names in placed.items()},
        "deviations": page.read_grid(results / "deviations.md"),
        "costs": costs.by_sweep(experiment, logs),
        "diverged": diverged(experiment, runs),
        "versions": page.versions(),
    }


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, put the page together, write."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report", description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="the config as JSON")
    parser.add_argument("--results", required=True, type=Path, help="folder of the preset's figures and tables")
    parser.add_argument("--runs", default="results/runs", type=Path, help="folder with one folder a run")
    parser.add_argument("--logs", default="logs", type=Path, help="folder of the records of time and memory")
    parser.add_argument("--output", required=True, type=Path, help="folder to write")
    options = parser.parse_args(argv)
    config = json.loads(options.config)
    experiment = Experiment(config)
    shown = contents(experiment, options.results, options.runs, options.logs)
    for blocks in shown["sections"].values():
        for block in blocks:
            if isinstance(block, page.Figure):
                write(options.output / "captions" / f"{block.name}.html", page.render("caption.html", figure=block))
    write_json(options.output / "config.json", config)
    write(options.output / "page.html", page.render("page.html", **shown))


def write(path: Path, content: str) -> None:
    """Write a file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
