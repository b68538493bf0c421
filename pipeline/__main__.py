"""`vae-pipeline`, and `python -m pipeline`: the environment first, then the command."""

import sys

from pipeline import environment


def main() -> int:
    """Runs the command of this process's arguments and returns the exit code."""
    environment.prepare()
    from pipeline import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
