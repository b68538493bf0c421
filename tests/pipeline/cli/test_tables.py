"""The tables of ELBOs on terminals of every width, printed by the real commands."""

import functools
import itertools
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest

from components.registry import rolling_back
from components.registry.manifest import Manifest
from pipeline.cli import tables
from pipeline.config.loading import decisive, resolve
from tests.support.places import FILES, write_model
from tests.support.pushes import push_next
from tests.support.records import keep_record
from tests.support.terminals import joined_cells, printed_on

COLUMNS = [40, 50, 60, 80, 120, 200]


class Root(NamedTuple):
    path: pathlib.Path
    pushed: list[int]
    printed: Callable[[str, int], str]  # (command, width of the terminal) -> output


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Returns a root with runs of every kind and versions in every state."""
    tmp_path = tmp_path_factory.mktemp("root")
    one = {"estimate": "the evidence lower bound, 4 samples of z per image"}
    two = {"estimate": "the evidence lower bound, 16 samples of z per image"}
    floor = "ELBO -12290.47 must be at least the floor, -10100.25 nats per image"
    keep_record(
        tmp_path, "run-1", 1, status="pushed", elbo=-271.25, version=1795457098, **one
    )
    keep_record(
        *(tmp_path, "run-2", 2),
        **dict(status="refused", elbo=-12290.47, difference=-12018.22, **two),
        refusals=[floor],
        fingerprint="5:0a,7:1b,8:2c",
        seconds=86_399.9,
    )
    error = "DataGate failed: the data are not what they should be"
    keep_record(tmp_path, "run-3", 3, status="bad_data", step="DataGate", error=error)
    destination = str(tmp_path / "serving" / "vae")
    pushed = []
    for name, elbo, samples in (("a", -91.67, 4), ("b", -1090.5, 16), ("c", -89, 4)):
        files = {**FILES, "saved_model.pb": name.encode()}
        manifest = {
            "elbo": {"elbo": elbo, "images": 10_000},
            "data_fingerprint": "0123456789abcdef",
            "config": decisive(resolve("demo", settings=[f"gate.samples={samples}"])),
        }
        model = write_model(tmp_path / "models" / name, files)
        pushed.append(
            push_next(
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
    # Each number is a number of the widest table: a part of it would be another number.
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
    # Unless the column is the last one, other cells come between the lines of this
    # cell.
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


def test_a_column_is_only_as_wide_as_its_text(tmp_path):
    keep_record(tmp_path, "run-1", 1, status="pushed", elbo=-271.25, version=1795457098)
    flags = ["-m", "pipeline", "history", "--root", str(tmp_path)]
    code, text = printed_on(80, *flags)
    assert code == 0
    (row,) = joined_cells(text)[1:]
    # With the frame it has 77 columns, and would have 84 with room to fold in.
    assert row == [
        "2026-11-23 18:00:01",
        "mnist",
        "-271.25",
        "",
        "pushed",
        "1795457098",
    ]
    assert "not shown for lack of width: wall; --json has all" in text


def test_control_characters_are_shown_as_escapes(capsys):
    tables.show({"a": "left"}, [("b\x1b[2J",)], priorities=["a"])
    assert "b\\x1b[2J" in capsys.readouterr().out
