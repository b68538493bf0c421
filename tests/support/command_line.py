"""A parser of command lines that runs no command."""

from pipeline.cli import main


def parse(*arguments):
    """Returns the typed options that a command would get, without running it.

    Args:
      arguments: the command's name, and its arguments as texts.
    """
    return main.parse(arguments).keywords["args"]
