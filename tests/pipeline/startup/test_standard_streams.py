"""Readers that close early, closed streams, and text that cannot be encoded."""

import json
import os
import pathlib
import shlex
import subprocess
import sys

import pytest

from pipeline.runs import run_record
from pipeline.startup import standard_streams
from tests.support.records import make_pushed_record

ROOT = pathlib.Path(__file__).parents[3]
PROGRAM = os.path.join(os.path.dirname(sys.executable), "vae-pipeline")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns a root with so many runs that their list does not fit into a pipe."""
    root = tmp_path_factory.mktemp("runs")
    run_record.write(root, make_pushed_record())
    (file,) = (root / "history").iterdir()
    for number in range(101, 180):
        content = {**json.loads(file.read_text()), "run_id": f"run-{number}"}
        file.with_stem(f"run-{number}").write_text(json.dumps(content))
    return root


def shell(line, **environment):
    """Runs a line in bash, where $P is the program; returns the result."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; P={shlex.quote(PROGRAM)}; {line}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_a_list_whose_reader_leaves_ends_quietly(runs):
    head = shell(f"$P history -n 0 --json --root {runs} | head -1")
    assert (head.returncode, head.stdout, head.stderr) == (141, "[\n", "")
    none = shell(f"$P history --root {runs} | true")
    assert (none.returncode, none.stderr) == (141, "")
    whole = shell(f"$P history -n 0 --json --root {runs} | cat")
    assert (whole.returncode, len(json.loads(whole.stdout))) == (0, 80)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_count_as_dev_null(runs, closed):
    result = shell(f"$P history --root {runs} {closed}")
    assert (result.returncode, result.stderr) == (0, "")
    assert (result.stdout == "") == (">&-" in closed.split())


def test_what_is_printed_to_closed_streams_is_in_no_file(tmp_path):
    result = shell(
        f"$P data --dataset x --source {tmp_path} --data-dir {tmp_path}/d "
        f"--root {tmp_path}/r >&- 2>&- <&-"
    )
    assert (result.returncode, result.stderr) == (2, "")
    (log,) = (tmp_path / "r" / "logs").iterdir()
    assert "x: reading it from" not in log.read_text()


def test_a_command_continues_when_its_reader_leaves(tmp_path):
    from tests.support import bars

    bars.write_idx(tmp_path / "bars", labels=range(10))
    result = shell(
        f"$P data --dataset bars --source {tmp_path}/bars --data-dir {tmp_path}/d "
        f"--root {tmp_path}/r | true"
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "d/bars/1.0.0/dataset_info.json").exists()


@pytest.mark.parametrize("arguments", ["history --root {runs}", "--version", "--help"])
def test_a_full_disk_is_named_once(runs, arguments):
    result = shell(f"$P {arguments.format(runs=runs)} >/dev/full")
    assert result.returncode == 1
    assert result.stderr == (
        "vae-pipeline: [Errno 28] No space left on device; free some space, then run "
        "the same command again\n"
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_what_the_encoding_lacks_is_escaped(runs, tmp_path, environment):
    result = shell(f"$P history -n 2 --root {runs}", **environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.isascii()
    folder = tmp_path / "é"
    folder.mkdir()
    result = shell(
        f"$P data --dataset x --source {tmp_path} --data-dir {folder} --root {folder}",
        **environment,
    )
    assert result.returncode == 2
    assert f"the whole log: {tmp_path}" in result.stdout
    assert result.stdout.isascii()


def test_other_errors_are_raised_once(tmp_path):
    with open("/dev/full", "wb", buffering=0) as full:
        raw = standard_streams.Output(full.fileno())
        with pytest.raises(OSError, match="No space left"):
            raw.write(b"lost")
        assert raw.write(b"lost too") == 8
        assert raw.is_lost
    reader, writer = os.pipe()
    file = standard_streams.open_output(writer)
    file.write("a line\n")
    assert os.read(reader, 100) == b"a line\n"
    assert not standard_streams.is_lost(file)
    os.close(reader)
    file.write("a line\n")
    assert standard_streams.is_lost(file)
    file.close()
    os.close(writer)
