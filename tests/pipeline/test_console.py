"""The lines and the closing table of a run, on terminals of every width."""

import re

import pytest

from pipeline.console import Console
from tests.support.terminals import joined_cells, printed_on


@pytest.mark.parametrize("length", range(80, 240, 8))
def test_a_long_path_is_folded_and_keeps_its_end(length, tmp_path, capfd):
    path = "/" + "a" * (length - 2) + "z"
    console = Console(str(tmp_path / "log"))
    try:
        console.table("Result", [("report", path), ("next", "b" * 100)])
    finally:
        console.close()
    assert path in re.sub(r"[\s│]", "", capfd.readouterr().out)


CLOSING = """
import sys, time
from pipeline.console import Console
from model.training.progress import Progress
console = Console(sys.argv[1] + "/log")
values = {"elbo": -148.62, "eval_elbo": -1099.38, "images_per_second": 1551.4}
values["has_epoch_ends"] = True
progress = Progress(
    epoch=1, epochs=5, step=859, steps=4295, seconds_left=142.4, **values
)
with console.step("Trainer") as line:
    line.show_training(progress, 10)
    time.sleep(0.2)  # the live display draws ten times a second
    line.print_result("a model of 10.5 MB")
rows = [
    ("candidate's ELBO", "-12290.47 nats per image (higher is better)"),
    ("baseline's ELBO", "-88.36 (version 1795457098); difference -12202.11"),
    ("verdict", "REFUSED: ELBO -12290.47 must be at least the floor, -100.00"),
    ("seconds in all", "86399.9"),
]
console.table("Result", rows)
console.close()
"""


@pytest.mark.parametrize("columns", [40, 50, 60, 80, 120, 200])
def test_a_run_shows_whole_numbers_and_the_gate_decision(tmp_path, columns):
    code, printed = printed_on(columns, "-c", CLOSING, str(tmp_path))
    assert code == 0, printed
    assert "…" not in printed
    live, closing = printed.split("Result")
    for number in ("-148.62", "-1099.38", "1,551", "images/s", "142", "10.5"):
        assert number in live.replace("\r", "")
    text = " ".join(row[1] for row in joined_cells(closing))
    assert text == (
        "-12290.47 nats per image (higher is better) -88.36 (version 1795457098); "
        "difference -12202.11 REFUSED: ELBO -12290.47 must be at least the floor, "
        "-100.00 86399.9"
    )


def test_control_characters_are_shown_as_escapes(tmp_path, capfd):
    screen = Console(str(tmp_path / "a.log"))
    try:
        screen.line("a\x1b[2Jb")
        screen.print_to_stderr("c\x07d")
        screen.table("title", [("name", "e\x9bf")])
    finally:
        screen.close()
    out, err = capfd.readouterr()
    assert "a\\x1b[2Jb" in out
    assert "e\\x9bf" in out
    assert err == "c\\x07d\n"
