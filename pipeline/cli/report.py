"""The command `report`: writes the page of a local run again, and shows it."""

import argparse
import pathlib
import sys
import webbrowser

from pipeline.cli import options
from pipeline.exit_codes import OK

_DESCRIPTION = """\
Makes the report of a local run again, from metadata and what its Report step left: one
HTML page that needs no network, and its pictures as PNG, in ROOT/reports/RUN. `run` has
made it already, of a model that the gate refused too."""


def add_command(commands: options.Commands) -> None:
    """Adds the command `report` to the command line."""
    parser = commands.add_parser(
        "report",
        help="make a run's report again, and show it",
        description=_DESCRIPTION,
        epilog="such as:\n"
        "  vae-pipeline report --open\n"
        "  vae-pipeline report --run run-20261123-180015-785816\n\n"
        f"{options.EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_root_option(parser, "where all state of local runs is")
    parser.add_argument(
        "--run",
        metavar="ID",
        help="the run, as its log in ROOT/logs is named (default: the last one that "
        "has a report)",
    )
    parser.add_argument(
        "--open", action="store_true", help="show the page in the browser"
    )
    parser.set_defaults(command=report)


def report(args: argparse.Namespace) -> int:
    """Writes the page of a run and prints its path; returns the exit code."""
    options.check_encoding(args)
    from pipeline.local import run_report

    page = run_report.make(pathlib.Path(args.root).absolute(), args.run)
    print(page)
    if args.open and not webbrowser.open(page.as_uri()):
        print("vae-pipeline: there is no browser here to open it", file=sys.stderr)
    return OK
