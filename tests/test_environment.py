"""environment.yml, pyproject.toml and requirements.lock describe one environment."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
NOT_PYTHON = {"python", "cxx-compiler"}


def conda():
    """Return name -> least version of environment.yml, under the names of the Python package index."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pairs = (re.fullmatch(r"(\S+)(?: >=([^\s,]+)\S*)?", line).groups() for line in listed)
    return {CONDA_NAMES.get(name, name): least for name, least in pairs if name not in NOT_PYTHON}


def project():
    """Return name -> least version of pyproject.toml, all extras included."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = chain.from_iterable(table["optional-dependencies"].values())
    listed = list(map(Requirement, [*table["dependencies"], *extras]))
    assert len({(one.name, str(one.specifier)) for one in listed}) == len({one.name for one in listed})
    return {one.name: next(part.version for part in one.specifier if part.operator == ">=") for one in listed}


def lock():
    """Return name -> exact version of requirements.lock."""
    return dict(line.lower().split("==") for line in (ROOT / "requirements.lock").read_text().split())


def test_conda_and_pyproject_ask_for_the_same():
    assert conda() == project()


def test_the_lock_holds_what_pyproject_allows():
    for name, least in project().items():
        assert Version(lock()[name]) >= Version(least), name


def test_torch_is_pinned_without_build_or_cuda_packages():
    assert lock()["torch"] == "2.13.0"
    assert not [name for name in lock() if name.startswith(("nvidia", "cuda", "triton"))]


@pytest.mark.xdist_group("of one")
def test_the_tests_of_a_group_stay_together(request):
    """They share what takes minutes to make; with some versions of pytest the mark has no effect."""
    if not request.config.getoption("loadgroup", False):
        pytest.skip("not distributed by groups")
    assert request.node.nodeid.endswith("@of one")
