"""The temporary files of a process: none remains, however the process ends."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading

import pytest

from pipeline.cli import main
from pipeline.startup import temporary_folder
from tests.support import bars

# Leaves a folder and a module in the temporary folder, as TFDS and AutoGraph do.
LEAVE = """
import importlib.util, os, pathlib, subprocess, sys, tempfile
from model.training import signals
from pipeline.startup import temporary_folder
with signals.interrupt_on_signals(), temporary_folder.use_own_folder():
    tempfile.mkdtemp("tfds")
    code = "import tempfile; tempfile.mkdtemp()"
    subprocess.run([sys.executable, "-c", code], check=True)
    path = pathlib.Path(tempfile.gettempdir(), "generated.py")
    path.write_text("x = 1", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("generated", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert (path.parent / "__pycache__").exists()
    print(path.parent, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def parent(tmp_path, monkeypatch):
    """Returns an empty folder, which is set as the folder for temporary files."""
    path = tmp_path / "temporary (1)"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    return path


def started():
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVE],
        cwd=pathlib.Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    return process, pathlib.Path(process.stdout.readline().strip())


@pytest.mark.parametrize("end", [None, signal.SIGINT, signal.SIGTERM])
def test_a_process_that_ends_leaves_no_folder(parent, end):
    process, folder = started()
    assert folder.parent == parent
    assert len(list(folder.iterdir())) == 4
    if end is not None:
        process.send_signal(end)
    process.communicate("", timeout=30)
    assert (process.returncode == 0) == (end is None)
    assert list(parent.iterdir()) == []


def test_the_next_process_removes_the_folder_of_a_killed_one(parent):
    others = parent / "vae-pipeline.txt"
    others.touch()
    (running, of_running), (killed, of_killed) = started(), started()
    killed.kill()
    killed.communicate()
    assert of_killed.exists()
    with temporary_folder.use_own_folder():
        own = pathlib.Path(tempfile.gettempdir())
        assert set(parent.iterdir()) == {own, of_running, others}
    running.communicate("")
    assert list(parent.iterdir()) == [others]


@pytest.mark.parametrize("name", ["main", "2", "20261130", "12345678.zip", "x.tmp"])
def test_a_folder_with_a_similar_name_is_not_removed(parent, name):
    clone = parent / f"vae-pipeline-{name}"
    clone.mkdir()
    (clone / "README.md").touch()
    with temporary_folder.use_own_folder():
        pass
    assert (clone / "README.md").exists()


def test_the_previous_settings_are_restored(parent):
    with pytest.raises(ZeroDivisionError), temporary_folder.use_own_folder():
        assert tempfile.gettempdir() == os.environ["TMPDIR"] != str(parent)
        raise ZeroDivisionError
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(parent)


def test_processes_that_start_at_once_leave_each_other_their_folders(
    parent, monkeypatch
):
    barrier, missing = threading.Barrier(4), []

    def make():
        barrier.wait()
        for _ in range(50):
            temporary_folder._remove_abandoned_folders(parent)
            folder, lock = temporary_folder._create_folder(parent)
            if not folder.exists():
                missing.append(folder)
            os.close(lock)

    monkeypatch.setattr(threading, "excepthook", lambda hook: missing.append(hook))
    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []


def test_a_command_works_without_a_folder_for_temporary_files(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert main.main(["history", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no run yet below {tmp_path}\n"


def test_preparing_data_leaves_nothing(parent, tmp_path):
    bars.write_idx(tmp_path / "bars", labels=range(10))
    command = [
        *(sys.executable, "-m", "pipeline", "data", "--dataset", "bars"),
        *("--source", str(tmp_path / "bars"), "--root", str(tmp_path / "runs")),
        *("--data-dir", str(tmp_path / "data")),
    ]
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout.decode()
    assert list(parent.iterdir()) == []
