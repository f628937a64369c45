"""Wrong configs: each is one true line before any job, which names the key where the user wrote it. Odd ones that are
right stay so.
"""

from __future__ import annotations

import copy
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config
from test_workflow import snakemake

from pipeline.errors import UserError
from pipeline.plan.config import check_config, check_file, config_files
from pipeline.plan.experiment import Experiment

ROOT = Path(__file__).parents[1]
PRESETS = ("test", "laptop", "h100", "paper", "validation")
RUNS = (95, 167, 150, 216, 187)
PART = (
    "a part of the steps, at least 0 and below 1, such as 0.05; a number of steps, as the paper's 3,000, is the key "
    "warmup_steps"
)
CASES = (Path(__file__).parent / "wrong_configs.txt").read_text(encoding="utf-8").splitlines()
WRONG = [(text, line.strip()) for text, line in pairwise(CASES) if line.startswith(" ")]


def mine(settings: str) -> str:
    """Return an override with a sweep of the user's own."""
    return f"sweeps: {{mine: {{{settings}}}}}"


RIGHT = {
    "{}": 95,
    "training: {tokens: 200_000}": 95,
    "training: {tokens: 3.0e+5, seed: 0x10, clip: 0, weight_decay: 0.1}": 96,
    "training: {tokens: null, n_steps: 100}": 95,
    "training: {warmup: null, warmup_steps: 30}": 95,
    "training: {warmup: 0}": 95,
    "training: {warmup: 0.99}": 95,
    "training: {batch_sequences: null, batch_tokens: 2048}": 95,
    "model: {head_width: null, n_head: 2}": 95,
    "model: {d_ff_ratio: null, d_ff: 64}": 95,
    "model: {n_ctx: 1}": 95,
    "model: {n_ctx: 64.0, dropout: 0.1}": 95,
    "training: {lr: 1.0e-30}": 95,
    "training: {test_tokens: 1.0e+4, evaluations: 2, snapshots: 3}": 95,
    "training: {evaluations: 100000}": 95,
    "training: {epochs: 1}": 95,
    "training: {seed: 99999999999999999999999}": 96,
    "learning_rate: {rule: kaplan}": 95,
    "learning_rate: {rule: width, coefficient: 1.2e-2, width: 32, exponent: null, most: null}": 95,
    mine("shape: [2, 18], lr_hidden: [0, 0.5, 1.0]"): 98,
    mine("shape: [2, 15]"): 96,
    mine("shape: [2, 64, 8], seed: [0, 0, 1]"): 97,
    mine("shape: [[2, 16], [2, 16]], lr: [0.001, 0.002], lr_factor: [1, 2]"): 98,
    mine("shape: [[1, 18], [2, 18]], shown_only: [[1, 18, 2]], epochs: 0"): 97,
    mine("variants: [{shape: [2, 18]}, {shape: [3, 18], batch_tokens: 256, n_steps: 9, warmup_steps: 3}]"): 97,
    mine("shape: [2, 18], n_unique_tokens: [100, null], epochs: 50, n_steps: 30"): 97,
    mine("shape: [2, 18], noise: true, batch_sequences: 1, label: ''"): 96,
    mine("shape: [2, 18], family: recurrent, n_reuse: 1"): 96,
    "sweeps: {sizes: {shown_only: []}}": 95,
    "sweeps: {data: {patience: 0}}": 95,
    "{figures: [fig02], tables: [], sweeps: {short: {shape: [2, 16]}}}": 93,
    "{figures: [], tables: []}": 95,
    "data: {transfer: [], vocabulary: 257}": 95,
    "data: {train: [news, tweets], transfer: [films], name: a_2}": 95,
    "data: {name: synthetic, train: [synthetic], transfer: [], tokenizer: characters, vocabulary: 32}": 95,
    "fits: {bootstrap: 39}": 95,
    "title: ''": 95,
    "corpora: {ünicode-2: {sources: [{kind: files, path: /not/in/data, licence: a, origin: b}]}}": 95,
    mine("shape: [2, 18], schedule: wsd, n_steps: [50, 70, 90], warmup_steps: 9, cooldown: [0, 0.3]"): 101,
    mine("shape: [2, 18], schedule: [wsd, linear], warmup: 0.1, cooldown: 0.5, patience: 3, evaluate_every: 40"): 97,
    "training: {cooldown: 0.3}": 95,
}  # fmt: skip


@cache
def preset(name: str) -> dict:
    """Return config.yaml with a preset over it, as Snakemake lays it."""
    config: dict = {}
    for path in config_files(ROOT, name):
        update_config(config, yaml.safe_load(path.read_text(encoding="utf-8")))
    return config


def planned(text: str, folder: Path, name: str = "test") -> Experiment:
    """Plan as the Snakefile does, with an override of the preset."""
    config = copy.deepcopy(preset(name))
    update_config(config, yaml.safe_load(text))
    return Experiment(check_config(config, ROOT / "rules/config.schema.yaml"), folder / "hashes.json")


@pytest.mark.parametrize(("text", "line"), WRONG, ids=[text for text, _ in WRONG])
def test_a_wrong_config_is_one_line(text: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        planned(text, tmp_path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(line.removesuffix("...")) if line.endswith("...") else said == line


@pytest.mark.parametrize(("text", "runs"), RIGHT.items(), ids=RIGHT)
def test_an_odd_config_that_is_right_is_planned(text: str, runs: int, tmp_path: Path) -> None:
    assert len(planned(text, tmp_path).runs) == runs


@pytest.mark.parametrize(("name", "runs"), list(zip(PRESETS, RUNS, strict=True)), ids=PRESETS)
def test_every_preset_is_planned(name: str, runs: int, tmp_path: Path) -> None:
    assert len(planned("{}", tmp_path, name).runs) == runs


def test_a_given_rate_is_multiplied_by_the_factors_of_the_sweeps(tmp_path: Path) -> None:
    rates = {member.run.lr for member in planned("training: {lr: 0.001}", tmp_path).sweeps["lr_scan"]}
    assert rates == {0.00025, 0.001, 0.004}


# Files


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"training: {seed: 1}\ntraining: {tokens: 5}\n", "line 2: the key training is there twice"),
        (b"a: {b: 1}\nsweeps:\n  x:\n    - {seed: 0}\n    - {seed: 1,\n       seed: 2}\n",
         "line 6: the key sweeps/x/1/seed is there twice"),
        (b'{"a": 1,\n\t"b": {"c": 1, "c": 2}}', "line 2: the key b/c is there twice"),
        (b"title: caf\xe9\n", "line 1: byte 0xe9 is not UTF-8; save it as UTF-8"),
        (b"training:\n\ttokens: 5\n",
         "line 2: not YAML: found character '\\t' that cannot start any token (indent with spaces, not with tabs)"),
        (b"training: {tokens: 5\n", "line 2: not YAML: expected ',' or '}', but got '<stream end>'"),
        (b"a: *b\n", "line 1: not YAML: found undefined alias 'b'"),
        (b"a: \x07\n", "not YAML: unacceptable character #x0007: special characters are not allowed in ..."),
        (b"", "has no keys; write such as training: {seed: 1}"),
        (b"- 1\n", "has no keys; write such as training: {seed: 1}"),
        (b"news\n", "has no keys; write such as training: {seed: 1}"),
    ],
    ids=["twice", "inside", "json", "latin", "tab", "open", "alias", "control", "empty", "list", "word"],
)  # fmt: skip
def test_a_file_that_is_no_config_is_one_line(content: bytes, line: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.json" if content.startswith(b"{") else "a.yaml")
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        check_file(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: {line.removesuffix('...')}") if line.endswith("...") else said == f"{path}: {line}"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbftraining: {tokens: 200000}\n",
        b"a: &x {b: 1}\nc: *x\nd: {<<: *x, b: 2}\n",
        b"__use_yte__: true\n?if 1:\n  a: 1\n?else:\n  a: 2\n?if 2:\n  b: 1\n?else:\n  b: 2\n",
        b'{\n\t"training": {"seed": 1}\n}',
    ],
    ids=["bom", "aliases", "template", "json with tabs"],
)
def test_other_files_are_allowed(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / ("a.json" if content.startswith(b"{") else "a.yaml")
    path.write_bytes(content)
    check_file(path)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nope", "config: preset: 'nope' is not one of copied, own (the files of presets/)"),
        (None, "config: preset: 'gone' is not one of copied, own (the files of presets/)"),
        ([1], "config: preset: [1] is not one of copied, own (the files of presets/)"),
        ("copied", "{folder}/presets/copied.yaml: preset: 'own' is not the file's own name, copied"),
    ],
    ids=["nope", "none", "list", "copied"],
)
def test_a_preset_that_is_not_there_is_one_line(name: object, line: str, tmp_path: Path) -> None:
    (tmp_path / "presets").mkdir()
    for file, text in (("config", "preset: gone"), ("presets/own", "preset: own"), ("presets/copied", "preset: own")):
        (tmp_path / f"{file}.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        config_files(tmp_path, name)
    assert str(caught.value) == line.format(folder=tmp_path)
    assert config_files(tmp_path, "own") == (tmp_path / "config.yaml", tmp_path / "presets/own.yaml")


# The same through Snakemake


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
@pytest.mark.parametrize(
    ("text", "options", "line"),
    [
        (
            "training: {warmup: 3000}",
            ["--config", "preset=test"],
            f"config: training/warmup: 3000 is not allowed: {PART}",
        ),
        ("training: {seed: 1}\ntraining: {seed: 2}", [], "{file}: line 2: the key training is there twice"),
        (
            "fits: {seed: 1}",
            ["--config", "preset=nope"],
            "config: preset: 'nope' is not one of h100, laptop, paper, test, validation (the files of presets/)",
        ),
    ],
    ids=["value", "twice", "preset"],
)
def test_snakemake_says_the_line_before_any_job(text: str, options: list[str], line: str, tmp_path: Path) -> None:
    file = tmp_path / "over.yaml"
    file.write_text(text)
    done = snakemake("--dry-run", "--cores", "1", "figures", "--configfile", str(file), *options, cwd=tmp_path)
    assert done.returncode != 0
    assert line.format(file=file) in (done.stdout + done.stderr).splitlines()
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
@pytest.mark.parametrize(
    ("profile", "variable", "value", "line"),
    [
        ("slurm", "CLUSTER_MINUTES", "abc", "'abc' is not a whole number of minutes from 3 to 999999"),
        ("slurm", "CLUSTER_MINUTES", "-5", "'-5' is not a whole number of minutes from 3 to 999999"),
        ("slurm", "CLUSTER_GPU", "gpu:h100:4", "'gpu:h100:4' is not one type of GPU, such as h100"),
        (
            "profiles/gpu",
            "CUDA_VISIBLE_DEVICES",
            "0,x",
            "'x' is not the number of a GPU, or its GPU-... or MIG-... name",
        ),
    ],
    ids=["word", "negative", "gpu", "cards"],
)
def test_a_variable_of_a_profile_is_named(
    profile: str, variable: str, value: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    done = snakemake("--dry-run", "--profile", str(ROOT / profile), "plan", "--config", "preset=test", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {variable}: {line}"
    assert "Traceback" not in done.stderr
