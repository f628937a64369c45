"""The files that a run leaves: curve.parquet, model.safetensors, snapshots.safetensors.

They hold no clock times and no machine names: a run written twice is the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.files import atomic_path
from pipeline.run import Run

if TYPE_CHECKING:
    from pipeline.checkpoint import Arrays, Progress


def write_weights(path: Path, arrays: Arrays, run: Run, step: int) -> None:
    """Write weights as safetensors, whole or not at all; run and step are in the metadata.

    The metadata have one key only: safetensors writes several in an order that changes from process to process.
    """
    from safetensors.numpy import save_file

    header = json.dumps({"run": run.to_json(), "step": step})
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={"scaling-laws": header})


def read_weights(path: Path) -> tuple[Arrays, Run, int]:
    """Return what `write_weights` wrote: arrays, run, step.

    Raises
    ------
    UserError
        When the file is missing or was not written by `write_weights`.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["scaling-laws"])
            return {name: file.get_tensor(name) for name in file.keys()}, Run.from_json(header["run"]), header["step"]  # noqa: SIM118
    except (SafetensorError, KeyError) as error:
        raise UserError(f"{path}: not a file of weights of this program ({error})") from error


def write_curve(path: Path, run: Run, progress: Progress) -> None:
    """Write curve.parquet, whole or not at all: the rows, and run, status and reason in the schema's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {name: pa.int64() for name in ("step", "n_tokens")}
    columns = list(progress.rows[0])
    schema = pa.schema(
        [(name, types.get(name, pa.float64())) for name in columns],
        metadata={"run": run.to_json(), "status": progress.status, "reason": progress.reason},
    )
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(progress.rows, schema=schema), temporary)
