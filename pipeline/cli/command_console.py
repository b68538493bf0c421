"""The console of a command with its log file, and the display of failures on it."""

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
from pipeline.exit_codes import OK, UNREAD, find_exit_code
from pipeline.startup import standard_streams

if TYPE_CHECKING:
    from pipeline.console import Console


@contextlib.contextmanager
def open_console(root: str, command: str) -> Iterator["Console"]:
    """Yields the console of a command, whose log is a new file in ROOT/logs.

    Creates the root if it does not exist. Logs the traceback of an unexpected error.

    Args:
      root: folder of the runs' state.
      command: name of the command, with which the name of the log begins.

    Raises:
      ConfigError: the root is not a folder that can be written to.
    """
    from model.files import filesystems
    from pipeline.console import Console

    # With microseconds: the log's name becomes the run's ID, and a run whose steps all
    # come from the cache takes less than a second.
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    log = pathlib.Path(root, "logs", f"{command}-{now}.log")
    try:
        # Any user may read the root: a model server may read versions below it. The
        # modes of other files come from the umask.
        filesystems.make_public_folder(os.path.abspath(root))
        console = Console(str(log.absolute()))
    except OSError as error:
        raise loading.ConfigError(
            f"--root must be a folder that can be written to, got {root}: "
            f"{error.strerror}"
        ) from error
    try:
        yield console
    except (PipelineError, OSError):  # faults of the input or the machine
        raise
    except Exception:
        logging.exception("%s failed", command)
        raise
    finally:
        console.close()


@contextlib.contextmanager
def log_slow_work_to_stderr() -> Iterator[None]:
    """Writes the log lines about slow work to standard error during the `with` block.

    It is for commands without a console.
    """
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


def fail_with(console: "Console", error: PipelineError) -> int:
    """Shows an error and the log's path on the console; returns its exit code."""
    return fail(console, str(error), code=find_exit_code(error))


def get_result_code(console: "Console | None" = None) -> int:
    """Returns the exit code of a command that has printed all of its result.

    The code is OK, or UNREAD if the reader of the output has closed it early. Only
    commands whose result is their output call this: the work of other commands is done
    even if nobody reads the output.

    Args:
      console: the console that the command printed to; None: standard output.
    """
    sys.stdout.flush()
    is_lost = console.is_output_lost if console else False
    return UNREAD if is_lost or standard_streams.is_lost(sys.stdout) else OK


def fail(console: "Console", message: str, *, code: int) -> int:
    """Shows an error message and the log's path on the console; returns `code`."""
    console.line(f"\nvae-pipeline: {message}")
    console.line(f"the whole log: {console.log_path}")
    return code
