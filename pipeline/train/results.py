"""The files that a run leaves in its folder: the curve, the last weights, the snapshots, the evaluation.

All writing and reading of them is here. They hold no clock times and no machine names: a run written twice is the same
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.errors import UserError
from pipeline.files import atomic_path
from pipeline.plan.run import Run
from pipeline.train.checkpoint import Arrays, Progress

if TYPE_CHECKING:
    import pandas as pd

CURVE, WEIGHTS, SNAPSHOTS = "curve.parquet", "model.safetensors", "snapshots.safetensors"
EVALUATION = "evaluation.parquet"
INTEGERS = ("step", "n_tokens")
"""Columns of a curve that are whole numbers."""


class Curve(NamedTuple):
    """What curve.parquet holds."""

    rows: pd.DataFrame
    """step, n_tokens, lr, lr_sum, train_loss, loss, noise_scale, gradient_norm: one row an evaluation."""
    run: Run
    status: str
    """finished, stopped or diverged."""
    reason: str


def file_names(run: Run, weights: bool = True) -> list[str]:
    """Return the names of the files that a run's training leaves, the curve last."""
    return [WEIGHTS, *[SNAPSHOTS] * bool(run.snapshots)] * weights + [CURVE]


def write_weights(path: Path, arrays: Arrays, run: Run, step: int) -> None:
    """Write weights as safetensors, whole or not at all; run and step are in the metadata.

    The metadata have one key only: safetensors writes several in an order that changes from process to process.
    """
    header = json.dumps({"run": run.to_json(), "step": step})
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={"scaling-laws": header})
        temporary.chmod(0o644)  # safetensors makes its files private


def read_weights(path: Path) -> tuple[Arrays, Run, int]:
    """Return what `write_weights` wrote: arrays, run, step.

    Raises
    ------
    UserError
        When the file is missing or was not written by `write_weights`.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["scaling-laws"])
            return {name: file.get_tensor(name) for name in file.keys()}, Run.from_json(header["run"]), header["step"]  # noqa: SIM118
    except (SafetensorError, KeyError) as error:
        raise UserError(f"{path}: not a file of weights of this program ({error})") from error


def write_snapshots(path: Path, snapshots: Mapping[int, Arrays], run: Run, step: int) -> None:
    """Write the weights of several steps in one file, as `write_weights`: each is named step/weight."""
    named = {f"{at}/{name}": value for at, weights in snapshots.items() for name, value in weights.items()}
    write_weights(path, named, run, step)


def read_snapshots(path: Path) -> dict[int, Arrays]:
    """Return step -> weights of what `write_snapshots` wrote, the first step first."""
    named, _, _ = read_weights(path)
    steps = sorted({int(name.partition("/")[0]) for name in named})
    return {
        step: {name.removeprefix(f"{step}/"): named[name] for name in named if name.startswith(f"{step}/")}
        for step in steps
    }


def write_curve(path: Path, run: Run, progress: Progress) -> None:
    """Write curve.parquet, whole or not at all: the rows, and run, status and reason in the schema's metadata."""
    columns = {
        name: np.array([row[name] for row in progress.rows], dtype=np.int64 if name in INTEGERS else np.float64)
        for name in progress.rows[0]
    }
    write_table(path, columns, {"run": run.to_json(), "status": progress.status, "reason": progress.reason})


def read_curve(path: str | Path) -> Curve:
    """Return what `write_curve` wrote.

    Raises
    ------
    UserError
        When the file is not a curve.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    if b"run" not in metadata or b"status" not in metadata:
        raise UserError(f"{path}: not a curve: its metadata lack run and status")
    run, status, reason = (metadata.get(key, b"").decode() for key in (b"run", b"status", b"reason"))
    return Curve(table.to_pandas(), Run.from_json(run), status, reason)


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
