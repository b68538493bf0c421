"""The program `vae-pipeline`, which is also `python -m pipeline`."""

from typing import NoReturn

from pipeline import environment, process


def main() -> NoReturn:
    """Prepares the environment, runs one command and ends the process."""
    process.leave(_run_command)


def _run_command() -> int:
    environment.prepare()  # before any library is imported
    from pipeline import cli

    return cli.main()


if __name__ == "__main__":
    main()
