"""Train one run, and evaluate its weights: `python -m pipeline.train`, `python -m pipeline.evaluate`."""
