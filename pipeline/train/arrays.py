"""Named arrays and a header in one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.files import atomic_path

Arrays = dict[str, np.ndarray]


def write_arrays(path: Path, arrays: Arrays, key: str, header: Mapping[str, Any]) -> None:
    """Write arrays; the header is JSON under the only key of the file's metadata.

    One key, since safetensors writes several in an order that changes from process to process.

    Raises
    ------
    UserError
        When it can't be written.
    """
    with atomic_path(path) as temporary:
        try:
            save_file(arrays, temporary, metadata={key: json.dumps(header)})
        except SafetensorError as error:  # what it makes of the system's error
            raise OSError(str(error)) from error
        temporary.chmod(0o644)  # safetensors makes its files private


def read_arrays(path: Path, key: str) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays and the header that `write_arrays` wrote; for a damaged file, raise what the library does."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        if key not in metadata:
            raise ValueError(f"its metadata lack {key}")
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata[key])  # noqa: SIM118
