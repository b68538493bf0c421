"""The table that closes a run."""

import re

import pytest

from pipeline.console import Screen


@pytest.mark.parametrize("length", range(80, 240, 8))
def test_a_long_path_is_folded_and_keeps_its_end(length, tmp_path, capfd):
    path = "/" + "a" * (length - 2) + "z"
    screen = Screen(str(tmp_path / "log"))
    try:
        screen.table("What came of it", [("report", path), ("next", "b" * 100)])
    finally:
        screen.close()
    assert path in re.sub(r"[\s│]", "", capfd.readouterr().out)
