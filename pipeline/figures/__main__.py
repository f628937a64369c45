"""Draw one figure: svg, png, csv and caption.

python -m pipeline.figures fig01 --sweep sizes=FILE --sweep data=FILE --law L_N=FILE --output fig01.svg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pipeline.analysis.inputs import Inputs, add_options, module_of
from pipeline.errors import command

SHARED = ("drawing", "laws", "series")
"""Modules of this folder that are not figures."""


@command
def main(argv: Sequence[str] | None = None) -> int | None:
    """Read the options, draw, write."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.figures", description=__doc__.splitlines()[0])
    parser.add_argument("figure", help="fig01 to fig24, or another figure of this project")
    add_options(parser)
    parser.add_argument("--output", required=True, metavar="SVG", help="png, csv, md and json are written beside it")
    options = parser.parse_args(argv)
    module = module_of(__file__, options.figure, "figure", SHARED)
    module.draw(Inputs.of_options(options)).save(options.output)
    return None


if __name__ == "__main__":
    sys.exit(main())
