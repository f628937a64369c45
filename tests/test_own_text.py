"""The user's own text in the config: which files it is, ids that follow its content, what is refused before any job."""

from __future__ import annotations

import ast
import json
import os
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline.corpora import local, read_documents, read_meta
from pipeline.corpora.__main__ import build_corpus, main
from pipeline.corpora.local import Hashes, contents, paths_of
from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.plan.config import check_config
from pipeline.plan.experiment import Experiment

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "rules/config.schema.yaml"
FACTS = {"licence": "mine", "origin": "mine"}
OWN = {"name": "mine", "train": ["mine"], "transfer": [], "min_train_tokens": 4e6, "min_test_tokens": 50_000}


def laid_over(config: dict, over: dict) -> dict:
    """Return a config with another laid over it, as Snakemake does."""
    both = {key: laid_over(config.get(key) or {}, value) for key, value in over.items() if isinstance(value, dict)}
    return {**config, **over, **both}


def config(preset: str = "test", **over: object) -> dict:
    whole = yaml.safe_load((ROOT / "config.yaml").read_text())
    return laid_over(laid_over(whole, yaml.safe_load((ROOT / f"presets/{preset}.yaml").read_text())), over)


def planned(tmp_path: Path, path: str = "own/*.txt", data: dict | None = None, **over: object) -> Experiment:
    """Plan an experiment on own text as the Snakefile does: checked, from a new start."""
    source = {"kind": "files", "path": path, **FACTS}
    settings = config(corpora={"mine": {"sources": [source]}}, data={**OWN, **(data or {})}, **over)
    return Experiment(check_config(settings, SCHEMA), tmp_path / "hashes.json")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with own text in own/a.txt and own/b.txt."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/a.txt").write_text("First.")
    (tmp_path / "own/b.txt").write_text("Second.")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "own"


# Ids


def test_ids_of_the_presets_are_what_they_were() -> None:
    """A change here moves every user's results: raise RECIPE instead, if that is meant."""
    ids = {preset: Experiment(config(preset)).tokens_id for preset in ("laptop", "test", "validation", "h100", "paper")}
    assert ids == {
        "laptop": "laptop-14c9451718",
        "test": "test-02a8392614",
        "validation": "synthetic-748886d037",
        "h100": "openwebtext-59b252ac2c",
        "paper": "webtext-cf8c3886cf",
    }
    assert list(Experiment(config("test")).corpora) == [
        "news-52c0155f82",
        "wikipedia-61bc8433fe",
        "speeches-bda207b701",
    ]
    assert "fineweb-88c0b3bbff" in Experiment(config("paper")).corpora


def test_ids_follow_the_content_of_own_text(own: Path, tmp_path: Path) -> None:
    def ids() -> tuple[str, str, frozenset[str]]:
        plan = planned(tmp_path)
        return plan.corpus_id("mine"), plan.tokens_id, frozenset(plan.runs)

    first = ids()
    assert ids() == first
    changes = {
        "edited": lambda: (own / "a.txt").write_text("Other."),
        "added": lambda: (own / "c.txt").write_text("Third."),
        "renamed": lambda: (own / "a.txt").rename(own / "0.txt"),
        "removed": lambda: (own / "b.txt").unlink(),
    }
    seen = {first}
    for name, change in changes.items():
        change()
        now = ids()
        assert not any(old in seen_ for seen_ in seen for old in now[:2]), name
        assert not now[2] & first[2], name
        seen.add(now)
        for path in own.iterdir():
            path.unlink()
        (own / "a.txt").write_text("First.")
        (own / "b.txt").write_text("Second.")
        assert ids() == first, name
    os.utime(own / "a.txt", (1e9, 1e9))
    assert ids() == first


def test_an_edit_that_keeps_size_and_time_is_seen(own: Path, tmp_path: Path) -> None:
    before = (own / "a.txt").stat()
    first = planned(tmp_path).tokens_id
    (own / "a.txt").write_text("Fifth.")
    os.utime(own / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (own / "a.txt").stat().st_mtime_ns == before.st_mtime_ns
    assert planned(tmp_path).tokens_id != first


def test_files_are_hashed_once(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "FRESH", -(10**12))
    hashed: list[str] = []
    real = local.hashlib.file_digest
    monkeypatch.setattr(
        local.hashlib, "file_digest", lambda file, kind: (hashed.append(file.name), real(file, kind))[1]
    )
    first = planned(tmp_path).tokens_id
    assert len(hashed) == 2
    assert planned(tmp_path).tokens_id == first and len(hashed) == 2
    assert set(read_json(tmp_path / "hashes.json")) == {str(own / "a.txt"), str(own / "b.txt")}
    (own / "a.txt").write_text("Changed")
    assert planned(tmp_path).tokens_id != first and hashed[2:] == ["own/a.txt"]
    (tmp_path / "hashes.json").write_text("{")
    with pytest.raises(UserError, match=r"hashes\.json: damaged .*; remove it"):
        planned(tmp_path)


def test_a_fresh_file_is_hashed_again(own: Path, tmp_path: Path) -> None:
    """Within the clock's tick two edits bear one time: such a hash is not kept."""
    hashes = Hashes(tmp_path / "hashes.json")
    hashes(str(own / "a.txt"))
    hashes.save()
    assert time.time_ns() - (own / "a.txt").stat().st_ctime_ns > local.FRESH or not (tmp_path / "hashes.json").exists()


def test_a_local_folder_of_kind_hub_is_own_text(own: Path, tmp_path: Path) -> None:
    def corpus_id(name: str) -> str:
        source = {"kind": "hub", "name": name, "split": "train", "field": "text", **FACTS}
        return Experiment(config(corpora={"mine": {"sources": [source]}}, data=OWN), tmp_path / "h.json").corpus_id(
            "mine"
        )

    first = corpus_id("own")
    assert corpus_id("owner/own") == corpus_id("owner/own")
    (own / "data").mkdir()
    (own / "data/train.jsonl").write_text('{"text": "x"}')
    assert corpus_id("own") != first
    for name, word in (
        ("./nothing", "there is no folder"),
        ("a/b/c", "there is no folder"),
        ("own/a.txt", "is a file"),
    ):
        with pytest.raises(UserError, match=rf"config: corpora/mine/sources/0: name: .*{word}"):
            corpus_id(name)


def test_own_text_that_changes_under_a_job_is_refused(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (_, spec), *_ = planned(tmp_path).corpora.values()
    output = tmp_path / "corpus/meta.json"
    arguments = ["--name", "mine", "--downloads", str(tmp_path), "--output", str(output), "--spec", json.dumps(spec)]
    (own / "a.txt").write_text("Edited after planning.")
    assert main(arguments) == 2
    assert "corpora.mine: its files changed since the workflow was planned" in capsys.readouterr().err
    assert not output.exists()
    (own / "a.txt").write_text("First.")
    assert main(arguments) == 0
    assert read_meta(output.parent)["content"] == spec["content"]


def test_own_text_that_changes_while_it_is_read_is_refused(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.corpora.clean import Cleaner

    real = Cleaner.__call__

    def edit(self: Cleaner, *arguments: object) -> object:
        (own / "b.txt").write_text("Edited meanwhile.")
        return real(self, *arguments)

    monkeypatch.setattr(Cleaner, "__call__", edit)
    spec = {"sources": [{"kind": "files", "path": "own/*.txt", **FACTS}]}
    with pytest.raises(UserError, match="its files changed while they were read"):
        build_corpus("mine", spec, tmp_path, tmp_path / "corpus/meta.json")
    assert not (tmp_path / "corpus/meta.json").exists()


def test_a_killed_corpus_goes_on_with_the_same_text_only(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.corpora import __main__ as module

    spec = {"sources": [{"kind": "files", "path": "own/*.txt", **FACTS}]}
    output = tmp_path / "corpus/meta.json"
    real = module._Build._finish

    def die(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Build, "_finish", die)
    with pytest.raises(KeyboardInterrupt):
        build_corpus("mine", spec, tmp_path, output)
    assert (tmp_path / "corpus/progress.json").exists()
    monkeypatch.setattr(module._Build, "_finish", real)
    (own / "a.txt").write_text("Edited.")
    build_corpus("mine", spec, tmp_path, output)
    assert [text for b in read_documents(output.parent) for text in b.column("text").to_pylist()] == [
        "Edited.",
        "Second.",
    ]


def test_the_module_that_finds_files_needs_the_standard_library_only() -> None:
    """The Snakefile imports it each time it is read."""
    for path in (ROOT / "pipeline/corpora/local.py", ROOT / "pipeline/corpora/__init__.py"):
        for node in ast.parse(path.read_text()).body:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, "pipeline"}


# Which files


def test_globs(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "deep/[v1]").mkdir(parents=True)
    (own / "deep/[v1]/c.txt").write_text("Third.")
    (own / "deep/1").mkdir()
    (own / "deep/1/what?.txt").write_text("Fourth.")
    (own / ".hidden.txt").write_text("Hidden.")
    (own / "gone.txt").symlink_to("nowhere")
    assert paths_of("own/*.txt") == ["own/a.txt", "own/b.txt"]
    assert paths_of("own/**/*.txt") == ["own/a.txt", "own/b.txt", "own/deep/1/what?.txt", "own/deep/[v1]/c.txt"]
    assert paths_of("own/deep/[v1]/*.txt") == ["own/deep/[v1]/c.txt"]  # as it is written, though [v1] is a glob
    assert paths_of("own/*/[v1]/*") == ["own/deep/[v1]/c.txt"]
    assert paths_of("own/deep/[0-9]/*.txt") == ["own/deep/1/what?.txt"]
    assert paths_of("own/deep/1/what?.txt") == ["own/deep/1/what?.txt"]
    assert paths_of("own/.hidden.txt") == ["own/.hidden.txt"]
    assert paths_of(f"{own}/[ab].txt") == [f"{own}/a.txt", f"{own}/b.txt"]
    assert paths_of("own/../own/a.txt") == ["own/../own/a.txt"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths_of("~/own/a.txt") == [f"{tmp_path}/own/a.txt"]
    with pytest.raises(UserError, match=r"path: 'own/' is a folder: write which files in it, such as own/\*\*/\*\.txt"):
        paths_of("own/")
    with pytest.raises(
        UserError, match=r"no file matches 'own/\[x\]\.txt' in /.*; \[ and \] stand for a set of characters"
    ):
        paths_of("own/[x].txt")


def test_globs_agree_with_the_standard_library(own: Path) -> None:
    import glob

    for name in ("x/y/z.txt", "x/y/z.md", "x/a.txt", "y/a.txt", "x/y/y/q.txt", ".git/a.txt"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(name)
    for pattern in ("own/**", "own/**/*.txt", "**/y/**/*.txt", "own/*/*.txt", "**/*", "own/?/[a-z].txt", "*/*/**/*.md"):
        assert paths_of(pattern) == sorted({p for p in glob.glob(pattern, recursive=True) if os.path.isfile(p)}), (
            pattern
        )


def test_a_file_is_read_once_however_it_is_linked(own: Path) -> None:
    (own / "a.txt").rename(own / "z.txt")
    for number in range(8):  # loops within loops: 8^40 paths for a glob that follows each
        (own / f"loop{number}").symlink_to(own)
    (own / "soft.txt").symlink_to("z.txt")
    os.link(own / "b.txt", own / "hard.txt")
    assert paths_of("own/**/*.txt") == ["own/b.txt", "own/soft.txt"]


def test_a_folder_that_cannot_be_read_is_not_passed_over(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(UserError, match=r"the folder own can't be read \(Permission denied\)"):
        paths_of("own/*.txt")


def test_no_file_is_one_line_before_any_job(own: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config: corpora/mine/sources/0: path: no file matches 'nowhere/\*\.txt'"):
        planned(tmp_path, "nowhere/*.txt")
    spec = {"sources": [{"kind": "synthetic"}, {"kind": "wheel"}, {"kind": "hub", "name": "owner/name"}]}
    assert contents(spec, Hashes()) == {}


# Settings


@pytest.mark.parametrize("name", ["my corpus", "a/b", "a.b", "", "-a", "a=b", "a\n", "a" * 81, "a{b}", "..", "a'b"])
def test_a_corpus_is_named_by_what_paths_may_hold(name: str) -> None:
    wrong = config(corpora={name: {"sources": [{"kind": "files", "path": "x", **FACTS}]}})
    with pytest.raises(
        UserError, match=r"config: corpora: .* is not allowed: a name of at most 80 letters, digits, _ and -"
    ):
        check_config(wrong, SCHEMA)


@pytest.mark.parametrize("name", ["mine", "Mine_2", "2024-web", "küche", "a" * 80])
def test_other_names_of_corpora_are_allowed(name: str) -> None:
    check_config(config(corpora={name: {"sources": [{"kind": "files", "path": "x", **FACTS}]}}), SCHEMA)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"data": {"name": "My Data"}}, "data/name: 'My Data' is not allowed: at most 80 small letters, digits and _$"),
        ({"data": {"name": "a\n"}}, "data/name: .* is not allowed"),
        ({"data": {"name": ""}}, "data/name: '' is not allowed"),
        (
            {"data": {"seed": 2**64}},
            "data/seed: 18446744073709551616 is not allowed: a whole number at least 0 at most",
        ),
        ({"preset": "a/b"}, "preset: 'a/b' is not allowed: letters a to z and A to Z, digits and _$"),
        ({"sweeps": {"a b": {}}}, "sweeps: 'a b' is not allowed: small letters and _$"),
        ({"data": {"transfer_tokens": float("inf")}}, "config: data/transfer_tokens: inf is not a finite number"),
        ({"data": {"test_fraction": float("nan")}}, "config: data/test_fraction: nan is not a finite number"),
        (
            {"sweeps": {"data": {"n_unique_tokens": [1.0, float("inf")]}}},
            "n_unique_tokens/1: inf is not a finite number",
        ),
        ({"corpora": {2024: {}}}, "config: corpora: the key 2024 is read as a number, not as text: put it in quotes"),
        ({True: 1}, r"config: the key true is read as true or false \(so are on, off, yes and no\), not as text"),
    ],
)
def test_what_a_config_cannot_mean(over: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_config(laid_over(config(), over), SCHEMA)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": ["mine", "mine"]}, "data/train: 'mine' is named twice"),
        ({"transfer": ["news", "news"]}, "data/transfer: 'news' is named twice"),
        ({"transfer": ["mine"]}, "data/transfer: 'mine' is trained on; only other text may be named there"),
        ({"transfer": ["nothing"]}, "data/transfer: 'nothing' is not a corpus; there are"),
        ({"vocabulary": 200}, r"data/vocabulary: 200 is less than 257, the bytes and the end of text"),
        (
            {"min_test_tokens": 16_384},
            r"training/test_tokens: 16,384 .*need 16,385 .*data/min_test_tokens 16,384.*raise",
        ),
        (
            {"transfer_tokens": 8_000, "transfer": ["news"]},
            "evaluation/tokens_per_corpus: 8,192 is above data/transfer_t",
        ),
    ],
)
def test_contradictions_are_found_before_any_job(own: Path, tmp_path: Path, data: dict, message: str) -> None:
    with pytest.raises(UserError, match=f"config: {message}"):
        planned(tmp_path, data=data)


def test_text_is_not_both_trained_on_and_other_text(own: Path, tmp_path: Path) -> None:
    def plan(**corpora: dict) -> Experiment:
        return Experiment(config(corpora=corpora, data={**OWN, "transfer": ["other"]}), tmp_path / "hashes.json")

    def files(path: str) -> dict:
        return {"sources": [{"kind": "files", "path": path, **FACTS}]}

    with pytest.raises(UserError, match="'other' has a source of 'mine', which is trained on"):
        plan(mine=files("own/*.txt"), other={**files("own/*.txt"), "min_characters": 3})
    with pytest.raises(UserError, match=r"data/transfer: other: own/a\.txt is trained on as well \(corpus mine\)"):
        plan(mine=files("own/*.txt"), other=files("own/a.txt"))
    (tmp_path / "copy.txt").write_text("First.")
    with pytest.raises(UserError, match=r"other: copy\.txt is own/a\.txt, which is trained on"):
        plan(mine=files("own/*.txt"), other=files("copy.txt"))
    assert len(plan(mine=files("own/a.txt"), other=files("own/b.txt")).corpora) == 2
    with pytest.raises(UserError, match="'test' is what evaluations call the training text; rename it"):
        settings = config(corpora={"mine": files("own/a.txt"), "test": files("own/b.txt")})
        Experiment(laid_over(settings, {"data": {**OWN, "transfer": ["test"]}}), tmp_path / "hashes.json")


def test_pieces_that_would_be_dropped_are_refused(own: Path, tmp_path: Path) -> None:
    source = {"kind": "files", "path": "own/*.txt", "max_characters": 500, **FACTS}
    settings = config(corpora={"mine": {"sources": [source], "min_characters": 200}}, data=OWN)
    with pytest.raises(UserError, match="mine/sources/0/max_characters: 500 is less than 4 min_characters = 800"):
        Experiment(check_config(settings, SCHEMA), tmp_path / "hashes.json")


def test_without_other_text_its_figure_is_left_out(own: Path, tmp_path: Path) -> None:
    assert "fig08" not in planned(tmp_path).figures
    assert "fig09" in planned(tmp_path).figures
    assert "fig08" in planned(tmp_path, data={"transfer": ["news"]}).figures
    with pytest.raises(
        UserError, match="config: figures: fig08 can't be made: it shows the loss on text that was never trained on"
    ):
        planned(tmp_path, figures=["fig08"])


@pytest.mark.slow
def test_the_figures_that_need_other_text_are_known() -> None:
    import importlib
    from dataclasses import replace

    import planted

    from pipeline.plan import catalog

    need_transfer = [name for name, needs in catalog.FIGURES.items() if needs.other_text]

    for name, needs in catalog.FIGURES.items():
        if needs.evaluations:
            inputs = planted.inputs(needs.sweeps, needs.evaluations, needs.laws, True, needs.points)
            tables = {key: table[table.corpus.isin(["train", "test"])] for key, table in inputs.evaluations.items()}
            module = importlib.import_module(f"pipeline.figures.{name}")
            if name in need_transfer:
                with pytest.raises(UserError, match="a corpus that was not trained on"):
                    module.draw(replace(inputs, evaluations=tables))
            else:
                module.draw(replace(inputs, evaluations=tables))


# In Snakemake


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
def test_an_edit_of_own_text_makes_everything_again(own: Path, tmp_path: Path) -> None:
    """The chain to token files, in real processes: nothing after a touch, all after an edit, nothing once undone."""
    import random
    import subprocess

    words = [f"{a}{b}{c}" for a in "bdfg" for b in "aeiou" for c in "klmn"]
    draw = random.Random(0)
    text = "\n\n".join(" ".join(draw.choices(words, k=60)) + "." for _ in range(700))
    (own / "b.txt").unlink()
    (own / "a.txt").write_text(text)  # one file, as a book is: it is cut, and a part of it held out
    settings = {
        "corpora": {"mine": {"sources": [{"kind": "files", "path": "own/*.txt", **FACTS}]}},
        "data": {**OWN, "vocabulary": 300, "min_train_tokens": 50_000, "min_test_tokens": 2_100, "test_fraction": 0.1},
        "training": {"test_tokens": 2_048},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings))
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1", "data"]
    end = ["--config", "preset=test", "--configfile", "own.yaml"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def snakemake(*options: str, code: int = 0) -> str:
        done = subprocess.run([*start, *options, *end], env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    snakemake()
    (tokens,) = (tmp_path / "results/tokens").iterdir()
    meta = read_json(tokens / "meta.json")
    assert meta["train"]["documents"] > 40 and meta["test"]["documents"] > 1
    os.utime(own / "a.txt")
    assert "Nothing to be done" in snakemake("--dry-run")
    (own / "a.txt").write_text(text + " More.")
    said = snakemake("--dry-run")
    for rule in ("fetch_corpus", "train_tokenizer", "tokenize"):
        assert rule in said
    (own / "a.txt").write_text(text)
    assert "Nothing to be done" in snakemake("--dry-run")
    (own / "a.txt").unlink()
    said = snakemake("--dry-run", code=1)
    assert "config: corpora/mine/sources/0: path: no file matches 'own/*.txt'" in said and "Traceback" not in said
