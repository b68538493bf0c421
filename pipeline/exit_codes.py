"""The program's exit codes, and the cause of an exception in one line."""

from model.errors import PipelineError
from pipeline.startup.environment import BAD_INPUT as BAD_INPUT

OK = 0
FAILED = 1
REFUSED = 3  # the gate refused the model
INTERRUPTED = 130  # a shell's code for a program that SIGINT ended
UNREAD = 141  # a shell's code for a program that SIGPIPE ended


def code_of(error: BaseException) -> int:
    """Returns the exit code of a program that an exception ended."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, PipelineError) and error.is_bad_input:
        return BAD_INPUT
    return FAILED


def cause(error: BaseException) -> str:
    """Returns the first line of what went wrong at the root of an exception.

    A PipelineError is that root, whatever caused it: its text is for people. The text
    of another exception follows the name of its class.
    """
    while error.__cause__ is not None and not isinstance(error, PipelineError):
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    # Beam adds where it was running; that is for the log.
    text = lines[0].split(" [while running")[0] if lines else ""
    if isinstance(error, PipelineError):
        return text
    return f"{type(error).__name__}: {text}"
