"""The one root of the errors that people see."""


class PipelineError(Exception):
    """Something that a user can mend; its text says what is wrong and what to do.

    The command line prints the text without a traceback. Other exceptions are faults of
    the program: their traceback goes to the log. A leaf can be rebuilt from its `args`,
    because Beam and pickle carry it to another process.

    Attributes:
      is_bad_input: whether a setting, an argument or a file that the user gave is
        wrong, as against work that failed: these have different exit codes.
    """

    is_bad_input = False
