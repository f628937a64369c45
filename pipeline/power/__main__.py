"""Simulate experiments of a design in one world, and count the verdicts that the paper's claims get there.

    python -m pipeline.power paper --design JSON --experiments 40 --seed 0 --output paper.json

Nothing is trained: runs have the losses of a world with a known truth (`pipeline.power.cases`), and the fits and claims
are those of the workflow.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Sequence

from pipeline.errors import UserError, command
from pipeline.files import write_json
from pipeline.power.cases import CASES
from pipeline.power.design import SECTIONS, Design
from pipeline.power.simulate import DRAWS, outcomes


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Simulate the experiments of one case and write what became of the claims."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.power", description=__doc__.splitlines()[0])
    parser.add_argument("case", help="name in pipeline/power/cases.py")
    parser.add_argument("--design", required=True, help=f"JSON of the config's sections {', '.join(SECTIONS)}")
    parser.add_argument("--preset", default="", help="name of the experiment")
    parser.add_argument("--experiments", required=True, type=int, help="experiments to simulate")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first experiment")
    parser.add_argument("--draws", type=int, default=DRAWS, help="bootstrap draws of an interval")
    parser.add_argument("--output", required=True, help="JSON file to write")
    options = parser.parse_args(argv)
    if options.case not in CASES:
        raise UserError(f"case: {options.case!r} is not one of {', '.join(CASES)}")
    if options.experiments < 1:
        raise UserError(f"--experiments: {options.experiments} is below 1")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.simplefilter("ignore", RuntimeWarning)  # of fits to noise: what they say is in the law's reason
    design = Design.of(json.loads(options.design))
    found = outcomes(CASES[options.case], design, options.experiments, options.seed, options.draws)
    write_json(options.output, {"preset": options.preset} | found)


if __name__ == "__main__":
    sys.exit(main())
