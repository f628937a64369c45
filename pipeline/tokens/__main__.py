"""Turn corpora into flat files of uint16 tokens: see `pipeline.tokens.files`."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import command
from pipeline.tokens.files import tokenize

log = logging.getLogger("pipeline.tokens")


@command
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.tokens", description="Turn corpora into flat files of uint16 tokens."
    )
    parser.add_argument("--tokenizer", required=True, type=Path, help="tokenizer.json")
    parser.add_argument("--train", required=True, nargs="+", metavar="NAME=DIR", help="training corpora")
    parser.add_argument("--transfer", default=[], nargs="*", metavar="NAME=DIR", help="corpora only tested on")
    parser.add_argument("--spec", required=True, type=json.loads, help="the data part of the config, as JSON")
    parser.add_argument("--scratch", required=True, type=Path, help="folder for parts, removed at the end")
    parser.add_argument("--output", required=True, type=Path, help="meta.json, in the token set's own folder")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)  # ours alone: libraries tell of every request
    train, transfer = _named_folders(arguments.train), _named_folders(arguments.transfer)
    meta = tokenize(arguments.tokenizer, train, transfer, arguments.spec, arguments.output, arguments.scratch)
    log.info("train: %(tokens)d tokens, %(bytes_per_token).2f bytes a token", meta["train"])


def _named_folders(arguments: Sequence[str]) -> dict[str, Path]:
    return {name: Path(folder) for name, _, folder in (argument.partition("=") for argument in arguments)}


if __name__ == "__main__":
    raise SystemExit(main())
