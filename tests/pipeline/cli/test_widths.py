"""What is printed on terminals of every width: whole numbers, and what was decided."""

import functools
import itertools
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest

from components.registry import publish, rolling_back
from components.registry.manifest import Manifest
from pipeline.config.loading import decisive, resolve
from tests.pipeline.cli.test_history import keep
from tests.support.places import FILES, write_model
from tests.support.terminals import printed_on

COLUMNS = [40, 50, 60, 80, 120, 200]


class Root(NamedTuple):
    path: pathlib.Path
    pushed: list[int]
    printed: Callable[[str, int], str]  # by a command, on a terminal so wide


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root with runs of every kind and versions of every state."""
    tmp_path = tmp_path_factory.mktemp("root")
    one = {"estimate": "the evidence lower bound, 4 samples of z per image"}
    two = {"estimate": "the evidence lower bound, 16 samples of z per image"}
    floor = "ELBO -12290.47 must be at least the floor, -10100.25 nats per image"
    keep(
        tmp_path, "run-1", 1, verdict="pushed", elbo=-271.25, version=1795457098, **one
    )
    keep(
        *(tmp_path, "run-2", 2),
        **dict(verdict="refused", elbo=-12290.47, difference=-12018.22, **two),
        refusals=[floor],
        fingerprint="5:0a,7:1b,8:2c",
        seconds=86_399.9,
    )
    error = "DataGate failed: the data are not what they should be"
    keep(tmp_path, "run-3", 3, verdict="bad_data", step="DataGate", error=error)
    destination = str(tmp_path / "serving" / "vae")
    pushed = []
    for name, elbo, samples in (("a", -91.67, 4), ("b", -1090.5, 16), ("c", -89, 4)):
        files = {**FILES, "saved_model.pb": name.encode()}
        manifest = {
            "elbo": {"elbo": elbo, "images": 10_000},
            "data_fingerprint": "0123456789abcdef",
            "config": decisive(resolve("demo", None, [f"gate.samples={samples}"])),
        }
        model = write_model(tmp_path / "models" / name, files)
        pushed.append(
            publish.publish_version(
                model, destination=destination, manifest=Manifest.from_content(manifest)
            )
        )
    pathlib.Path(pushed[2].path, "saved_model.pb").unlink()
    rolling_back.roll_back(destination, None, why="blurred")

    @functools.cache
    def printed(command, columns):
        flags = ["-m", "pipeline", command, "--root", str(tmp_path)]
        code, text = printed_on(columns, *flags)
        assert code == 0, text
        return text

    return Root(tmp_path, [version.number for version in pushed], printed)


def joined_cells(printed):
    """Returns each row's cells as text; what is folded is joined by spaces."""
    rows = []
    for line in printed.splitlines():
        if line.startswith("├") or line.startswith("┡"):
            continue
        cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        if not cells:
            continue
        if rows and len(rows[-1]) == len(cells) and not cells[0]:
            rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells)]
        else:
            rows.append(cells)
    return rows


def numbers(text):
    return set(re.findall(r"[-+]?\d[\d.,]*", text))


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("command", ["history", "versions"])
def test_numbers_are_whole_and_what_is_left_out_is_named(root, command, columns):
    wide, printed = root.printed(command, 1000), root.printed(command, columns)
    assert "not shown" not in wide
    assert max(map(len, printed.splitlines())) <= columns
    assert "…" not in printed
    text = printed.split("not shown")[0].replace(str(root.path), "")
    # Each is one that the widest table has: a part of a number would be another.
    cells = itertools.chain.from_iterable(joined_cells(text))
    assert numbers(" ".join(cells)) <= numbers(wide)
    shown = re.split("[┃]", next(s for s in printed.splitlines() if "┃" in s))[1:-1]
    every = re.split("[┃]", next(s for s in wide.splitlines() if "┃" in s))[1:-1]
    missing = [name.strip() for name in every]
    for name in shown:
        missing.remove(name.strip())
    sentence = f"not shown for lack of width: {', '.join(missing)}; --json has all"
    assert (sentence in " ".join(printed.split())) == bool(missing)
    assert (columns < 200) or not missing


@pytest.mark.parametrize("columns", COLUMNS)
def test_history_has_the_gate_decision_and_the_elbo(root, columns):
    printed = root.printed("history", columns)
    text = " ".join(" ".join(row) for row in joined_cells(printed))
    for part in ("-12290.47 (1)", "-271.25 (2)", "pushed", "bad data in DataGate: "):
        assert part in text
    folded = "refused: ELBO -12290.47 must be at least the floor, -10100.25 nats per"
    # Other cells of its row come between its lines where it is not the last column.
    for word in folded.split():
        assert word in text


@pytest.mark.parametrize("columns", COLUMNS)
def test_versions_has_each_number_and_state(root, columns):
    pushed = root.pushed
    rows = joined_cells(root.printed("versions", columns))[1:]
    states = {int(row[0]): row[-1] for row in rows}
    assert set(pushed) < set(states)
    assert states[pushed[0]] == "older"
    assert states[pushed[1]].startswith("older; rolled back from by ")
    assert states[pushed[2]] == "damaged: saved_model.pb is missing"
    assert states[max(states)].startswith(f"served; version {pushed[0]} again, in ")


CLOSING = """
import sys, time
from pipeline.console import Screen
from model.training.progress import Progress
screen = Screen(sys.argv[1] + "/log")
values = {"elbo": -148.62, "eval_elbo": -1099.38, "images_per_second": 1551.4}
values["has_epoch_ends"] = True
progress = Progress(
    epoch=1, epochs=5, step=859, steps=4295, seconds_left=142.4, **values
)
with screen.step("Trainer") as line:
    line.training(progress, 10)
    time.sleep(0.2)  # the live display draws ten times a second
    line.done("a model of 10.5 MB")
rows = [
    ("candidate's ELBO", "-12290.47 nats per image (higher is better)"),
    ("baseline's ELBO", "-88.36 (version 1795457098); difference -12202.11"),
    ("verdict", "REFUSED: ELBO -12290.47 must be at least the floor, -100.00"),
    ("seconds in all", "86399.9"),
]
screen.table("What came of it", rows)
screen.close()
"""


@pytest.mark.parametrize("columns", COLUMNS)
def test_a_run_shows_whole_numbers_and_the_gate_decision(tmp_path, columns):
    code, printed = printed_on(columns, "-c", CLOSING, str(tmp_path))
    assert code == 0, printed
    assert "…" not in printed
    live, closing = printed.split("What came of it")
    for number in ("-148.62", "-1099.38", "1,551", "images/s", "142", "10.5"):
        assert number in live.replace("\r", "")
    text = " ".join(row[1] for row in joined_cells(closing))
    assert text == (
        "-12290.47 nats per image (higher is better) -88.36 (version 1795457098); "
        "difference -12202.11 REFUSED: ELBO -12290.47 must be at least the floor, "
        "-100.00 86399.9"
    )
