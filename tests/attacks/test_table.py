"""The table in docs/reference/attacks.md: each line and its number of attacks."""

import collections
import pathlib

import pytest

PAGE = pathlib.Path(__file__).parents[2] / "docs/reference/attacks.md"
FILES = sorted(path.name for path in pathlib.Path(__file__).parent.glob("test_*.py"))


@pytest.mark.attacks
@pytest.mark.line("this table")
def test_the_page_has_each_line_with_its_number_of_attacks(request):
    items = request.session.items
    collected = {item.path.name for item in items}
    if not collected.issuperset(FILES) or request.config.option.keyword:
        pytest.skip("not all attacks are collected")
    counts = collections.Counter(
        item.get_closest_marker("line").args[0] for item in items
    )
    del counts["this table"]
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in PAGE.read_text(encoding="utf-8").splitlines()
        if row.startswith("|")
    ]
    assert {row[0]: row[1] for row in rows[2:]} == {
        **{name: f"{count}" for name, count in counts.items()},
        "in all": f"{counts.total()}",
    }
