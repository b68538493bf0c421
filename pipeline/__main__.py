"""The program `vae-pipeline`, which is also `python -m pipeline`."""

from typing import NoReturn

from pipeline.runs import process
from pipeline.startup import environment


def main() -> NoReturn:
    """Prepares the environment, runs the given command and ends the process."""
    process.run_and_exit(_run_command)


def _run_command() -> int:
    environment.prepare()  # must precede every import of a library
    from pipeline.cli import main

    return main.main()


if __name__ == "__main__":
    main()
