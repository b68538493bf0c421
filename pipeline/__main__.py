"""The program `vae-pipeline`, which is also `python -m pipeline`."""

from typing import NoReturn

from pipeline import cli, process


def main() -> NoReturn:
    """Runs one command and ends the process."""
    process.leave(cli.main)


if __name__ == "__main__":
    main()
