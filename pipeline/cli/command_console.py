"""The console of a command: where its lines, its log and its failures go."""

import contextlib
import datetime
import logging
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from model.errors import PipelineError
from pipeline.config import loading
from pipeline.exit_codes import OK, UNREAD, code_of
from pipeline.startup import standard_streams

if TYPE_CHECKING:
    from pipeline.console import Screen


@contextlib.contextmanager
def open_console(root: str, command: str) -> Iterator["Screen"]:
    """Gives the console of a command; its log is in the root's folder of logs.

    Args:
      root: the folder of the runs' state.
      command: the command's name.

    Raises:
      ConfigError: the root is no folder that can be written to.
    """
    from model.files import filesystems
    from pipeline.console import Screen

    # To the microsecond: it names the run, and a cached one takes less than a second.
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    log = pathlib.Path(root, "logs", f"{command}-{now}.log")
    try:
        # A model server may read versions below the root; other files have the umask's
        # modes.
        filesystems.make_public_folder(os.path.abspath(root))
        console = Screen(str(log.absolute()))
    except OSError as error:
        raise loading.ConfigError(
            f"--root must be a folder that can be written to, got {root}: "
            f"{error.strerror}"
        ) from error
    try:
        yield console
    except (PipelineError, OSError):  # of the user, or of the machine
        raise
    except Exception:
        logging.exception("%s failed", command)
        raise
    finally:
        console.close()


@contextlib.contextmanager
def log_slow_work_to_stderr() -> Iterator[None]:
    """Prints which work is slow to standard error, for a command without a console."""
    from model.training import progress

    handler = logging.StreamHandler(sys.stderr)
    level = progress.logger.level
    progress.logger.addHandler(handler)
    progress.logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        progress.logger.removeHandler(handler)
        progress.logger.setLevel(level)


def fail_with(console: "Screen", error: PipelineError) -> int:
    """Shows an error and where the log is; returns the error's exit code."""
    return fail(console, str(error), code=code_of(error))


def code_of_result(console: "Screen | None" = None) -> int:
    """Returns the exit code of a command that has printed all of its result.

    It is OK, or UNREAD if the reader left early. A command whose result is not what it
    prints has done its work even then, and does not call this.

    Args:
      console: what the command printed to; None for standard output.
    """
    sys.stdout.flush()
    is_lost = console.is_output_lost if console else False
    return UNREAD if is_lost or standard_streams.is_lost(sys.stdout) else OK


def fail(console: "Screen", message: str, *, code: int) -> int:
    """Shows why the command failed and where its log is; returns the exit code."""
    console.line(f"\nvae-pipeline: {message}")
    console.line(f"the whole log: {console.log_path}")
    return code
