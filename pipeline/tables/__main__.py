"""Make one table: csv and markdown.

python -m pipeline.tables table2 --law L_N_D=FILE --output table2.csv
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pipeline.analysis.inputs import Inputs, add_options, module_of
from pipeline.errors import command

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
    module = module_of(__file__, options.table, "table", SHARED)
    module.make(Inputs.of_options(options)).save(options.output)
    return None


if __name__ == "__main__":
    sys.exit(main())
