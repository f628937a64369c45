"""The laws from the command line (fit, predict, allocate, compare, gain): see docs/laws.md."""

from .command.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
