"""The base class of all errors whose message is shown to users."""

import re

# All control characters but tab and newline, and letters that are invisible or change
# the direction of a line. A terminal would execute or hide them.
INVISIBLE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)


def escape_controls(text: str) -> str:
    """Returns a text whose control characters are written as escapes such as \\x1b.

    Names of files and texts in files may contain what clears a terminal or changes its
    title. Tabs and newlines stay.
    """
    return INVISIBLE.sub(lambda match: ascii(match[0])[1:-1], text)


class PipelineError(Exception):
    """An error that a user can fix; its text says what is wrong and what to do.

    The command line prints the text without a traceback. Other exceptions are faults of
    the program: their traceback goes to the log. Every subclass can be rebuilt from its
    `args`, because Beam and pickle copy errors to another process.

    Attributes:
      is_bad_input: True if a setting, an argument or a file from the user is wrong;
        False if the work failed for another reason. The two have different exit codes.
    """

    is_bad_input = False

    def __str__(self) -> str:
        """Returns the message, whose control characters are escaped."""
        return escape_controls(super().__str__())
