"""Fit, predict, allocate and compare scaling laws from the command line: see docs/laws.md."""

from pipeline.laws.command.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
