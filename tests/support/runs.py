"""Real pipeline runs, each in its own process, with the smallest possible settings.

Importing TensorFlow and TFX takes most of a small run's time. One process makes the
imports and does nothing else, and each run is a fork of that process.
"""

import contextlib
import dataclasses
import errno
import gc
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback

from components.registry import listing
from tests.support import bars

SECONDS = 600  # maximum for a run, which is then killed

# 1,000 train and 500 test images, two epochs of a tiny network, and a gate that blesses
# every model.
SETTINGS = (
    *("data.limit=null", "train.epochs=2", "gate.elbo_floor=-100000"),
    *("gate.tolerance=100000", "gate.samples=1", "gate.iwae_samples=2"),
)

# `model` comes before TensorFlow, for which it chooses Keras 2.
_IMPORTED = [
    "tests",
    "model",
    "pipeline.cli.main",
    "pipeline.local.runner",
    "model.run_fn",
    __name__,
]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(_IMPORTED)


def _time_out(signum, frame):
    """Handles a signal: a step fails with a time-out, as if a library had raised it."""

    def raise_in_executor(frame, event, arg):
        # The signal comes shortly before the step's work or during it.
        stack = (caller.f_code.co_name for caller, _ in traceback.walk_stack(frame))
        if event == "call" and "_run_executor" in stack:  # a function of TFX's launcher
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    sys.setprofile(raise_in_executor)  # the exception removes the profile function


def _main(argv, output, environment):
    """Runs the command line in the forked process, with its output in a file."""
    gc.freeze()  # garbage collection must not search the imports
    from pipeline.cli import main

    signal.signal(signal.SIGUSR1, _time_out)

    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    # The fork server has the environment of the first test.
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(main.main(argv))


class Run:
    """A run that has been started, and the file of its output."""

    def __init__(self, argv, environment):
        # The file is removed with this object.
        self._output = tempfile.NamedTemporaryFile(suffix="-run")  # noqa: SIM115
        self.process = _forks.Process(
            target=_main, args=(argv, self._output.name, environment)
        )
        self.process.start()

    @property
    def printed(self) -> str:
        return pathlib.Path(self._output.name).read_text(encoding="utf-8")

    def last_step(self) -> str:
        """Returns the step that started last."""
        return re.findall(r"^(\w+) +\.\.\.$", self.printed, re.MULTILINE)[-1]

    def wait_for(self, pattern: str) -> re.Match:
        """Returns the first match of a regular expression in the run's output."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            ended = not self.process.is_alive()
            match = re.search(pattern, self.printed, re.MULTILINE)
            if match:
                return match
            if ended:
                break
            time.sleep(0.005)
        self.kill()
        raise AssertionError(f"no {pattern!r} in:\n{self.printed}")

    @contextlib.contextmanager
    def stopped(self):
        """Stops the process during the `with` block, so that no step ends meanwhile."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> int:
        """Waits for the run's end and returns its exit code."""
        self.process.join(SECONDS)
        if self.process.is_alive():
            self.kill()
            raise AssertionError(f"no end in {SECONDS} s:\n{self.printed}")
        return self.process.exitcode

    def kill(self, how: int = signal.SIGKILL) -> int:
        """Sends a signal, waits for the end, and returns the exit code."""
        if self.process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, how)
        return self.end()


@dataclasses.dataclass(frozen=True)
class Place:
    """A root, its data folder and its push destination."""

    path: pathlib.Path

    @property
    def root(self) -> pathlib.Path:
        return self.path / "runs"

    @property
    def data(self) -> pathlib.Path:
        return self.path / "data"

    @property
    def source(self) -> pathlib.Path:
        return self.path / "bars"

    @property
    def destination(self) -> pathlib.Path:
        return self.root / "serving" / "vae"

    def write_source(self) -> None:
        """Writes the IDX files from which the data set is prepared."""
        bars.write_idx(self.source, labels=range(10))

    def start(self, *settings: str, options=(), command="run", **environment) -> Run:
        """Starts a run.

        Args:
          settings: SECTION.FIELD=VALUE, in addition to the smallest settings.
          options: further options of the command line.
          command: the command to run in place of `run`.
          environment: variables to set, or with None to remove.
        """
        flags = [part for one in (*SETTINGS, *settings) for part in ("--set", one)]
        argv = [
            *(command, "--preset", "smoke", "--dataset", "bars", *flags),
            *("--root", str(self.root), *options),
        ]
        if command != "prune":  # `prune` reads no data
            argv += ["--data-dir", str(self.data)]
        wanted = {**os.environ, **environment}
        return Run(argv, {name: v for name, v in wanted.items() if v is not None})

    def run(self, *settings: str, code: int = 0, **others) -> str:
        """Runs a command, asserts its exit code, and returns what it printed."""
        run = self.start(*settings, **others)
        actual = run.end()
        assert actual == code, f"exit code {actual}, expected {code}:\n{run.printed}"
        return run.printed

    def push(self, code: int = 0, **others) -> str:
        """Repeats a run whose model was trained but not pushed; returns its output."""
        return self.run("train.seed=1", code=code, **others)

    def served(self) -> listing.Version:
        """Returns the served version; asserts that its files match its manifest."""
        version = listing.find_served_version(str(self.destination))
        assert version is not None
        listing.verify_version(version)
        return version

    def newest(self, step: str, key: str) -> pathlib.Path:
        """Returns the folder of a step's newest artifact."""
        folders = (self.root / "artifacts" / step / key).iterdir()
        return max(folders, key=lambda folder: int(folder.name))


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """Makes the target folder a copy of the source, with times and links."""
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
