"""The loss by corpus and position, against the curve and against the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.engines import make_engine
from pipeline.plan.run import Run
from pipeline.plan.steps import snapshot_steps
from pipeline.train.evaluate import corpora, main
from pipeline.train.results import read_weights


@pytest.fixture
def evaluate(tiny_tokens: Path) -> Callable[..., pd.DataFrame]:
    def run_it(run: Run, folder: Path, n_tokens: int, *options: str) -> pd.DataFrame:
        output = folder / "evaluation.parquet"
        arguments = ["--run", run.to_json(), "--tokens", str(tiny_tokens), "--weights", str(folder), "--device", "cpu"]
        arguments += ["--tokens-per-corpus", str(n_tokens), "--output", str(output), *options]
        assert main(arguments) == 0
        return pd.read_parquet(output)

    return run_it


def test_test_loss_is_the_curve_s(tiny_run, train, evaluate) -> None:
    """The same windows as the curve's, so the same number, at the end and at every snapshot that has a row."""
    run = tiny_run(snapshots=3, evaluations=4)
    folder = train(run)
    curve = pd.read_parquet(folder / "curve.parquet").set_index("step")["loss"]
    table = evaluate(run, folder, run.test_tokens)
    means = table[table["corpus"] == "test"].groupby("step")["loss"].mean()
    assert list(means.index) == [*snapshot_steps(run), 60]
    assert means.to_numpy() == pytest.approx(curve[means.index].to_numpy(), rel=1e-12)


def test_rows_are_steps_by_corpora_by_positions(tiny_run, train, evaluate) -> None:
    run = tiny_run(snapshots=2)
    table = evaluate(run, train(run), 1024)
    assert list(table.columns) == ["step", "corpus", "position", "loss", "n"]
    assert len(table) == 3 * 3 * run.n_ctx
    assert set(table["corpus"]) == {"train", "test", "other"}
    assert sorted(set(table["position"])) == list(range(1, run.n_ctx + 1))
    assert set(table["n"]) == {1024 // run.n_ctx}
    assert table["loss"].notna().all()
    assert not table.duplicated(["step", "corpus", "position"]).any()
    # Markov text: the first position has nothing to go by but the position before it, as has every other one.
    last = table[(table["step"] == 60) & (table["corpus"] == "test")]
    assert last["loss"].between(0.5, 4.5).all()


def test_positions_are_those_of_the_model(tiny_run, train, evaluate, tiny_tokens) -> None:
    run = tiny_run()
    folder = train(run)
    table = evaluate(run, folder, 512)
    engine = make_engine(run, "cpu", engine="torch")
    engine.set_weights(read_weights(folder / "model.safetensors")[0])
    windows = corpora(run, tiny_tokens, 512)["other"]
    expected = engine.evaluate(windows) / len(windows)
    found = table[table["corpus"] == "other"].sort_values("position")["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_early_stopped_weights_have_the_curve_s_lowest_loss(tiny_run, train, evaluate) -> None:
    run = tiny_run(n_steps=2000, n_unique_tokens=600, evaluate_every=10, patience=3, d_model=32, snapshots=2)
    folder = train(run)
    curve = pd.read_parquet(folder / "curve.parquet")
    table = evaluate(run, folder, run.test_tokens)
    final = table[table["step"] == table["step"].max()]
    assert final["step"].iloc[0] == curve["step"][curve["loss"].idxmin()]
    assert final[final["corpus"] == "test"]["loss"].mean() == pytest.approx(curve["loss"].min(), rel=1e-12)
    assert final[final["corpus"] == "train"]["loss"].mean() < curve["loss"].min() - 0.1


def test_train_sample_is_of_the_tokens_trained_on(tiny_run, tiny_tokens) -> None:
    used = np.fromfile(tiny_tokens / "train.bin", "<u2")[:400]
    windows = corpora(tiny_run(n_unique_tokens=400), tiny_tokens, 100_000)["train"]
    assert windows.shape == (399 // 16, 17)
    text = used.tobytes()
    assert all(window.tobytes() in text for window in windows)


def test_a_small_corpus_is_evaluated_whole(tiny_run, train, evaluate) -> None:
    run = tiny_run()
    table = evaluate(run, train(run), 5_000)
    assert table.groupby("corpus")["n"].first().to_dict() == {"train": 312, "test": 312, "other": 2999 // 16}


def test_lstm_is_evaluated(tiny_run, train, evaluate) -> None:
    run = tiny_run(family="lstm")
    assert evaluate(run, train(run), 512)["loss"].notna().all()


def test_weights_of_another_run_and_missing_ones_are_refused(tiny_run, train, tiny_tokens, tmp_path, capsys) -> None:
    folder = train(tiny_run())
    capsys.readouterr()

    def error(run: Run, weights: Path, n_tokens: int = 512) -> str:
        arguments = ["--run", run.to_json(), "--tokens", str(tiny_tokens), "--weights", str(weights)]
        arguments += ["--tokens-per-corpus", str(n_tokens), "--output", str(tmp_path / "x.parquet"), "--device", "cpu"]
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "holds the weights of transformer-1x16-b4-s60-" in error(tiny_run(seed=1), folder)
    assert error(tiny_run(), tmp_path / "none").endswith("model.safetensors: no such file")
    assert "--tokens-per-corpus: 8 is below the run's n_ctx 16" in error(tiny_run(), folder, 8)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.safetensors").write_bytes(b"not weights")
    assert "not a file of weights" in error(tiny_run(), tmp_path / "bad")
    assert not (tmp_path / "x.parquet").exists()
