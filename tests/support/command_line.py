"""The options that arguments give, as the commands get them."""

from pipeline.cli import main


def parse(*arguments):
    """Returns the typed options of a command, which is not run."""
    return main.parse(arguments).keywords["args"]
