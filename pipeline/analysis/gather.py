"""Collect the curves, or the evaluations, of a sweep's runs in one table.

One row a (run, evaluation), with the run's settings and every convention of counting parameters and compute as columns.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.analysis import tables
from pipeline.errors import command
from pipeline.plan.counts import count
from pipeline.plan.run import Run
from pipeline.tokens.windows import read_tokens_meta
from pipeline.train.results import CURVE, EVALUATION, read_curve, read_evaluation

RUN_COLUMNS = (
    *("family", "n_layer", "d_model", "n_head", "d_ff", "n_ctx", "n_vocab", "n_reuse", "batch_sequences"),
    *("batch_tokens", "n_steps", "schedule", "warmup_steps", "lr_final", "lr_hidden", "cooldown", "branch_point"),
    *("dropout", "weight_decay", "seed", "precision"),
)
"""What of a `Run` becomes a column under its own name."""


def run_columns(run: Run, n_train_tokens: int) -> dict[str, object]:
    """Return the columns that describe a run: settings, data set size D in tokens, and parameter counts."""
    counts = count(run)
    return {
        "run": run.id,
        **{name: getattr(run, name) for name in RUN_COLUMNS},
        "n_unique_tokens": run.n_unique_tokens or n_train_tokens,
        "all_data": run.n_unique_tokens is None,
        "lr_peak": run.lr,
        "n_params": counts.n_params,
        "n_params_reuse": counts.n_params_reuse,
        "n_params_embedding": counts.n_params_embedding,
        "n_params_head": counts.n_params_head,
        "n_params_total": counts.n_params_total,
    }


def curve_table(curve: pd.DataFrame, run: Run, status: str, n_train_tokens: int) -> pd.DataFrame:
    """Return a run's curve with the run's columns, its compute so far, and which rows are last and lowest.

    Parameters
    ----------
    curve
        Rows of curve.parquet: step, n_tokens, lr, lr_sum, train_loss, loss, noise_scale, gradient_norm.
    run
        The run that the curve is of.
    status
        finished, stopped or diverged.
    n_train_tokens
        Tokens of the whole training set.
    """
    counts = count(run)
    table = curve.assign(**run_columns(run, n_train_tokens), status=status)
    for name in ("flops", "flops_context", "flops_head", "flops_all"):
        table[name] = getattr(counts, name) * table["n_tokens"]
    table["epochs"] = table["n_tokens"] / table["n_unique_tokens"]
    table["final"], table["best"] = marks(table["step"].to_numpy(), table["loss"].to_numpy())
    return table


def marks(step: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which of one run's rows are its last, and which one has its lowest loss (none where it has no loss).

    Examples
    --------
    >>> marks(np.array([0, 1, 2]), np.array([5.0, 4.0, 4.5]))
    (array([False, False,  True]), array([False,  True, False]))
    """
    best = -1 if np.isnan(loss).all() else int(np.nanargmin(loss))
    return step == step.max(), np.arange(len(step)) == best


def gather(
    sweep: str, members: dict[str, tuple[str, bool]], runs: str | Path, n_train_tokens: int, evaluations: bool
) -> pd.DataFrame:
    """Return the table of a sweep.

    Parameters
    ----------
    sweep
        Name of the sweep.
    members
        Run id -> (label, fitted), as the sweep sees its runs.
    runs
        Folder with one folder a run.
    n_train_tokens
        Tokens of the whole training set.
    evaluations
        Collect evaluation.parquet (by corpus and position) in place of the curves.

    Raises
    ------
    UserError
        When a file is missing, damaged, or of another run.
    """
    gathered = []
    for run_id, (label, fitted) in members.items():
        folder = Path(runs) / run_id
        curve, run, status, _ = read_curve(folder / CURVE, run_id)
        if evaluations:
            rows = read_evaluation(folder / EVALUATION, run)
            table = rows.assign(**run_columns(run, n_train_tokens), status=status)
            table["final"] = table["step"] == table["step"].max()
            table["n_tokens"] = table["step"] * run.batch_tokens
        else:
            table = curve_table(curve, run, status, n_train_tokens)
        gathered.append(table.assign(sweep=sweep, label=label, fitted=fitted))
    return pd.concat(gathered, ignore_index=True)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Write the table of one sweep."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.gather", description=main.__doc__)
    parser.add_argument("sweep", help="name of the sweep")
    parser.add_argument("--members", required=True, help="JSON: run id -> [label, fitted]")
    parser.add_argument("--runs", required=True, help="folder with one folder a run")
    parser.add_argument("--tokens", required=True, help="meta.json of the token files")
    parser.add_argument("--evaluations", action="store_true", help="collect evaluations in place of curves")
    parser.add_argument("--preset", default="", help="name of the experiment")
    parser.add_argument("--output", required=True, help="parquet file to write")
    options = parser.parse_args(argv)
    tokens = read_tokens_meta(options.tokens)
    members = json.loads(options.members)
    table = gather(options.sweep, members, options.runs, tokens["train"]["tokens"], options.evaluations)
    # Known for a synthetic language only; NaN otherwise.
    table["entropy_rate"] = float("nan" if tokens["entropy_rate"] is None else tokens["entropy_rate"])
    kind = "evaluation" if options.evaluations else "sweep"
    tables.write(options.output, table, kind, options.sweep, options.preset)
