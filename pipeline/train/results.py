"""The files that a run leaves in its folder: the curve, the last weights, the snapshots, the evaluation.

All writing and reading of them is here. They hold no clock times and no machine names: a run written twice is the same
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.errors import UserError
from pipeline.files import atomic_path, reading
from pipeline.models import parameters
from pipeline.plan.run import Run
from pipeline.train.arrays import Arrays, read_arrays, write_arrays
from pipeline.train.checkpoint import Progress

if TYPE_CHECKING:
    import pandas as pd

CURVE, WEIGHTS, SNAPSHOTS = "curve.parquet", "model.safetensors", "snapshots.safetensors"
EVALUATION = "evaluation.parquet"
KEY = "scaling-laws"
"""Of the metadata of files of weights."""
COLUMNS = ("step", "n_tokens", "lr", "lr_sum", "train_loss", "loss", "noise_scale", "gradient_norm")
"""Columns of a curve."""
EVALUATION_COLUMNS = ("step", "corpus", "position", "loss", "n")
INTEGERS = ("step", "n_tokens")
"""Columns of a curve that are whole numbers."""


class Curve(NamedTuple):
    """What curve.parquet holds."""

    rows: pd.DataFrame
    """`COLUMNS`: one row an evaluation."""
    run: Run
    status: str
    """finished, stopped or diverged."""
    reason: str


def file_names(run: Run, weights: bool = True) -> list[str]:
    """Return the names of the files that a run's training leaves, the curve last."""
    return [WEIGHTS, *[SNAPSHOTS] * bool(run.snapshots)] * weights + [CURVE]


def write_weights(path: Path, arrays: Arrays, run: Run, step: int) -> None:
    """Write weights as safetensors, whole or not at all; run and step are in the metadata."""
    write_arrays(path, arrays, KEY, {"run": run.to_json(), "step": step})


def read_weights(path: Path, run: Run | None = None) -> tuple[Arrays, Run, int]:
    """Return what `write_weights` wrote: arrays, run, step.

    Raises
    ------
    UserError
        When the file is missing, damaged, not one of weights, or not of `run` where one is given.
    """
    return _read(path, run, lambda name: name)


def write_snapshots(path: Path, snapshots: Mapping[int, Arrays], run: Run, step: int) -> None:
    """Write the weights of several steps in one file, as `write_weights`: each is named step/weight."""
    named = {f"{at}/{name}": value for at, weights in snapshots.items() for name, value in weights.items()}
    write_weights(path, named, run, step)


def read_snapshots(path: Path, run: Run | None = None) -> dict[int, Arrays]:
    """Return step -> weights of what `write_snapshots` wrote, the first step first.

    Raises
    ------
    UserError
        As `read_weights`.
    """
    named, _, _ = _read(path, run, lambda name: name.partition("/")[2])
    found: dict[int, Arrays] = {}
    for name, value in named.items():
        step, _, weight = name.partition("/")
        found.setdefault(int(step), {})[weight] = value
    return dict(sorted(found.items()))


def _read(path: Path, run: Run | None, weight: Callable[[str], str]) -> tuple[Arrays, Run, int]:
    """Return arrays, run and step; `weight` gives the weight's name from an array's."""
    again = f"remove {path.parent} to train the run again"
    with reading(path, "a file of weights of this program", again):
        arrays, header = read_arrays(path, KEY)
        owner, step = Run.from_json(header["run"]), header["step"]
        if {weight(name) for name in arrays} != {name for name, _ in parameters(owner)}:
            raise ValueError(f"its arrays are not the weights of {owner.id}")
    if run is not None and owner != run:
        raise UserError(f"{path}: holds the weights of {owner.id}, not of {run.id}; {again}")
    return arrays, owner, step


def write_curve(path: Path, run: Run, progress: Progress) -> None:
    """Write curve.parquet, whole or not at all: the rows, and run, status and reason in the schema's metadata."""
    columns = {
        name: np.array([row[name] for row in progress.rows], dtype=np.int64 if name in INTEGERS else np.float64)
        for name in progress.rows[0]
    }
    write_table(path, columns, {"run": run.to_json(), "status": progress.status, "reason": progress.reason})


def read_curve(path: str | Path, run_id: str | None = None) -> Curve:
    """Return what `write_curve` wrote.

    Raises
    ------
    UserError
        When the file is missing, damaged, not a curve, or not of the run of this id where one is given.
    """
    again = f"remove {Path(path).parent} to train the run again"
    with reading(path, "a curve", again):
        rows, metadata = read_table(path, COLUMNS)
        if missing := {"run", "status"} - metadata.keys():
            raise ValueError(f"its metadata lack {', '.join(sorted(missing))}")
        run = Run.from_json(metadata["run"])
    if run_id is not None and run.id != run_id:
        raise UserError(f"{path}: holds the run {run.id}, not {run_id}; {again}")
    return Curve(rows, run, metadata["status"], metadata.get("reason", ""))


def read_evaluation(path: str | Path, run: Run) -> pd.DataFrame:
    """Return the rows of evaluation.parquet: step, corpus, position, loss, n.

    Raises
    ------
    UserError
        When the file is missing, damaged, not an evaluation, or of another run.
    """
    again = "remove it to evaluate the run again"
    with reading(path, "an evaluation", again):
        rows, metadata = read_table(path, EVALUATION_COLUMNS)
        owner = Run.from_json(metadata["run"]) if "run" in metadata else run  # of earlier versions: it does not say
    if owner != run:
        raise UserError(f"{path}: holds the run {owner.id}, not {run.id}; {again}")
    return rows


def read_table(path: str | Path, columns: Iterable[str], least: int = 1) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return rows and metadata of a parquet file; raise ValueError where it lacks a column or has too few rows."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    if missing := [name for name in columns if name not in table.column_names]:
        raise ValueError(f"it lacks the column {missing[0]}; it has {', '.join(table.column_names)}")
    if table.num_rows < least:
        raise ValueError("it has no rows")
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return table.to_pandas(), metadata


def write_table(path: Path, columns: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write columns of numbers or text as parquet, whole or not at all.

    The columns are made from their buffers, since pyarrow's other ways import pandas, which takes longer than many a
    run. pyarrow itself is imported here, so that a run that is refused is refused at once.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = []
    for values in columns.values():
        if values.dtype.kind in "if":
            buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
            arrays.append(pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers))
        else:
            texts = [str(value).encode() for value in values]
            ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
            arrays.append(pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(texts))))
    schema = pa.schema([(name, array.type) for name, array in zip(columns, arrays, strict=True)], metadata=metadata)
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), temporary)
