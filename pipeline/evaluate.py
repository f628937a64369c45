"""The command `python -m pipeline.evaluate`: see `pipeline.train.evaluate`."""

from pipeline.train.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
