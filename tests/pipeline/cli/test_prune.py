"""The command `prune`, with metadata as TFX writes them."""

import pytest

from pipeline.cli import main
from pipeline.runs import lock
from tests.support.metadata_root import MetadataRoot


@pytest.fixture
def root(tmp_path):
    return MetadataRoot(tmp_path / "runs")


def command(root, *arguments):
    return main.main(["prune", *map(str, arguments), "--root", str(root.path)])


def test_the_command_prints_what_it_removes(root, capsys):
    for _ in range(2):
        root.whole_run()
    old, new = root.push("one"), root.push("two")
    before = root.snapshot()
    assert command(root, "--keep", 1, "--dry-run") == 0
    dry = capsys.readouterr().out.splitlines()
    assert root.snapshot() == before
    assert command(root, "--keep", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == dry[:-1]
    assert lines == [
        f"     0.1 MB  1 version at {root.destination}: {old.number}",
        "     2.0 MB  2 outputs of Pusher, Trainer that no kept run uses",
        "     0.0 MB  2 logs of older runs",
        f"versions that are kept: {new.number}",
        "2.1 MB freed",
    ]
    assert dry[-1] == "2.1 MB would be freed"
    assert command(root, "--keep", 1) == 0
    assert capsys.readouterr().out.splitlines() == [
        "nothing to remove",
        f"versions that are kept: {new.number}",
        "0.0 MB freed",
    ]


@pytest.mark.parametrize("keep", ["0", "-1"])
def test_at_least_one_stays(root, capsys, keep):
    assert command(root, "--keep", keep) == 2
    assert f"--keep must be at least 1, got {keep}" in capsys.readouterr().err


def test_a_root_that_is_not_there(tmp_path, capsys):
    assert main.main(["prune", "--keep", "1", "--root", str(tmp_path / "no")]) == 2
    message = f"--root must be the folder of earlier runs, got {tmp_path / 'no'}"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_root_that_a_run_is_using(root, capsys):
    before = root.snapshot()
    with lock.hold_lock(root.path, should_wait=False, print_line=print):
        assert command(root, "--keep", 1) == 1
    assert f"another run is using {root.path}" in capsys.readouterr().err
    assert root.snapshot() == before
