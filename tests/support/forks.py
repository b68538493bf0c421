"""Processes that call a function without importing TensorFlow again.

The imports take most of a small training's time. One process makes the imports and does
nothing else; each process of this module is a fork of that process.
"""

import gc
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

# `model` comes before TensorFlow, for which it chooses Keras 2. TFX is not here: the
# trainings that the forks run do not need it.
_IMPORTED = ["tests", "model", "tests.support.training"]

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(_IMPORTED)


class Fork:
    """A process that calls a function; `stdout` is a stream of the process's output."""

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
    ):
        """Starts the process.

        Args:
          function: function of a module that a new process can import.
          arguments: the function's arguments, which pickle can serialize.
          environment: variables to set in addition to those of this process.
        """
        reader, writer = context.Pipe(duplex=False)
        wanted = {**os.environ, **(environment or {})}
        self._process = context.Process(
            target=_call, args=(writer, wanted, function, arguments)
        )
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
        reader.close()

    def send_signal(self, signum: int) -> None:
        """Sends a signal to the process."""
        os.kill(self._process.pid, signum)

    def kill(self) -> None:
        """Kills the process by SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the process to end; returns its exit code.

        The code is -N after signal N, and None if the process has not ended in time.
        """
        self._process.join(timeout)
        return self._process.exitcode


def _call(writer, environment, function, arguments):
    """Calls the function in the forked process, with its environment and output."""
    gc.freeze()  # garbage collection must not search the imports
    for stream in (sys.stdout, sys.stderr):
        os.dup2(writer.fileno(), stream.fileno())
    # The fork server has the environment of the first test.
    os.environ.clear()
    os.environ.update(environment)
    logging.getLogger().handlers.clear()
    function(*arguments)
