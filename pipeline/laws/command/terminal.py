"""Print for a reader that may go away, and JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from ...errors import UserError


def emit(text: str) -> None:
    """Print text; a reader that has gone (`| head`) has read enough, and the command ends as it would have."""
    try:
        print(text, flush=True)
    except OSError as error:
        with open(os.devnull, "w") as nothing:  # or the interpreter would try again at its end
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UserError(f"standard output can't be written ({error.strerror or error})") from error


def show(value: Any) -> None:
    """Print JSON."""
    emit(json.dumps(value, indent=2, allow_nan=False))
