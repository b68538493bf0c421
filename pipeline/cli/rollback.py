"""The command `rollback`: makes an older version the served one."""

import argparse
import sys

from pipeline.cli import options
from pipeline.cli.command_console import log_slow_work_to_stderr
from pipeline.config import loading
from pipeline.exit_codes import OK, code_of

_DESCRIPTION = """\
Makes an older version the served one. Its files are pushed again, under a new, highest
number, which model servers load as they load any; nothing is removed. Who did it, when
and why is kept in its manifest. The model that was served is noted beside the versions,
and is never pushed there again. The next run's baseline is that older model."""


def add_command(commands: options.Commands) -> None:
    """Adds the command `rollback` to the command line."""
    parser = commands.add_parser(
        "rollback",
        help="make an older version the served one",
        description=_DESCRIPTION,
        epilog="such as:\n"
        "  vae-pipeline rollback --reason 'sevens look like ones'\n"
        "  vae-pipeline rollback 1795457098 --reason 'sevens look like ones'\n\n"
        f"{options.EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "version",
        nargs="?",
        type=int,
        metavar="VERSION",
        help="the version to go back to (default: the newest intact one before what is "
        "served that holds another model and was not rolled back from)",
    )
    parser.add_argument(
        "--reason", required=True, metavar="TEXT", help="why; it is kept"
    )
    options.add_settings_options(parser)
    parser.set_defaults(command=roll_back)


def roll_back(args: argparse.Namespace) -> int:
    """Makes an older version the served one; returns the exit code."""
    destination = options.destination(args, options.resolve(args))
    reason = args.reason.strip()
    if not reason:
        raise loading.ConfigError("--reason must say why, it is kept: got nothing")
    from components.registry import rolling_back

    try:
        with log_slow_work_to_stderr():
            version = rolling_back.roll_back(destination, args.version, why=reason)
    except OSError as error:
        print(f"vae-pipeline: {error}", file=sys.stderr)
        return code_of(error)
    print(f"version {version.number} {rolling_back.describe_origin(version)}")
    print(f"it is what is served from {destination}, and the next run's baseline")
    return OK
