"""The exit codes of the program, and the one-line cause of an exception."""

from model.errors import PipelineError
from pipeline.startup.environment import BAD_INPUT as BAD_INPUT

OK = 0
FAILED = 1
REFUSED = 3  # the gate refused the model
INTERRUPTED = 130  # the code that a shell gives for SIGINT: 128 + 2
UNREAD = 141  # the code that a shell gives for SIGPIPE: 128 + 13


def find_exit_code(error: BaseException) -> int:
    """Returns the exit code for an exception that ended the program."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, PipelineError) and error.is_bad_input:
        return BAD_INPUT
    return FAILED


def describe_cause(error: BaseException) -> str:
    """Returns one line that describes the root cause of an exception.

    This follows `__cause__` to the first PipelineError, whose message is written for
    people, or else to the last exception, and returns the first line of its message.
    The class name precedes the message of an exception that is no PipelineError.
    """
    while error.__cause__ is not None and not isinstance(error, PipelineError):
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    # Beam appends the name of the transform, which belongs in the log only.
    text = lines[0].split(" [while running")[0] if lines else ""
    if isinstance(error, PipelineError):
        return text
    return f"{type(error).__name__}: {text}"
