"""The command `python -m pipeline.gather`: see `pipeline.analysis.gather`."""

from pipeline.analysis.gather import main

if __name__ == "__main__":
    raise SystemExit(main())
