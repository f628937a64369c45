"""The tables of an experiment, as parquet files that say what they hold: sweeps, their evaluations, points of laws."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.errors import UserError
from pipeline.files import atomic_path, reading
from pipeline.train.results import EVALUATION_COLUMNS, read_table

COLUMNS = {
    "sweep": ("run", "label", "fitted", "status", "final", "best", "step", "loss", "n_params", "n_tokens", "flops"),
    "evaluation": ("run", "label", "fitted", "status", "final", *EVALUATION_COLUMNS),
    "points": ("run",),
}
"""Kind of table -> columns that it has at least."""


def write(path: str | Path, rows: pd.DataFrame, kind: str, name: str, preset: str) -> None:
    """Write a table, whole or not at all; kind, name and preset are in its metadata.

    Raises
    ------
    UserError
        When it can't be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(rows, preserve_index=False)
    holds = {"holds": f"{kind} {name}", "preset": preset}
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **holds}), temporary)


def read(path: str | Path, kind: str, name: str, preset: str = "") -> pd.DataFrame:
    """Read the table of a kind and a name.

    Raises
    ------
    UserError
        When the file is missing, damaged, lacks columns, or says that it holds another table or is of another preset.
    """
    again = "remove it, and start the workflow again"
    with reading(path, f"the table {kind} {name}", again):
        rows, metadata = read_table(path, COLUMNS[kind], least=0 if kind == "points" else 1)
    holds, of = metadata.get("holds", f"{kind} {name}"), metadata.get("preset") or preset
    if holds != f"{kind} {name}" or (preset and of != preset):
        presets = (f" of preset {of}", f" of preset {preset}") if preset else ("", "")
        raise UserError(f"{path}: holds {holds}{presets[0]}, not {kind} {name}{presets[1]}; {again}")
    return rows
