"""Fill the README's generated parts from result files, and keep what they show in docs/<preset>/.

A part stands between `<!-- begin: name -->` and `<!-- end: name -->`, and equals docs/<preset>/<name>.md.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import UserError, command
from pipeline.files import atomic_path, read_json
from pipeline.plan.experiment import Experiment
from pipeline.report.costs import benchmark_file, by_sweep, needed_parts, timing_file
from pipeline.tables.table import text

PICTURES = ("fig01", "fig04", "fig09")
"""Figures that the README and the documentation show."""

EXTRAS = ("learning_rates", "precision")
"""Tables that are made on request only; kept beside the parts when they are there."""

PARTS = ("exponents", "claims", "times", "speed", "deviations")
"""Names of the generated parts."""


def fill(readme: str, parts: Mapping[str, str]) -> str:
    """Return a README whose generated parts are replaced.

    Raises
    ------
    UserError
        When a part's marks are missing.

    Examples
    --------
    >>> fill("a\\n<!-- begin: x -->\\nold\\n<!-- end: x -->\\nb", {"x": "new"})
    'a\\n<!-- begin: x -->\\nnew\\n<!-- end: x -->\\nb'
    """
    for name, content in parts.items():
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        pattern = re.compile(re.escape(begin) + r"\n.*?" + re.escape(end), re.DOTALL)
        if not pattern.search(readme):
            raise UserError(f"README: the marks {begin} and {end} are missing")
        block = f"{begin}\n{content.strip()}\n{end}"
        readme = pattern.sub(lambda _, block=block: block, readme)
    return readme


def markdown(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Return rows as a markdown table."""
    lines = [header, ["---"] * len(header), *[[text(cell) for cell in row] for row in rows]]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def interval(row: Any) -> str:
    """Return "ours (low to high)", or the reason why there is no number."""
    if pd.isna(row.ours):
        return "not identified"
    if pd.isna(row.low):
        return text(float(row.ours))
    return f"{text(float(row.ours))} ({text(float(row.low))} to {text(float(row.high))})"


def exponents(results: Path) -> str:
    """Return the comparable rows of Tables 2, 3, 5 and 6."""
    names = {
        "table5": "trends (Table 5)",
        "table2": "L(N, D) (Table 2)",
        "table3": "L(N, S) (Table 3)",
        "table6": "optimum (Table 6)",
    }
    rows = []
    for name, title in names.items():
        table = pd.read_csv(results / "tables" / f"{name}.csv")
        for row in table[table.comparable.astype(str).str.startswith("yes")].itertuples():
            rows.append([title, row.quantity, row.paper, interval(row), row.n_runs])
    law = read_json(results / "laws" / "L_N.json")
    notes = [f"L(N): R² {law['r_squared']:.4f} over the {law['n_runs']} runs fitted."] if law["r_squared"] else []
    held = law["held_out"].get("rms_ln") if law["held_out"] else None
    if held is not None:
        notes.append(f"Fitted without the largest size, the law misses its loss by {held:.2%}.")
    table = markdown(rows, ["", "exponent", "paper", "here (95 % interval)", "runs"])
    return f"{table}\n\n{' '.join(notes)}"


def claims(results: Path) -> str:
    """Return the verdict on each of the paper's claims."""
    table = pd.read_csv(results / "tables" / "claims.csv")
    rows = [[row.claim, row.statement, row.paper, interval(row), row.verdict] for row in table.itertuples()]
    return markdown(rows, ["", "claim", "paper", "here", "verdict"])


def times(experiment: Experiment, logs: Path) -> str:
    """Return what each sweep took, and which part of the training jobs' time was training steps."""
    rows = [
        [row["sweep"], row["runs"], row["new"], row["planned"], row["minutes"]]
        for row in by_sweep(experiment, logs)
        if row["recorded"]
    ]
    parts: dict[str, float] = {}
    jobs = needed_parts(experiment)
    for path in filter(Path.is_file, (timing_file(job, logs) for job in jobs)):
        for part, seconds in read_json(path)["seconds"].items():
            parts[part] = parts.get(part, 0.0) + seconds
    total = sum(parts.values())
    shares = ", ".join(f"{part} {seconds / total:.1%}" for part, seconds in sorted(parts.items(), key=lambda p: -p[1]))
    wall = experiment_wall(logs, [benchmark_file(job, logs) for job in jobs])
    table = markdown(rows, ["sweep", "runs", "of them first here", "planned (core-minutes)", "measured (core-minutes)"])
    return f"{table}\n\nWhere the time of the training jobs went: {shares}. {wall}"


PAUSE_SECONDS = 60
"""Where no job runs for longer, the experiment was interrupted."""


def experiment_wall(logs: Path, benchmarks: Sequence[Path]) -> str:
    """Return the wall time from the start of the first data job to the end of the last of some jobs that train."""
    trained = [path for path in benchmarks if path.is_file()]
    downloads = list((logs / "fetch_corpus").glob("*.jsonl"))
    for name, paths in {"fetch_corpus": downloads, "train": trained}.items():
        if not paths:
            raise UserError(f"{logs}/{name}: no record of a job is there")
    others = [path for rule in ("train_tokenizer", "tokenize") for path in (logs / rule).glob("*.jsonl")]
    ends = {path: path.stat().st_mtime for path in (*downloads, *others, *trained)}
    jobs = sorted((end - json.loads(path.read_text().splitlines()[-1])["s"], end) for path, end in ends.items())
    begin, until = jobs[0]
    paused = 0.0
    for start, end in jobs:
        if start - until > PAUSE_SECONDS:
            paused += start - until
        until = max(until, end)
    minutes = (until - begin - paused) / 60
    text = f"From the start of the first download to the end of the last training: {minutes:.0f} minutes"
    return text + (f", without {paused / 60:.0f} in which it was interrupted." if paused else ".")


def speed(benchmarks: Path) -> str:
    """Return what `make bench` measured: training against a plain loop of torch, both with the whole machine."""
    results = read_json(benchmarks)
    machine, rates = results["machine"], results["matrix_gflop_per_second"]
    rows = [
        [
            f"({row['shape'][0]}, {row['shape'][1]})",
            row["precision"],
            f"{row['ours']:,}",
            f"{row['plain']:,}",
            f"{row['ratio']:.1f} ({row['ratio_range'][0]:.1f} to {row['ratio_range'][1]:.1f})",
            f"{row['gflop_per_second'] / max(rates.values()):.0%}",
        ]
        for row in results["training"]
    ]
    header = ["model", "precision", "here (tokens/s)", "plain loop (tokens/s)", "ratio", "of torch's fastest product"]
    return (
        f"{markdown(rows, header)}\n\n{machine['cores']} cores with {', '.join(machine['vector_formats'])}; "
        f"torch {machine['torch']}; matrix products of torch: {rates['float32']:.0f} GFLOP/s in float32, "
        f"{rates['bfloat16']:.0f} in bfloat16. Runs of bfloat16 have 16-bit operands in the format that the processor "
        "is fastest in, and float32 weights and statistics."
    )


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Fill the README from the results of a preset."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report.readme", description=main.__doc__)
    parser.add_argument("--config", required=True, help="the config as JSON")
    parser.add_argument("--results", required=True, type=Path, help="folder of the preset's figures and tables")
    parser.add_argument("--logs", default="logs", type=Path, help="folder of the records of time")
    parser.add_argument("--benchmarks", default="benchmarks/results.json", type=Path, help="what make bench measured")
    parser.add_argument("--docs", required=True, type=Path, help="folder for the parts and pictures")
    parser.add_argument("--readme", default="README.md", type=Path, help="file to fill")
    options = parser.parse_args(argv)
    experiment = Experiment(json.loads(options.config))
    deviations = (options.results / "deviations.md").read_text(encoding="utf-8")
    parts = {
        "exponents": exponents(options.results),
        "claims": claims(options.results),
        "times": times(experiment, options.logs),
        "speed": speed(options.benchmarks),
        "deviations": deviations,
    }
    for name, content in parts.items():
        with atomic_path(options.docs / f"{name}.md") as temporary:
            temporary.write_text(content.strip() + "\n", encoding="utf-8")
    for name in PICTURES:
        shutil.copy(options.results / "figures" / f"{name}.png", options.docs / f"{name}.png")
    for name in EXTRAS:
        if (made := options.results / "tables" / f"{name}.md").exists():
            shutil.copy(made, options.docs / made.name)
    filled = fill(options.readme.read_text(encoding="utf-8"), parts)
    with atomic_path(options.readme) as temporary:
        temporary.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
