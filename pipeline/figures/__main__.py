"""Draw one figure: svg, png, csv and caption.

python -m pipeline.figures fig01 --sweep sizes=FILE --sweep data=FILE --law L_N=FILE --output fig01.svg
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from pipeline.catalog import FIGURES
from pipeline.errors import UserError, command
from pipeline.figures.inputs import Inputs, add_options


def figure_module(name: str) -> ModuleType:
    """Return the module of a figure, for example fig01.

    Examples
    --------
    >>> figure_module("fig99")
    Traceback (most recent call last):
    ...
    pipeline.errors.UserError: figure: 'fig99' is not one of fig01, ...
    """
    if name not in FIGURES:
        raise UserError(f"figure: {name!r} is not one of {', '.join(FIGURES)}")
    return importlib.import_module(f"pipeline.figures.{name}")


@command
def main(argv: Sequence[str] | None = None) -> int | None:
    """Read the options, draw, write."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.figures", description=__doc__.splitlines()[0])
    parser.add_argument("figure", help="fig01 to fig24, or validation")
    add_options(parser)
    parser.add_argument("--output", required=True, metavar="SVG", help="png, csv, md and json are written beside it")
    options = parser.parse_args(argv)
    module = figure_module(options.figure)
    module.draw(Inputs.of_options(options)).save(options.output)
    return None


if __name__ == "__main__":
    sys.exit(main())
