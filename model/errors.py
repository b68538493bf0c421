"""The base class of all errors whose message is shown to users."""


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
