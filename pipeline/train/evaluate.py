"""Loss of a run's weights on every corpus, by position in the context.

    python -m pipeline.evaluate --run JSON --tokens DIR --weights DIR --tokens-per-corpus N --output evaluation.parquet

One row a (step, corpus, position): the final weights, and each snapshot of a run that keeps some. Corpora are `train`
(a sample of the tokens that the run trained on), `test`, and the held-out ones by their own name. Positions count
from 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.engines import Engine, make_engine
from pipeline.errors import UserError, command
from pipeline.plan.run import Run
from pipeline.tokens.windows import check_token_files, load_tokens, test_windows
from pipeline.train.arrays import Arrays
from pipeline.train.clock import Clock
from pipeline.train.results import EVALUATION_COLUMNS, SNAPSHOTS, WEIGHTS, read_snapshots, read_weights, write_table


def corpora(run: Run, tokens: Path, n_tokens: int) -> dict[str, np.ndarray]:
    """Return fixed windows of each corpus, of shape (M, n_ctx + 1): M n_ctx is `n_tokens`, or all that a corpus has.

    Raises
    ------
    UserError
        When a file is missing, damaged, of other tokens, or shorter than one window.
    """
    check_token_files(tokens, tokens=run.tokens)
    files = {"train": tokens / "train.bin", "test": tokens / "test.bin"}
    files |= {path.stem.removeprefix("transfer-"): path for path in sorted(tokens.glob("transfer-*.bin"))}
    windows = {}
    for name, path in files.items():
        text = load_tokens(path)
        if name == "train":
            text = text[: run.n_unique_tokens]
        if n_tokens >= len(text):
            print(f"{path}: {len(text):,} tokens, fewer than {n_tokens:,}: all of them are scored", file=sys.stderr)
        windows[name] = test_windows(text, run.n_ctx, min(n_tokens, len(text) - 1))
    return windows


def stages(run: Run, folder: Path) -> Iterator[tuple[int, Arrays]]:
    """Yield step and weights of each snapshot, then of the weights that the run ends with.

    Raises
    ------
    UserError
        When a file is missing or belongs to another run.
    """
    weights, _, last = read_weights(folder / WEIGHTS, run)
    if run.snapshots:
        yield from read_snapshots(folder / SNAPSHOTS, run).items()
    yield last, weights


def evaluate(engine: Engine, run: Run, folder: Path, windows: dict[str, np.ndarray]) -> Arrays:
    """Return the columns step, corpus, position, loss (nats per token, a mean over n windows) and n."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in EVALUATION_COLUMNS}
    for step, weights in stages(run, folder):
        engine.set_weights(weights)
        for corpus, texts in windows.items():
            columns["step"].append(np.full(run.n_ctx, step))
            columns["corpus"].append(np.full(run.n_ctx, corpus, dtype=object))
            columns["position"].append(np.arange(1, run.n_ctx + 1))
            columns["loss"].append(engine.evaluate(texts) / len(texts))
            columns["n"].append(np.full(run.n_ctx, len(texts)))
    return {name: np.concatenate(parts) for name, parts in columns.items()}


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate the weights of one run on every corpus, position by position."""
    clock = Clock()
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluate", description=main.__doc__)
    parser.add_argument("--run", required=True, help="JSON of the run")
    parser.add_argument("--tokens", required=True, type=Path, help="folder of token files")
    parser.add_argument("--weights", required=True, type=Path, help="folder of model.safetensors")
    parser.add_argument("--tokens-per-corpus", required=True, type=int, help="tokens that are scored of each corpus")
    parser.add_argument("--output", required=True, type=Path, help="evaluation.parquet")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--engine", default="auto", help="auto, native or torch")
    parser.add_argument("--threads", type=int, default=1, help="threads on a CPU")
    options = parser.parse_args(argv)
    run = Run.from_json(options.run)
    if options.tokens_per_corpus < run.n_ctx:
        raise UserError(f"--tokens-per-corpus: {options.tokens_per_corpus} is below the run's n_ctx {run.n_ctx}")
    windows = corpora(run, options.tokens, options.tokens_per_corpus)
    engine = make_engine(run, options.device, options.threads, options.engine)
    clock.lap("start-up")
    columns = evaluate(engine, run, options.weights, windows)
    clock.lap("evaluation")

    write_table(options.output, columns, {"run": run.to_json()})
    clock.lap("writing")
    print(clock.line(), file=sys.stderr)
