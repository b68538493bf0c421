"""The command line under attack: each command in a process of its own, with limits.

Importing TensorFlow and TFX takes most of a command's time. One process makes the
imports and does nothing else, and each command is a fork of that process. So a command
that crashes ends its own process only, and its memory is measured from the fork on.
"""

import contextlib
import dataclasses
import functools
import gc
import http.client
import json
import logging
import multiprocessing
import os
import pathlib
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

_IMPORTED = [
    "tests",
    "model",
    "pipeline.cli.main",
    "pipeline.local.runner",
    "pipeline.kubeflow.compiler",
    "pipeline.kubeflow.client",
    "components.datasets.prepare_spans",
    "model.run_fn",
    __name__,
]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(_IMPORTED)

SECONDS = 60  # after which a command is killed; a busy machine is slow
PRINTED = 6_000  # bytes that a refusal may print
_ADDRESS_SPACE = 3 * 1024**3  # bytes that a command may map beside the imports


def _kilobytes(name: str) -> int:
    """Returns a field of this process's status, such as VmHWM, the peak of its RSS."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1])


def _main(work, folder, environment, measured, output):
    """Does some work in the forked process, with its output in files."""
    gc.freeze()  # garbage collection must not search the imports
    for stream in (1, 2):
        os.dup2(os.open(f"{output}.{stream}", os.O_WRONLY | os.O_CREAT), stream)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    # The fork server has the environment and the folder of the first test.
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    os.chdir(folder)
    limit = _kilobytes("VmSize") * 1024 + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _kilobytes("VmRSS")
    try:
        code = work()
    finally:
        facts = {
            "megabytes": (_kilobytes("VmHWM") - before) / 1024,
            "cpu": time.process_time(),
        }
        pathlib.Path(measured).write_text(json.dumps(facts), encoding="ascii")
        sys.stdout.flush()
    sys.exit(code)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command did.

    Attributes:
      code: the exit code; the negative number of a signal; None: it had to be killed.
      out: standard output.
      err: standard error.
      seconds: wall time.
      cpu: processor time in seconds, which is the same on a busy machine.
      megabytes: the growth of the resident memory at its peak.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    cpu: float
    megabytes: float

    @property
    def printed(self) -> str:
        """Returns all output with its folded lines joined."""
        return re.sub(r"\s+", " ", self.out + self.err)


def command(*arguments: object, **options) -> Outcome:
    """Runs a command in a process of its own and returns what it did.

    Args:
      arguments: the words of the command line.
      options: arguments of `run`.
    """
    return run(_run_command, [str(word) for word in arguments], **options)


def read_pickle(path: pathlib.Path, **options) -> Outcome:
    """Reads the pickle of MNIST's wheel in a process of its own, as `data` does."""
    return run(_read_pickle, str(path), **options)


def _run_command(arguments: list[str]) -> int:
    from pipeline.cli import main

    return main.main(arguments)


def command_with_debug_logs(*arguments: object, **options) -> Outcome:
    """Runs a command with each library's logger at its most verbose level."""
    return run(_run_with_debug_logs, [str(word) for word in arguments], **options)


def _run_with_debug_logs(arguments: list[str]) -> int:
    import requests  # noqa: F401, for its loggers
    import s3fs  # noqa: F401

    http.client.HTTPConnection.debuglevel = 1
    logging.addLevelName(1, "ALL")
    names = [*logging.root.manager.loggerDict, "http.client", "urllib3.connectionpool"]
    for name in names:
        logging.getLogger(name).setLevel(1)
        logging.getLogger(name).disabled = False
    return _run_command(arguments)


def _read_pickle(path: str) -> int:
    from components.datasets import mnist_wheel
    from model.errors import PipelineError
    from pipeline.exit_codes import find_exit_code

    try:
        mnist_wheel.read_pickle(path)
    except PipelineError as error:
        print(error)
        return find_exit_code(error)
    return 0


def run(
    work: Callable[[Any], int],
    argument: Any,
    *,
    folder: pathlib.Path,
    environment: dict[str, str] | None = None,
    seconds: float = SECONDS,
) -> Outcome:
    """Calls a function in a process of its own and returns what it did.

    Args:
      work: the function, which returns the exit code.
      argument: its argument.
      folder: the working folder.
      environment: variables to set in addition to those of the test.
      seconds: after this time the process is killed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        output, measured = f"{scratch}/output", pathlib.Path(scratch, "megabytes")
        process = _forks.Process(
            target=_main,
            args=(
                functools.partial(work, argument),
                str(folder),
                {**os.environ, "COLUMNS": "200", **(environment or {})},
                str(measured),
                output,
            ),
        )
        process.start()
        started = time.monotonic()
        process.join(seconds)
        took = time.monotonic() - started
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        texts = []
        for stream in (1, 2):
            path = pathlib.Path(f"{output}.{stream}")
            data = path.read_bytes() if path.exists() else b""
            texts.append(data.decode(errors="backslashreplace"))
        facts = {"megabytes": float("nan"), "cpu": float("nan")}
        if measured.exists():
            facts = json.loads(measured.read_text(encoding="ascii"))
        process.close()
    return Outcome(code=code, out=texts[0], err=texts[1], seconds=took, **facts)


def check_refused(outcome: Outcome, *words: str, code: int = 2, megabytes=300) -> None:
    """Asserts that a command refused its input in words and within its limits.

    Args:
      outcome: what the command did.
      words: texts that its output must contain.
      code: the expected exit code.
      megabytes: the expected maximum of the memory's growth.
    """
    shown = f"{outcome.out[-3000:]}\n{outcome.err[-3000:]}"
    assert outcome.code == code, f"exit code {outcome.code}, expected {code}:\n{shown}"
    assert "Traceback" not in shown, shown
    for word in words:
        assert word in outcome.printed, f"{word!r} is not in:\n{shown}"
    size = len(outcome.out) + len(outcome.err)
    assert size <= PRINTED, f"printed {size} bytes:\n{shown[:2000]}"
    controls = sorted(set(re.findall(r"[\0-\x08\x0b-\x1f\x7f\x9b]", shown)))
    assert not controls, f"printed {controls}"
    assert outcome.megabytes < megabytes, f"took {outcome.megabytes:.0f} MB"


def processes_with(text: str) -> list[int]:
    """Returns the ids of the processes with a text in their command line."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found
