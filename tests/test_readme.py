"""The README's generated parts are those of the last results, and were not typed over."""

import re
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.readme import PARTS, fill

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_equals_its_file(part):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- begin: {part} -->\n(.*?)\n<!-- end: {part} -->", readme, re.DOTALL)
    assert found[1] == (ROOT / f"docs/laptop/{part}.md").read_text(encoding="utf-8").strip()


def test_pictures_of_the_readme_are_there():
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL):
        assert (ROOT / picture).is_file()


def test_missing_marks_are_named():
    with pytest.raises(UserError, match="begin: x"):
        fill("nothing", {"x": "new"})
