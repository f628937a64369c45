"""Print what an experiment costs before it starts: runs, tokens, FLOP and hours by sweep."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from pipeline.errors import command
from pipeline.plan.cost import Speed
from pipeline.plan.summary import render, sweep_costs, text_size, trunks_line


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Print the cost of an experiment by sweep."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.plan", description=main.__doc__)
    parser.add_argument("--config", required=True, help="the config as JSON")
    parser.add_argument("--cores", type=int, required=True, help="cores that train at once")
    parser.add_argument("--speed", type=Speed.from_json, help="what python -m pipeline.engines.speed says, as JSON")
    options = parser.parse_args(argv)
    config = json.loads(options.config)
    print(render(sweep_costs(config, options.speed), options.cores, options.speed))
    print(trunks_line(config) + text_size(config["data"]))


if __name__ == "__main__":
    raise SystemExit(main())
