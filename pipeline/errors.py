"""Errors that a user can mend: one line that names what is wrong and what is allowed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps


class UserError(Exception):
    """Something the user can change: a config key, a file, a column, a run.

    The message is one line. It names the key, file, column or run, and what is allowed.
    `exit_code` becomes the exit code of the command.

    Examples
    --------
    >>> raise UserError("n_head: 3 does not divide d_model 64")
    Traceback (most recent call last):
    ...
    pipeline.errors.UserError: n_head: 3 does not divide d_model 64
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(" ".join(str(message).split()))
        self.exit_code = exit_code


def command(main: Callable[[Sequence[str] | None], int | None]) -> Callable[[Sequence[str] | None], int]:
    """Turn a `UserError` raised by a command's `main` into one line on stderr and its exit code."""

    @wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv) or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code

    return wrapped
