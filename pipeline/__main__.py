"""The program `vae-pipeline`, which is also `python -m pipeline`."""

from typing import NoReturn

from pipeline.runs import process
from pipeline.startup import environment


def main() -> NoReturn:
    """Prepares the environment, runs one command and ends the process."""
    process.leave(_run_command)


def _run_command() -> int:
    environment.prepare()  # before any library is imported
    from pipeline.cli import main

    return main.main()


if __name__ == "__main__":
    main()
