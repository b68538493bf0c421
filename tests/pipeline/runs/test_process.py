"""The end of a program and the identity of a process, with real processes."""

import dataclasses
import importlib.metadata
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from pipeline.runs import process

ROOT = str(pathlib.Path(__file__).parents[3])
BEGIN = """
import atexit, logging, pathlib, sys, tempfile, threading
from pipeline.runs import process
"""


def run(program, **options):
    return subprocess.run(
        [sys.executable, "-c", BEGIN + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_exit_handlers_run_and_threads_are_not_waited_for(tmp_path):
    result = run(
        f"""
class Graph:
    def __del__(self):
        print("garbage collected")

graph = Graph()
folder = tempfile.TemporaryDirectory(dir={str(tmp_path)!r})
threading.Thread(target=threading.Event().wait).start()  # ends never
atexit.register(lambda: print("at the end"))

def main():
    print("done")
    return 3

process.run_and_exit(main)
"""
    )
    assert (result.returncode, result.stderr) == (3, "")
    assert result.stdout == "done\nat the end\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("statement", "code", "printed"),
    [
        ("sys.exit(2)", 2, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('in words')", 1, "in words\n"),
        ("raise RuntimeError('a bug')", 1, "RuntimeError: a bug\n"),
    ],
)
def test_the_exit_code_is_the_one_that_python_gives(statement, code, printed):
    result = run(f"def main():\n    {statement}\nprocess.run_and_exit(main)")
    assert result.returncode == code
    assert result.stderr.endswith(printed)


def test_output_that_is_lost_is_a_failure():
    with open("/dev/full", "w", encoding="utf-8") as full:
        result = subprocess.run(
            [
                sys.executable,
                "-c",
                BEGIN + "process.run_and_exit(lambda: print('x') or 0)",
            ],
            stdout=full,
            timeout=60,
            check=False,
        )
    assert result.returncode == 1


def test_closed_standard_output_does_not_change_the_exit_code():
    command = 'exec "$0" -c "$1" >&-'
    program = BEGIN + "process.run_and_exit(lambda: 0)"
    result = subprocess.run(
        ["sh", "-c", command, sys.executable, program], timeout=60, check=False
    )
    assert result.returncode == 0


def test_the_installed_program_exits_this_way():
    (script,) = importlib.metadata.entry_points(
        group="console_scripts", name="vae-pipeline"
    )
    assert script.value == "pipeline.__main__:main"


def test_a_process_is_identified_by_more_than_its_id():
    this = process.current()
    assert not this.has_ended()
    assert dataclasses.replace(this, born="another boot 1").has_ended()
    assert not dataclasses.replace(this, host="elsewhere", born="").has_ended()
    child = subprocess.Popen(["sleep", "300"])
    born = process._read_start(child.pid)
    alive = process.Process(pid=child.pid, host=this.host, born=born)
    assert not alive.has_ended()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert alive.has_ended()  # a zombie
    child.wait()
    assert alive.has_ended()


def test_only_processes_with_the_variable_and_its_value_are_killed():
    value = f"of-{os.getpid()}"
    environments = [
        {"MARK": value},
        {"MARK": f"{value}-2"},
        {"MARK": ""},
        {"XMARK": value},
        {"OTHER": f"MARK={value}"},
    ]
    started = [subprocess.Popen(["sleep", "300"], env=each) for each in environments]
    try:
        process.kill_by_environment("MARK", value)
        assert started[0].wait(10.0) == -signal.SIGKILL
        assert [each.poll() for each in started[1:]] == [None] * 4
    finally:
        for each in started:
            each.kill()
            each.wait()


ORPHANS = """
import subprocess
with process.adopted_orphans() as kill:
    before = subprocess.Popen(["sleep", "60"])
with process.adopted_orphans() as kill:
    # Its parent has ended, and it has another session and no environment.
    text = "env -i setsid sh -c 'echo $$; exec sleep 60' & wait $!"
    shell = f"({text}) >pid & until [ -s pid ]; do sleep 0.01; done"
    subprocess.run(["sh", "-c", shell], check=True)
    orphan = int(pathlib.Path("pid").read_text())
    kill()
    print(process._read_start(orphan) == "", before.poll() is None)
before.kill()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
def test_orphans_are_killed_and_older_children_are_not(tmp_path):
    result = run(ORPHANS, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ROOT})
    assert (result.stdout, result.stderr) == ("True True\n", "")
