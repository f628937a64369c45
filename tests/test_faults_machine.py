"""Machines as people have them: no home folder, no compiler, no Slurm, a full disk, another locale."""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import planted
import pytest
import yaml

from pipeline.analysis import tables
from pipeline.analysis.fit import main as fit
from pipeline.analysis.gather import main as gather
from pipeline.corpora.__main__ import main as corpora
from pipeline.engines import native
from pipeline.errors import UserError
from pipeline.figures.__main__ import main as figure
from pipeline.files import atomic_path, read_json, write_json
from pipeline.plan.experiment import Experiment
from pipeline.report.deviations import main as deviations
from pipeline.tables.__main__ import main as table
from pipeline.tokens.__main__ import main as tokens
from pipeline.tokens.tokenizer import main as tokenizer
from pipeline.train.__main__ import EXIT_PREEMPTED, Trainer
from pipeline.train.__main__ import main as train_main
from pipeline.train.evaluate import main as evaluate

ROOT = Path(__file__).parents[1]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
STRANGER = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
"""Before a command: it runs as a user that no passwd file knows, as in `docker run --user`."""


def snakemake(*arguments: str, cwd: Path, **environment: str) -> tuple[int, str]:
    """Run the workflow; return its exit code and all it said."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *arguments]
    env = os.environ | {"PATH": PATH} | environment
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def config(preset: str = "test") -> dict:
    whole = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    over = yaml.safe_load((ROOT / f"presets/{preset}.yaml").read_text(encoding="utf-8"))

    def laid_over(below: dict, above: dict) -> dict:
        both = {key: laid_over(below.get(key) or {}, value) for key, value in above.items() if isinstance(value, dict)}
        return {**below, **above, **both}

    return laid_over(whole, over)


# The cache of compiled code


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No home folder that can be written; the folder that is then used."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"scaling-laws-{os.getuid()}"


def test_compiled_code_is_kept_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert native.cache_folder() == tmp_path / "cache/scaling-laws"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert native.cache_folder() == tmp_path / "home/.cache/scaling-laws"


def test_without_a_home_it_is_kept_in_a_private_temporary_folder(homeless: Path, capsys) -> None:
    assert native.cache_folder() == homeless
    assert stat.S_IMODE(homeless.stat().st_mode) == 0o700
    said = f"no home folder that can be written: compiled code is kept in {homeless}\n"
    assert capsys.readouterr().err == said
    assert native.cache_folder() == homeless
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("relative", ["cache", "~/cache"])
def test_a_relative_cache_folder_is_none(relative: str, homeless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", relative)
    assert native.cache_folder() == homeless


@pytest.mark.parametrize("kind", ["open to others", "a link", "a file"])
def test_code_of_others_is_not_run(kind: str, homeless: Path, tmp_path: Path) -> None:
    if kind == "open to others":
        homeless.mkdir()
        homeless.chmod(0o770)
        said = "native engine: .*: not a folder of this user alone, to keep compiled code in; remove it"
    elif kind == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        homeless.symlink_to(tmp_path / "elsewhere")
        said = "not a folder of this user alone"
    else:
        homeless.write_text("")
        said = "can't be written"
    with pytest.raises(UserError, match=said):
        native.cache_folder()


@pytest.fixture
def stranger() -> list[str]:
    """What stands before a command to run it as a user without a name and a home."""
    if shutil.which("unshare") is None or subprocess.run([*STRANGER, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets no process be another user")
    gone = [
        part for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CACHE_HOME") for part in ("-u", name)
    ]
    return [*STRANGER, "env", *gone]


def training(run, tokens: Path, folder: Path, *options: str) -> list[str]:
    start = ["--run", run.to_json(), "--tokens", str(tokens), "--output", str(folder / "run/curve.parquet")]
    return [*start, "--scratch", str(folder / "scratch"), "--device", "cpu", *options]


@pytest.mark.slow
@pytest.mark.skipif(not native.available(), reason="no C++ compiler")
@pytest.mark.parametrize("engine", ["native", "torch"])
def test_a_user_without_a_name_and_a_home_trains(
    engine: str, stranger: list[str], tiny_run, tiny_tokens, train, tmp_path: Path
) -> None:
    kept = tmp_path / "scaling-laws-12345"
    kept.mkdir(mode=0o700)
    shutil.copy(native.build(), kept)  # compiling takes longer than all the rest
    command = [sys.executable, "-m", "pipeline.train", *training(tiny_run(), tiny_tokens, tmp_path, "--engine", engine)]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([*stranger, *command], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].endswith(f"engine {engine}")
    other = train(tiny_run(), "--engine", engine, folder="other")
    assert (tmp_path / "run/curve.parquet").read_bytes() == (other / "curve.parquet").read_bytes()


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
@pytest.mark.parametrize("who", ["HOME can't be written", "no home and no name"])
def test_make_gives_snakemake_what_it_needs(who: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """With the variables that the Makefile exports; its own targets would set up an environment first."""
    if shutil.which("make") is None:
        pytest.skip("no make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").write_text("")
    plan = f'"{sys.executable}" -m snakemake --snakefile "{ROOT}/Snakefile" --cores 1 plan --config preset=test'
    command = ["make", "--silent", f"--eval=show: ; @{plan}", "show"]
    start = request.getfixturevalue("stranger") if who == "no home and no name" else ["env", "-u", "XDG_CACHE_HOME"]
    env = os.environ | {"HOME": "/proc/none"}
    done = subprocess.run([*start, *command], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "of training on" in done.stdout
    assert "Traceback" not in done.stderr
    made = ".snakemake/cache" if who == "HOME can't be written" else ".snakemake/home/.cache"
    assert (tmp_path / made / "snakemake").is_dir()


# No compiler


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A PATH without a compiler, and nothing that was compiled before."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    for known in (native.missing, native._library, native.short_operands):
        known.cache_clear()
    yield
    for known in (native.missing, native._library, native.short_operands):
        known.cache_clear()


@pytest.mark.parametrize(
    ("cxx", "said"),
    [
        (None, "native engine: no C++ compiler (g++ or clang++; $CXX names another)"),
        ("/bin/false", "native engine: false failed: no message"),
    ],
)
def test_without_a_compiler_torch_trains_and_the_log_says_so(
    cxx: str | None, said: str, no_compiler, tiny_run, tiny_tokens, tmp_path: Path, monkeypatch, capsys
) -> None:
    if cxx:
        monkeypatch.setenv("CXX", cxx)
    arguments = training(tiny_run(), tiny_tokens, tmp_path)
    assert train_main(arguments) == 0
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"{said}: torch trains this run, some times slower"
    assert last.endswith("engine torch")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"curve.parquet", "model.safetensors"}
    assert train_main([*arguments, "--engine", "native"]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
def test_the_workflow_says_that_there_is_no_compiler_and_what_is_damaged(tmp_path: Path) -> None:
    """A run whose token files are damaged: the console has one line on each."""
    experiment = Experiment(config(), tmp_path / "hashes.json")
    meta = tmp_path / f"results/tokens/{experiment.tokens_id}/meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text("{")
    run = next(iter(experiment.runs))
    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("bash", "dirname", "env", "which"):
        (bare / name).symlink_to(shutil.which(name))
    path = f"{Path(sys.executable).parent}{os.pathsep}{bare}"
    options = ["--workflow-profile", str(ROOT / "profiles/default"), "--rerun-triggers", "mtime"]
    target = f"results/runs/{run}/curve.parquet"
    code, said = snakemake(
        "--cores", "1", *options, "--config", "preset=test", "--", target, cwd=tmp_path, PATH=path, CXX=""
    )
    assert code == 1
    assert said.count("no C++ compiler (g++ or clang++; $CXX names another): torch trains the runs") == 1
    assert f"error: results/tokens/{experiment.tokens_id}/meta.json: not the JSON of token files (" in said
    assert "Traceback" not in said


# No Slurm; what this config does not have


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="Slurm is here")
def test_the_slurm_profile_without_slurm_is_refused_before_any_job(tmp_path: Path) -> None:
    code, said = snakemake("--profile", str(ROOT / "slurm"), "data", "--config", "preset=test", cwd=tmp_path)
    assert code == 1
    assert "executor: slurm needs Slurm's commands (sbatch, sinfo) on the PATH, and there is no sbatch: " in said
    assert "rule fetch_corpus:" not in said and "Traceback" not in said
    assert not (tmp_path / "results").exists() and not any((tmp_path / ".snakemake/locks").glob("*"))
    at_once = ["--slurm-init-seconds-before-status-checks", "1"]
    code, said = snakemake("--profile", str(ROOT / "slurm"), *at_once, "plan", "--config", "preset=test", cwd=tmp_path)
    assert code == 0 and "of training on" in said  # it submits nothing


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "runs/transformer-2x16-b8-s9-0123456789/evaluation.parquet",
            "transformer-2x16-b8-s9-0123456789: no run of this config, whose own text may have changed\n",
        ),
        (
            "tokens/test-0123456789/meta.json",
            "test-0123456789: no data set of this config, whose own text may have changed; there are test-02a8392614\n",
        ),
        ("test/sweeps/widths.parquet", "widths: no sweep of this config; there are sizes, one_large, data, depths, "),
        ("test/laws/L_M.json", "L_M: no law of this config; there are L_N, log_N, L_D, "),
        ("laptop/figures/fig01.svg", "No rule to produce results/laptop/figures/fig01.svg"),
    ],
)
def test_what_this_config_does_not_have_is_one_line(target: str, said: str, tmp_path: Path) -> None:
    """A job of a cluster reads the config again: own text that was edited since gives its runs other ids."""
    arguments = ["--dry-run", "--cores", "1", "--config", "preset=test", "--", f"results/{target}"]
    code, output = snakemake(*arguments, cwd=tmp_path)
    assert code == 1
    assert said in output
    assert "KeyError" not in output


# Locales

CHAIN = """
import hashlib, json, sys
from pathlib import Path
from pipeline.corpora.__main__ import main as corpora
from pipeline.gather import main as gather
from pipeline.plan.run import Run
from pipeline.tokens.__main__ import main as tokens
from pipeline.tokens.tokenizer import main as tokenizer
from pipeline.train.__main__ import main as train

folder, spec, data = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
run = Run(tokens="t-0", n_layer=1, d_model=16, n_head=2, n_vocab=270, n_ctx=16, n_steps=20, lr=0.01,
          batch_sequences=4, test_tokens=64, evaluations=4)
c, t, curve = folder / "c", folder / "t-0", folder / f"runs/{run.id}/curve.parquet"
for main, arguments in (
    (corpora, ["--name", "mine", "--spec", spec, "--downloads", folder, "--output", c / "meta.json"]),
    (tokenizer, ["--documents", f"mine={c}", "--spec", data, "--output", t / "tokenizer.json"]),
    (tokens, ["--tokenizer", t / "tokenizer.json", "--train", f"mine={c}", "--spec", data, "--scratch", folder / "s",
              "--output", t / "meta.json"]),
    (train, ["--run", run.to_json(), "--tokens", t, "--output", curve, "--scratch", folder / "s", "--device", "cpu"]),
    (gather, ["sizes", "--members", json.dumps({run.id: ["", True]}), "--runs", folder / "runs",
              "--tokens", t / "meta.json", "--output", folder / "sizes.parquet"]),
):
    assert main([str(argument) for argument in arguments]) == 0
for path in sorted(folder.rglob("*")):
    if path.is_file():
        print(path.relative_to(folder), hashlib.sha256(path.read_bytes()).hexdigest())
"""


@pytest.mark.slow
def test_the_chain_gives_the_same_bytes_in_every_locale(tmp_path: Path) -> None:
    """Text beyond ASCII, from files to a sweep table; the worst machine has also no TMPDIR and private files."""
    places = {
        "usual": {"LC_ALL": "C.UTF-8"},
        "worst": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TMPDIR": str(tmp_path / "absent")},
        "turkish": {"LC_ALL": "tr_TR.UTF-8", "LANG": "de_DE.UTF-8"},
    }
    rows = [f"Größe Nummer {n}: 中文 naïve \U0001f600 señor, IĞDIR {n * n} Äpfel." for n in range(200)]
    (tmp_path / "own").mkdir()
    lines = [json.dumps({"text": row}, ensure_ascii=False) for row in rows]
    (tmp_path / "own/a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    source = {"kind": "files", "path": "own/*.jsonl", "field": "text", "licence": "x", "origin": "Bücher"}
    options = [json.dumps({"sources": [source], "min_characters": 10}), json.dumps(DATA)]
    started = {
        place: subprocess.Popen(
            [sys.executable, "-c", CHAIN, place, *options],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
            umask=0o077 if place == "worst" else -1,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for place, variables in places.items()
    }
    said = {place: process.communicate() for place, process in started.items()}
    for place, process in started.items():
        assert process.returncode == 0, said[place][1]
    assert said["worst"][0] == said["turkish"][0] == said["usual"][0]
    names = [line.split()[0] for line in said["usual"][0].splitlines()]
    assert names[:2] == ["c/documents-00000.parquet", "c/meta.json"] and "sizes.parquet" in names and len(names) == 9


# A full disk

DATA = {"tokenizer": "bpe", "vocabulary": 270, "seed": 0, "test_fraction": 0.2, "tokenizer_bytes": 1e6}
DATA |= {"transfer_tokens": 1000}


@contextmanager
def no_room() -> Iterator[None]:
    """Let the system write no more than 100 bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def stage_corpora(root: Path) -> tuple[Callable, list[object], str]:
    (root / "a.txt").write_text("A line of text that is long enough. " * 9)
    spec = {"sources": [{"kind": "files", "path": str(root / "a.txt"), "licence": "x", "origin": "x"}]}
    arguments = ["--name", "mine", "--spec", json.dumps(spec), "--downloads", root, "--output", root / "c/meta.json"]
    return corpora, arguments, "c/documents-00000.parquet"


def finished_corpus(root: Path) -> Path:
    rows = [json.dumps({"text": f"Letter {n}: dear reader, yours {n * n}."}) for n in range(300)]
    (root / "a.jsonl").write_text("\n".join(rows))
    source = {"kind": "files", "path": str(root / "a.jsonl"), "field": "text", "licence": "x", "origin": "x"}
    start = ["--name", "mine", "--downloads", str(root), "--output", str(root / "c/meta.json")]
    assert corpora([*start, "--spec", json.dumps({"sources": [source]})]) == 0
    return root / "c"


def stage_tokenizer(root: Path) -> tuple[Callable, list[object], str]:
    arguments = ["--documents", f"mine={finished_corpus(root)}", "--spec", json.dumps(DATA)]
    return tokenizer, [*arguments, "--output", root / "t/tokenizer.json"], "t/tokenizer.json"


def stage_tokens(root: Path) -> tuple[Callable, list[object], str]:
    main, arguments, _ = stage_tokenizer(root)
    assert main([str(argument) for argument in arguments]) == 0
    arguments = ["--tokenizer", root / "t/tokenizer.json", "--train", f"mine={root}/c", "--spec", json.dumps(DATA)]
    return tokens, [*arguments, "--scratch", root / "s", "--output", root / "t/meta.json"], "documents-00000.bin"


def planted_sweep(root: Path, name: str = "sizes") -> str:
    tables.write(root / f"{name}.parquet", planted.sweep(name, few=True), "sweep", name, "test")
    return f"{name}={root}/{name}.parquet"


def stage_fit(root: Path) -> tuple[Callable, list[object], str]:
    arguments = ["L_N", "--sweep", planted_sweep(root), "--bootstrap", "0", "--output", root / "out/L_N.json"]
    return fit, [*arguments, "--output-points", root / "out/L_N.parquet"], "out/L_N.parquet"


def stage_figure(root: Path) -> tuple[Callable, list[object], str]:
    sweeps = [part for name in ("depths", "sizes") for part in ("--sweep", planted_sweep(root, name))]
    return figure, ["fig06", *sweeps, "--output", root / "out/fig06.svg"], "out/fig06.svg"


def stage_table(root: Path) -> tuple[Callable, list[object], str]:
    planted.fits()["L_N_D"].to_json(root / "L_N_D.json")
    arguments = ["table2", "--law", f"L_N_D={root}/L_N_D.json", "--output", root / "out/table2.csv"]
    return table, arguments, "out/table2.csv"


def stage_report(root: Path) -> tuple[Callable, list[object], str]:
    train = {"file": "train.bin", "tokens": 9_000_000}
    write_json(root / "meta.json", {"vocabulary": 300, "train": train})
    arguments = ["--config", json.dumps(config()), "--tokens", root / "meta.json", "--output", root / "out/d.csv"]
    return deviations, arguments, "out/d.csv"


STAGES = [stage_corpora, stage_tokenizer, stage_tokens, stage_fit, stage_figure, stage_table, stage_report]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_a_stage_without_room_names_the_file_and_goes_on_with_room(stage: Callable, tmp_path: Path, capsys) -> None:
    main, arguments, file = stage(tmp_path)
    arguments = [str(argument) for argument in arguments]
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    with no_room():
        assert main(arguments) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ") and last.endswith(f"{file}: can't be written (File too large)")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    assert main(arguments) == 0
    assert {path for path in tmp_path.rglob("*") if path.is_file()} > before


@pytest.fixture
def finished(tiny_run, tiny_tokens, tmp_path: Path, train) -> tuple[list[str], list[str]]:
    """The arguments that evaluate a run that has ended, and gather it."""
    run = tiny_run()
    folder = train(run, folder=run.id)
    evaluated = ["--run", run.to_json(), "--tokens", str(tiny_tokens), "--weights", str(folder), "--device", "cpu"]
    evaluated += ["--tokens-per-corpus", "256", "--output", str(folder / "evaluation.parquet")]
    copied = tmp_path / "meta.json"
    write_json(copied, read_json(tiny_tokens / "meta.json") | {"entropy_rate": None})
    gathered = ["sizes", "--members", json.dumps({run.id: ["", True]}), "--runs", str(tmp_path)]
    return evaluated, [*gathered, "--tokens", str(copied), "--output", str(tmp_path / "sizes.parquet")]


def test_evaluating_and_gathering_without_room(finished, capsys) -> None:
    evaluated, gathered = finished
    for main, arguments in ((evaluate, evaluated), (gather, gathered)):
        output = Path(arguments[-1])
        capsys.readouterr()
        with no_room():
            assert main(arguments) == 2
        *_, last = capsys.readouterr().err.splitlines()
        assert last == f"error: {output}: can't be written (File too large)"
        assert not output.exists() and not list(output.parent.glob(".*.tmp*"))
        assert main(arguments) == 0


@pytest.mark.parametrize("file", ["snapshot-1", "checkpoint", "model", "snapshots", "curve"])
def test_a_run_without_room_names_the_file_and_goes_on_with_room(
    file: str, tiny_run, tiny_tokens, train, tmp_path: Path, no_room_for, capsys
) -> None:
    """Each file that a run writes; the checkpoint of before is kept, and the run ends with the bytes of another."""
    run = tiny_run(snapshots=3)
    arguments = training(run, tiny_tokens, tmp_path, "--checkpoint-seconds", "0")
    whole = train(run, folder="whole")
    capsys.readouterr()
    no_room_for(f"{file}.{'parquet' if file == 'curve' else 'safetensors'}")
    assert train_main(arguments) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"error: {tmp_path}/{'scratch' if file[-1] in '1t' else 'run'}/{file}.")
    assert last.endswith(": can't be written (No space left on device)")
    assert not (tmp_path / "run/curve.parquet").exists() and not list(tmp_path.rglob(".*.tmp*"))
    no_room_for(None)
    assert train_main(arguments) == 0
    for path in whole.iterdir():
        assert path.read_bytes() == (tmp_path / "run" / path.name).read_bytes()


def test_weights_that_the_system_refuses_are_named(
    tiny_run, tiny_tokens, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library that writes weights has an error of its own for it."""
    arguments = training(tiny_run(), tiny_tokens, tmp_path)
    with no_room():
        assert train_main(arguments) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"error: {tmp_path}/run/model.safetensors: can't be written (")
    assert "File too large" in last
    assert not list((tmp_path / "run").iterdir())
    monkeypatch.setattr(Trainer, "interrupted", property(lambda self: True, lambda self, value: None), raising=False)
    with no_room():
        assert train_main(arguments) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"error: {tmp_path}/scratch/checkpoint.safetensors: can't be written (")
    assert train_main(arguments) == EXIT_PREEMPTED


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(UserError, match=r"file/x/y\.txt: can't be written \(Not a directory\)"),
        atomic_path(tmp_path / "file/x/y.txt"),
    ):
        raise AssertionError("no room, no writing")
