"""The program's exit codes, and the cause of an exception in one line."""

from pipeline.startup.environment import BAD_INPUT as BAD_INPUT

OK = 0
FAILED = 1
REFUSED = 3  # the gate refused the model
INTERRUPTED = 130  # a shell's code for a program that SIGINT ended
UNREAD = 141  # a shell's code for a program that SIGPIPE ended


def cause(error: BaseException) -> str:
    """Returns the first line of what went wrong at the root of an exception.

    A ValueError is that root, whatever it came from: ours say it in better words.
    """
    while error.__cause__ is not None and not isinstance(error, ValueError):
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    # Beam adds where it was running; that is for the log.
    text = lines[0].split(" [while running")[0] if lines else ""
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
