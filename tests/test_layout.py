"""The rooms of the package: imports run one way, nothing imports a command, and the README's map is the tree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pipeline.plan.imports import imported

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pipeline"
FLOORS = (
    ("errors", "hashing", "style", "units"),
    ("files",),
    ("models", "corpora"),
    ("plan", "tokens"),
    ("engines",),
    ("train",),
    ("laws",),
    ("analysis",),
    ("figures", "claims"),
    ("power",),
    ("tables",),
    ("report",),
    ("gather", "evaluate", "fit", "lock"),
)
"""Each floor may import from those above it in this list, from itself no other room."""
COMMANDS = ("__main__", "gather", "evaluate", "fit", "lock")
LAWS = (("fitting",), ("formulas",), ("algebra",), ("command",))
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def parts(path: Path) -> list[str]:
    """Return the parts of a module's name, without the package's."""
    return [part for part in path.relative_to(PACKAGE).with_suffix("").parts if part != "__init__"]


def test_every_room_has_its_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.stem != "__init__" and path.name != "__pycache__"}
    assert rooms == set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(parts(path)))
def test_imports_run_one_way(path: Path) -> None:
    room = parts(path)[0]
    for name in imported(path, ROOT):
        if name == "pipeline":  # `from pipeline import style`: the module's own name is there too
            continue
        other = name.split(".")[1]
        assert other == room or FLOOR[other] < FLOOR[room], f"{name} is imported"
        command = name.split(".")[-1] == "__main__" or (name.count(".") == 1 and other in COMMANDS)
        assert not command, f"{name} is a command"


def test_the_parts_of_laws_run_one_way() -> None:
    order = {part: number for number, group in enumerate(LAWS) for part in group}
    for part in order:
        for path in (PACKAGE / "laws" / part).glob("*.py"):
            for name in imported(path, ROOT):
                inside = name.split(".")[1:]
                if inside[:1] == ["laws"]:
                    assert len(inside) > 1 and order.get(inside[1], 9) <= order[part], f"{path}: {name}"


def test_planning_needs_the_standard_library_only() -> None:
    """The Snakefile imports these each time it is read; `config` alone has the schema checker's own packages."""
    import sys

    for path in [*(PACKAGE / "plan").glob("*.py"), *(PACKAGE / "models").glob("*.py")]:
        if path.stem in ("config", "initial"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.split(".")[0] in {*sys.stdlib_module_names, "pipeline"}, f"{path}: {name}"


def test_the_readme_has_the_tree() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme[readme.index("    Snakefile       the path grammar") : readme.index("| to find | look in |")]
    inside = tree[tree.index("    pipeline/\n") + len("    pipeline/\n") : tree.index("    docs/ ")]
    said = {
        word.rstrip("/")
        for line in inside.splitlines()
        if re.match(r" {6}\w", line)
        for word in re.split(r" {2,}", line.strip())[0].split()
    }
    assert said == set(FLOOR)
    for folder in ("presets", "profiles", "slurm", "rules", "docs", "tests", "benchmarks"):
        assert f"{folder}/" in tree and (ROOT / folder).is_dir()
    for name in re.findall(r"`((?:pipeline|docs|rules)/[\w/.]+)`", readme):
        assert (ROOT / name).exists() or "NN" in name, name


def test_no_comment_points_to_a_page_that_is_not_here() -> None:
    for path in [*MODULES, *(ROOT / "rules").glob("*.smk"), ROOT / "config.yaml"]:
        for name in re.findall(r"\b(docs/[\w/]+\.\w+|[A-Z]{4,}\.md)\b", path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists() or name == "README.md", f"{path}: {name}"
