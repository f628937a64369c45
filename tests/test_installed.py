"""The installed command: a wheel holds the laws and what they import, and works without the workflow's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.laws.command.cli import main
from pipeline.plan.imports import code_files

ROOT = Path(__file__).parents[1]
WORKFLOW = ("datasets", "psutil", "safetensors", "snakemake", "tokenizers", "torch", "yaml", "pipeline")
EXTRAS = ("matplotlib", "pyarrow")


def test_the_list_of_what_is_installed_is_what_the_laws_import() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    paths = list((ROOT / "pipeline" / "laws").rglob("*.py"))
    assert {name.replace("scaling_laws", "pipeline") for name in table["packages"]} == {
        ".".join(path.relative_to(ROOT).parent.parts) for path in paths
    }
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "pipeline/laws").rglob("*.py")
    ]
    needed = {Path(path).relative_to(ROOT) for name in modules for path in code_files(name.removesuffix(".__init__"))}
    ground = {path.stem for path in needed if path.parent == Path("pipeline")} - {"__init__"}
    assert {name.removeprefix("scaling_laws.") for name in table["py-modules"]} == ground
    assert {path.parts[1] for path in needed if len(path.parts) > 2} == {"laws"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built elsewhere: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "LICENSE", "docs/laws.md"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(folder)], check=True, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture
def installed(wheel: Path, tmp_path: Path):
    """A function that runs the installed command in a folder of its own, without some packages."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]
    subprocess.run([*command, str(tmp_path / "site"), str(wheel)], check=True)

    def run(*arguments: str, without: tuple[str, ...] = WORKFLOW) -> subprocess.CompletedProcess[str]:
        missing = tmp_path / "missing"
        missing.mkdir(exist_ok=True)
        for name in without:
            (missing / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name}', name={name!r})\n")
        paths = os.pathsep.join(map(str, (missing, tmp_path / "site")))
        script = tmp_path / "site" / "bin" / "scaling-laws"
        environment = os.environ | {"PYTHONPATH": paths}
        return subprocess.run(
            [str(script), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def points(tmp_path: Path) -> Path:
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 5)))
    loss = (1.7 + 400 / n**0.34 + 410 / d**0.28) * np.exp(0.003 * np.random.default_rng(0).normal(size=25))
    pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss}).to_csv(tmp_path / "points.csv", index=False)
    return tmp_path / "points.csv"


@pytest.mark.slow
def test_a_wheel_claims_its_own_name_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"scaling_laws"}
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("METADATA"))).decode()
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra" not in line]
    assert [line.split()[1].split(">")[0] for line in required] == ["numpy", "pandas", "scipy"]


@pytest.mark.slow
def test_the_installed_command_says_what_the_checkout_says(installed, points: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(points.parent)
    commands = (
        ["fit", "chinchilla", "points.csv", "--n-boot", "40", "--out", "fit.json", "--json"],
        ["predict", "fit.json", "--n-params", "1e10", "--n-tokens", "1e11"],
        ["predict", "fit.json", "--input", "points.csv", "--output", "predicted.jsonl"],
        ["allocate", "fit.json", "--flops", "1e21"],
        ["compare", "points.csv", "--laws", "chinchilla,L_N_D", "--folds", "3"],
    )
    for arguments in commands:
        done = installed(*arguments, without=(*WORKFLOW, *EXTRAS))
        assert main(arguments) == 0
        printed = capsys.readouterr()
        assert (done.returncode, done.stdout, done.stderr) == (0, printed.out, printed.err), arguments


@pytest.mark.slow
def test_the_help_and_the_errors_call_it_by_its_name(installed) -> None:
    assert installed("--help").stdout.startswith("usage: scaling-laws ")
    assert installed("refit").stderr.endswith("(see scaling-laws --help)\n")


@pytest.mark.slow
def test_a_package_that_is_not_there_is_named_by_what_needs_it(installed, points: Path) -> None:
    fit = ["fit", "chinchilla", str(points), "--n-boot", "0"]
    done = installed(*fit, "--plot", "fit.png", without=(*WORKFLOW, *EXTRAS))
    said = "error: --plot fit.png: needs matplotlib, which is not installed (pip install matplotlib)\n"
    assert (done.returncode, done.stderr) == (2, said)
    points.with_suffix(".parquet").write_bytes(b"PAR1")
    done = installed("fit", "chinchilla", "points.parquet", without=(*WORKFLOW, *EXTRAS))
    assert (done.returncode, done.stderr.count("needs pyarrow")) == (2, 1)
