"""Files of an experiment that are damaged, or are another's: one line that names the file and says what to do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import planted
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.analysis import tables
from pipeline.analysis.fit import main as fit
from pipeline.analysis.gather import main as gather
from pipeline.corpora import read_documents, read_meta
from pipeline.corpora.__main__ import build_corpus
from pipeline.engines.native import available
from pipeline.errors import UserError
from pipeline.figures.__main__ import main as figure
from pipeline.files import read_json, write_json
from pipeline.plan.run import Run
from pipeline.plan.trunk import Part
from pipeline.report import costs, page
from pipeline.tables.__main__ import main as table
from pipeline.tokens.files import tokenize
from pipeline.tokens.tokenizer import train_tokenizer, training_texts
from pipeline.tokens.windows import check_token_files
from pipeline.train import __main__ as training
from pipeline.train.evaluate import main as evaluate

AGAIN = "remove it, and start the workflow again"


def halved(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def scribbled(path: Path) -> None:
    """Overwrite the middle, where a disk went bad."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = b"\xff" * (len(content) // 2 - len(content) // 3)
    path.write_bytes(bytes(content))


def another_table(path: Path) -> None:
    pq.write_table(pa.table({"step": [1], "accuracy": [0.5]}), path)


DAMAGES = [halved, emptied]


def line_of(capsys: pytest.CaptureFixture, command: Callable[[list[str]], int], arguments: list[object]) -> str:
    """Run a command that is to fail, and return the line it ends with."""
    capsys.readouterr()
    assert command([str(argument) for argument in arguments]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert "Traceback" not in last
    return last.removeprefix("error: ")


# Runs


@pytest.fixture
def runs(tiny_run, tiny_tokens, train, tmp_path) -> tuple[Path, Run, Run]:
    """The folder of two runs with their evaluations, and the runs."""
    both = tiny_run(snapshots=3), tiny_run(snapshots=3, seed=1)
    for run in both:
        folder = train(run, folder=run.id)
        arguments = ["--run", run.to_json(), "--tokens", str(tiny_tokens), "--weights", str(folder), "--device", "cpu"]
        arguments += ["--tokens-per-corpus", "256", "--output", str(folder / "evaluation.parquet")]
        assert evaluate(arguments) == 0
    return tmp_path, *both


def gathering(runs: Path, run: Run, tokens: Path, *options: str) -> list[object]:
    start = ["sizes", "--members", json.dumps({run.id: ["", True]}), "--runs", runs, "--tokens", tokens / "meta.json"]
    return [*start, "--preset", "test", "--output", runs / "sizes.parquet", *options]


def with_train_tokens(tokens: Path, folder: Path) -> Path:
    """Return a copy of token files whose meta.json says what gathering asks for."""
    copied = folder / "meta" / tokens.name
    copied.mkdir(parents=True)
    write_json(copied / "meta.json", read_json(tokens / "meta.json") | {"entropy_rate": None})
    return copied


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (halved, "not a curve ("),
        (emptied, "not a curve ("),
        (scribbled, ""),
        (another_table, "not a curve (it lacks the column n_tokens; it has step, accuracy)"),
        (os.unlink, "no such file"),
    ],
    ids=["halved", "emptied", "scribbled", "another table", "gone"],
)
def test_a_damaged_curve_is_named(damage, said: str, runs, tiny_tokens, capsys) -> None:
    root, run, _ = runs
    curve = root / run.id / "curve.parquet"
    damage(curve)
    said_now = line_of(capsys, gather, gathering(root, run, with_train_tokens(tiny_tokens, root)))
    assert said_now.startswith(f"{curve}: {said}")
    assert damage is os.unlink or said_now.endswith(f"; remove {root / run.id} to train the run again")
    assert not (root / "sizes.parquet").exists()


def test_a_curve_without_a_run_is_named(runs, tiny_tokens, capsys) -> None:
    root, run, _ = runs
    curve = root / run.id / "curve.parquet"
    rows = pq.read_table(curve)
    arguments = gathering(root, run, with_train_tokens(tiny_tokens, root))
    for metadata, said in (
        ({}, "not a curve (its metadata lack run, status)"),
        ({"run": "{", "status": "finished"}, "not a curve (run: not the JSON of a run ("),
    ):
        pq.write_table(rows.replace_schema_metadata(metadata), curve)
        assert line_of(capsys, gather, arguments).startswith(f"{curve}: {said}")


def test_the_files_of_another_run_are_refused(runs, tiny_tokens, capsys) -> None:
    root, run, other = runs
    tokens = with_train_tokens(tiny_tokens, root)
    for name, options in (("curve.parquet", []), ("evaluation.parquet", ["--evaluations"])):
        kept = (root / run.id / name).read_bytes()
        shutil.copy(root / other.id / name, root / run.id / name)
        said = line_of(capsys, gather, gathering(root, run, tokens, *options))
        assert said.startswith(f"{root / run.id / name}: holds the run {other.id}, not {run.id}; remove ")
        (root / run.id / name).write_bytes(kept)
        assert gather([str(argument) for argument in gathering(root, run, tokens, *options)]) == 0


@pytest.mark.parametrize("damage", [halved, emptied, another_table])
def test_a_damaged_evaluation_is_named(damage, runs, tiny_tokens, capsys) -> None:
    root, run, _ = runs
    path = root / run.id / "evaluation.parquet"
    damage(path)
    said = line_of(capsys, gather, gathering(root, run, with_train_tokens(tiny_tokens, root), "--evaluations"))
    assert said.startswith(f"{path}: not an evaluation (")
    assert said.endswith("); remove it to evaluate the run again")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["model", "snapshots"])
def test_damaged_weights_are_named(name: str, damage, runs, tiny_tokens, capsys) -> None:
    root, run, other = runs
    path = root / run.id / f"{name}.safetensors"
    arguments = ["--run", run.to_json(), "--tokens", tiny_tokens, "--weights", root / run.id, "--device", "cpu"]
    arguments += ["--tokens-per-corpus", "256", "--output", root / "again.parquet"]
    damage(path)
    said = line_of(capsys, evaluate, arguments)
    assert said.startswith(f"{path}: not a file of weights of this program (")
    assert said.endswith(f"); remove {root / run.id} to train the run again")
    shutil.copy(root / other.id / path.name, path)
    said = line_of(capsys, evaluate, arguments)
    assert (
        said
        == f"{path}: holds the weights of {other.id}, not of {run.id}; remove {root / run.id} to train the run again"
    )
    assert not (root / "again.parquet").exists()


def test_snapshots_do_not_pass_for_weights(runs, tiny_tokens, capsys) -> None:
    root, run, _ = runs
    folder = root / run.id
    arguments = ["--run", run.to_json(), "--tokens", tiny_tokens, "--weights", folder, "--device", "cpu"]
    arguments += ["--tokens-per-corpus", "256", "--output", root / "again.parquet"]
    weights, snapshots = (folder / f"{name}.safetensors" for name in ("model", "snapshots"))
    kept = weights.read_bytes()
    for source, target in ((snapshots, weights), (weights, snapshots)):
        shutil.copy(source, target)
        said = line_of(capsys, evaluate, arguments)
        assert said.startswith(
            f"{target}: not a file of weights of this program (its arrays are not the weights of {run.id})"
        )
        weights.write_bytes(kept)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_snapshot_that_was_cut_is_named_when_the_run_goes_on(
    damage, tiny_run, train, tmp_path: Path, monkeypatch, capsys
) -> None:
    run = tiny_run(snapshots=3)

    class Interrupted(training.Trainer):
        def account(self, *arguments: object) -> None:
            super().account(*arguments)
            self.interrupted = self.progress.step == 31

    with monkeypatch.context() as patched:
        patched.setattr(training, "Trainer", Interrupted)
        train(run, code=training.EXIT_PREEMPTED)
    snapshot = tmp_path / "scratch/run/snapshot-4.safetensors"
    damage(snapshot)
    capsys.readouterr()
    folder = train(run, code=2)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {snapshot}: not a file of weights of this program (")
    assert said.endswith(f"); remove {snapshot.parent} to train the run again")
    assert not (folder / "curve.parquet").exists()


# Tokens


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ('{"vocabulary": 64, "tra', "Unterminated string starting at: line 1 column 20 (char 19)"),
        ("[]", "list indices must be integers or slices, not str"),
        ('{"train": {}}', "'vocabulary' is missing"),
        ('{"vocabulary": "64"}', "its vocabulary is '64'"),
        ('{"vocabulary": 64, "train": {"file": "train.bin"}}', "'tokens' is missing"),
        ('{"vocabulary": 64, "train": {"file": "train.bin", "tokens": null}}', "an entry is {"),
        ('{"vocabulary": 64, "transfer": [1]}', "'list' object has no attribute 'values'"),
    ],
)
def test_a_damaged_meta_of_tokens_is_named(content: str, said: str, tiny_run, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "tiny-0000000000"
    folder.mkdir()
    (folder / "meta.json").write_text(content)
    arguments = ["--run", tiny_run().to_json(), "--tokens", folder, "--output", tmp_path / "run/curve.parquet"]
    line = line_of(capsys, training.main, [*arguments, "--scratch", tmp_path / "scratch"])
    assert line.startswith(f"{folder}/meta.json: not the JSON of token files ({said}")
    assert line.endswith(f"); remove it to make {folder} again")


def test_token_files_of_another_id_are_refused(tiny_tokens, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_tokens, tmp_path / "tiny-0000000000")
    write_json(folder / "meta.json", read_json(folder / "meta.json") | {"id": "other-1111111111"})
    with pytest.raises(UserError, match=r"meta\.json: is of other-1111111111, not of tiny-0000000000; remove "):
        check_token_files(folder, tokens="tiny-0000000000")
    assert check_token_files(folder)["id"] == "other-1111111111"


@pytest.mark.parametrize(
    "engine",
    [pytest.param("native", marks=pytest.mark.skipif(not available(), reason="no C++ compiler")), "torch"],
)
@pytest.mark.parametrize("name", ["train", "test"])
def test_a_token_beyond_the_vocabulary_is_one_line(
    name: str, engine: str, tiny_run, tiny_tokens, tmp_path: Path, capsys
) -> None:
    folder = shutil.copytree(tiny_tokens, tmp_path / tiny_tokens.name)
    np.full((folder / f"{name}.bin").stat().st_size // 2, 64, dtype="<u2").tofile(folder / f"{name}.bin")
    arguments = ["--run", tiny_run().to_json(), "--tokens", folder, "--output", tmp_path / "run/curve.parquet"]
    arguments += ["--scratch", tmp_path / "scratch", "--device", "cpu", "--engine", engine]
    said = "tokens: 64 is not below n_vocab 64: the files of tiny-0000000000 are damaged; remove them"
    assert line_of(capsys, training.main, arguments) == said


# Corpora and tokenizers

SPEC = {"tokenizer": "bpe", "vocabulary": 270, "seed": 0, "test_fraction": 0.1, "tokenizer_bytes": 1e6}
SPEC |= {"transfer_tokens": 1000}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [json.dumps({"text": f"Letter {n}: dear reader, yours {n * n}."}) for n in range(300)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    source = {"kind": "files", "path": str(tmp_path / "a.jsonl"), "field": "text", "licence": "x", "origin": "x"}
    build_corpus("mine", {"sources": [source]}, tmp_path, tmp_path / "corpus/meta.json", part_bytes=4000)
    return tmp_path / "corpus"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_meta_of_a_corpus_is_named(damage, corpus: Path) -> None:
    damage(corpus / "meta.json")
    with pytest.raises(UserError, match=rf"corpus/meta\.json: not the JSON of a corpus \(.*\); remove {corpus} to"):
        read_meta(corpus)
    write_json(corpus / "meta.json", {"name": "mine", "parts": []})
    with pytest.raises(UserError, match=r"not the JSON of a corpus \('documents' is missing\)"):
        read_meta(corpus)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_documents_are_named(damage, corpus: Path) -> None:
    damage(corpus / "documents-00001.parquet")
    with pytest.raises(UserError, match=r"documents-00001\.parquet: not a parquet file of documents \(.*\); remove "):
        list(read_documents(corpus))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_of_a_corpus_is_named(damage, corpus: Path, tmp_path: Path) -> None:
    meta = read_meta(corpus)
    source = {key: meta["sources"][0][key] for key in ("kind", "path", "field", "licence", "origin")}
    spec = {"sources": [source]}
    progress = {"spec": spec, "content": meta["content"], "source": 0, "state": None, "sources": [], "parts": []}
    write_json(corpus / "progress.json", progress)
    damage(corpus / "progress.json")
    with pytest.raises(
        UserError, match=rf"progress\.json: not the state of a corpus in the making \(.*\); remove {corpus}"
    ):
        build_corpus("mine", spec, tmp_path, corpus / "meta.json")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_tokenizer_or_part_is_named(damage, corpus: Path, tmp_path: Path, monkeypatch) -> None:
    tokenizer, scratch = tmp_path / "tokens/tokenizer.json", tmp_path / "scratch"
    arguments = tokenizer, {"mine": corpus}, {}, SPEC, tmp_path / "tokens/meta.json", scratch
    tokenizer.parent.mkdir()
    train_tokenizer(training_texts([corpus], SPEC), 270).save(str(tokenizer))
    kept = tokenizer.read_bytes()
    damage(tokenizer)
    with pytest.raises(UserError, match=rf"tokenizer\.json: not a tokenizer \(.*\); remove {tokenizer.parent} to make"):
        tokenize(*arguments)
    tokenizer.write_bytes(kept)
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.tokens.files._merge", lambda *_: exec("raise KeyboardInterrupt"))
        with pytest.raises(KeyboardInterrupt):
            tokenize(*arguments)
    for name, said in (
        ("documents-00001.bin", r"documents-00001\.bin: not the \d+ tokens of its index; remove "),
        (
            "documents-00000.npz",
            r"documents-00000\.npz: not the index of a tokenized file of documents \(.*\); remove ",
        ),
    ):
        damage(next(scratch.rglob(name)))
        with pytest.raises(UserError, match=said):
            tokenize(*arguments)


# Sweeps, laws, points


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    """A folder with sizes.parquet, data.parquet, short.parquet (evaluations), L_N.json, L_N_D.json and their points."""
    root = tmp_path_factory.mktemp("experiment")
    for name in ("sizes", "data"):
        tables.write(root / f"{name}.parquet", planted.sweep(name, few=True), "sweep", name, "test")
    tables.write(root / "laptop.parquet", planted.sweep("sizes", few=True), "sweep", "sizes", "laptop")
    tables.write(root / "short.parquet", planted.evaluations("short", few=True), "evaluation", "short", "test")
    for law in ("L_N", "L_N_D"):
        planted.fits()[law].to_json(root / f"{law}.json")
        tables.write(root / f"points-{law}.parquet", planted.points(law, few=True), "points", law, "test")
    return root


@pytest.fixture
def files(experiment: Path, tmp_path: Path) -> Path:
    """A copy of `experiment`."""
    return shutil.copytree(experiment, tmp_path / "experiment")


def fitting(files: Path) -> list[object]:
    start = ["L_N", "--sweep", f"sizes={files}/sizes.parquet", "--preset", "test", "--bootstrap", "0"]
    return [*start, "--output", files / "out/L_N.json", "--output-points", files / "out/L_N.parquet"]


def drawing(files: Path) -> list[object]:
    start = ["fig23", "--sweep", f"sizes={files}/sizes.parquet", "--law", f"L_N={files}/L_N.json"]
    start += ["--law", f"log_N={files}/L_N.json", "--points", f"L_N={files}/points-L_N.parquet"]
    return [*start, "--preset", "test", "--output", files / "out/fig23.svg"]


@pytest.mark.parametrize("damage", [halved, emptied, another_table])
def test_a_damaged_sweep_is_named(damage, files: Path, capsys) -> None:
    path = files / "sizes.parquet"
    damage(path)
    said = line_of(capsys, fit, fitting(files))
    assert said.startswith(f"{path}: not the table sweep sizes (") and said.endswith(f"); {AGAIN}")
    assert not (files / "out").exists()


@pytest.mark.parametrize(
    ("other", "holds"),
    [
        ("data", "sweep data of preset test"),
        ("laptop", "sweep sizes of preset laptop"),
        ("points-L_N", None),
    ],
)
def test_another_sweep_is_refused(other: str, holds: str | None, files: Path, capsys) -> None:
    path = files / "sizes.parquet"
    shutil.copy(files / f"{other}.parquet", path)
    said = line_of(capsys, fit, fitting(files))
    holds = holds or "points L_N of preset test"
    assert said == f"{path}: holds {holds}, not sweep sizes of preset test; {AGAIN}"


def test_what_was_written_is_read(files: Path) -> None:
    assert fit([str(argument) for argument in fitting(files)]) == 0
    assert read_json(files / "out/L_N.json")["law"] == "L_N"
    assert tables.read(files / "out/L_N.parquet", "points", "L_N", "test")["residual"].notna().all()
    assert tables.read(files / "laptop.parquet", "sweep", "sizes").equals(planted.sweep("sizes", few=True))
    planted.sweep("sizes", few=True).to_parquet(files / "plain.parquet")  # it does not say what it is
    assert len(tables.read(files / "plain.parquet", "sweep", "sizes", "test")) == len(planted.sweep("sizes", few=True))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_evaluations_points_and_laws_are_named(damage, files: Path, capsys) -> None:
    damage(files / "short.parquet")
    with pytest.raises(UserError, match=rf"short\.parquet: not the table evaluation short \(.*\); {AGAIN}"):
        tables.read(files / "short.parquet", "evaluation", "short", "test")
    for name, said in (
        ("points-L_N.parquet", "not the table points L_N ("),
        ("L_N.json", "not the JSON of a fitted law ("),
    ):
        kept = (files / name).read_bytes()
        damage(files / name)
        arguments = [argument for argument in drawing(files) if "log_N" not in str(argument)]
        arguments.pop(arguments.index("--law") + 2)
        line = line_of(capsys, figure, arguments)
        assert line.startswith(f"{files / name}: {said}") and line.endswith(f"; {AGAIN}"), line
        (files / name).write_bytes(kept)


@pytest.mark.parametrize(
    "content", ["[]", "7", "{}", '{"law": "L_N", "parameters": []}', '{"law": "L_N", "parameters": {"alpha_N": 1}}']
)
def test_a_law_of_a_wrong_structure_is_named(content: str, files: Path, capsys) -> None:
    (files / "L_N.json").write_text(content)
    line = line_of(capsys, table, ["table5", "--law", f"L_N={files}/L_N.json", "--output", files / "out/table5.csv"])
    assert line.startswith(f"{files}/L_N.json: not the JSON of a fitted law (") and line.endswith(f"); {AGAIN}")
    assert not (files / "out").exists()


def test_another_law_and_its_points_are_refused(files: Path, capsys) -> None:
    assert line_of(capsys, figure, drawing(files)) == f"{files}/L_N.json: holds the law L_N, not log_N; {AGAIN}"
    shutil.copy(files / "points-L_N_D.parquet", files / "points-L_N.parquet")
    with pytest.raises(UserError, match=r"points-L_N\.parquet: holds points L_N_D of preset test, not points L_N of "):
        tables.read(files / "points-L_N.parquet", "points", "L_N", "test")


# Figures, tables and records that the report reads


def test_damaged_figures_and_tables_are_named(tmp_path: Path) -> None:
    from pipeline.figures import fig06

    fig06.draw(planted.inputs(("depths", "sizes"), laws=())).save(tmp_path / "fig06.svg")
    page.read_figure(tmp_path, "fig06")
    for name, said in (("fig06.json", "not the caption of a figure"), ("fig06.png", "not the png of a figure")):
        for damage in DAMAGES:
            kept = (tmp_path / name).read_bytes()
            damage(tmp_path / name)
            with pytest.raises(UserError, match=rf"{name}: {said} \(.*\); {AGAIN}"):
                page.read_figure(tmp_path, "fig06")
            (tmp_path / name).write_bytes(kept)
    (tmp_path / "table2.md").write_text("")
    with pytest.raises(UserError, match=rf"table2\.md: not a table \(.*\); {AGAIN}"):
        page.read_grid(tmp_path / "table2.md")
    for content in ("", "claim,verdict\n1,holds\n"):
        (tmp_path / "claims.csv").write_text(content)
        with pytest.raises(UserError, match=rf"claims\.csv: not the table claims \(.*\); {AGAIN}"):
            page.read_claims(tmp_path / "claims.csv")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train/{}.jsonl", '{"s": 9', r"not a record of Snakemake's \(.*\); remove it"),
        ("timing/{}.json", "", r"not a record of the trainer's \(.*\); remove it"),
        ("timing/{}.json", "{}", r"not a record of the trainer's \('tokens_per_second' is missing\); remove it"),
    ],
)
def test_damaged_records_are_named(name: str, content: str, said: str, tiny_run, tmp_path: Path) -> None:
    path = tmp_path / name.format(tiny_run().id)
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(UserError, match=rf"{path.name}: {said}"):
        costs.record(Part(tiny_run()), tmp_path)
