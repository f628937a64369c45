"""Make one table: csv and markdown.

python -m pipeline.tables table2 --law L_N_D=FILE --output table2.csv
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError, command
from pipeline.figures.inputs import Inputs, add_options

SHARED = ("table",)
"""Modules of this folder that are not tables."""


@command
def main(argv: Sequence[str] | None = None) -> int | None:
    """Read the options, make the table, write."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.tables", description=__doc__.splitlines()[0])
    parser.add_argument("table", help="table1 to table6, or another table of this project")
    add_options(parser)
    parser.add_argument("--output", required=True, metavar="CSV", help="markdown is written beside it")
    options = parser.parse_args(argv)
    known = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem not in SHARED)
    if options.table not in known:
        raise UserError(f"table: {options.table!r} is not one of {', '.join(known)}")
    module = importlib.import_module(f"pipeline.tables.{options.table}")
    module.make(Inputs.of_options(options)).save(options.output)
    return None


if __name__ == "__main__":
    sys.exit(main())
