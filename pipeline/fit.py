"""The command `python -m pipeline.fit`: see `pipeline.analysis.fit`."""

from pipeline.analysis.fit import main

if __name__ == "__main__":
    raise SystemExit(main())
