"""The one root of the errors that people see."""


class PipelineError(Exception):
    """Something that a user can mend; its text says what is wrong and what to do.

    The command line prints the text without a traceback. Other exceptions are faults of
    the program: their traceback goes to the log.
    """
