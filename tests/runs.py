"""Real runs in processes of their own, with the smallest settings there are."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import tests.bars

HERE = pathlib.Path(__file__).parent.parent
SECONDS = 300  # until a run that does not end is given up

# 1,000 + 500 images, two epochs of a tiny network, and a gate that lets all pass.
SETTINGS = (
    *("data.limit=null", "train.epochs=2", "gate.elbo_floor=-100000"),
    *("gate.tolerance=100000", "gate.samples=1", "gate.iwae_samples=2"),
)


class Run:
    """A run that was started."""

    def __init__(self, process: subprocess.Popen):
        self.process = process
        self.printed = ""

    def wait_for(self, what: str) -> None:
        """Returns when a line with these words was printed."""
        for line in self.process.stdout:
            self.printed += line
            if what in line:
                return
        self.process.wait()
        raise AssertionError(f"no line with {what!r} in:\n{self.printed}")

    def end(self) -> int:
        """Returns the exit code when the run has ended."""
        try:
            rest, _ = self.process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.printed += rest
        return self.process.returncode

    def kill(self, how: int = signal.SIGKILL) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(how)
        return self.end()


@dataclasses.dataclass(frozen=True)
class Place:
    """A root, its data and where it pushes to."""

    path: pathlib.Path

    @property
    def root(self) -> pathlib.Path:
        return self.path / "runs"

    @property
    def data(self) -> pathlib.Path:
        return self.path / "data"

    @property
    def destination(self) -> pathlib.Path:
        return self.root / "serving" / "vae"

    def write_source(self) -> str:
        """Returns a new folder of IDX files."""
        tests.bars.write_idx(self.path / "bars", labels=range(10))
        return str(self.path / "bars")

    def command(self, *settings: str, options=(), command: str = "run") -> list[str]:
        """Returns the command of a run."""
        flags = [part for one in (*SETTINGS, *settings) for part in ("--set", one)]
        return [
            *(sys.executable, "-m", "pipeline", command, "--preset", "smoke"),
            *("--dataset", "bars", *flags, "--root", str(self.root)),
            *("--data-dir", str(self.data), *options),
        ]

    def start(self, *settings: str, options=(), command="run", **environment) -> Run:
        """Starts a run."""
        process = subprocess.Popen(
            self.command(*settings, options=options, command=command),
            cwd=HERE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )
        return Run(process)

    def run(self, *settings: str, code: int = 0, **others) -> str:
        """Runs to the end, and returns what was printed."""
        run = self.start(*settings, **others)
        actual = run.end()
        assert actual == code, f"exit code {actual}, expected {code}:\n{run.printed}"
        return run.printed


def seconds(block) -> float:
    """Returns how long a call takes."""
    started = time.monotonic()
    block()
    return time.monotonic() - started
