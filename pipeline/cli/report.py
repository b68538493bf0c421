"""The command `report`: writes the HTML report of a local run again."""

import dataclasses
import pathlib
import sys
import webbrowser

import click

from pipeline.cli import options
from pipeline.cli.command import command
from pipeline.exit_codes import OK

_DESCRIPTION = """\
Makes the report of a local run again, from metadata and what its Report step left: one
HTML page that needs no network, and its pictures as PNG, in ROOT/reports/RUN. `run` has
made it already, of a model that the gate refused too."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """The options of `report`."""

    root: str
    run: str | None
    open: bool


@command(
    description=_DESCRIPTION,
    examples=["report --open", "report --run run-20261123-180015-785816"],
)
@options.root_option("where all state of local runs is")
@click.option(
    "--run",
    metavar="ID",
    show_default="the last one that has a report",
    help="the run, as its log in ROOT/logs is named",
)
@click.option("--open", is_flag=True, help="show the page in the browser")
def report(args: ReportOptions) -> int:
    """Writes a run's HTML report and prints its path; returns the exit code.

    With --open, shows the report in the browser.
    """
    options.check_encoding(args.root)
    from pipeline.local import run_report

    page = run_report.make(pathlib.Path(args.root).absolute(), args.run)
    print(page)
    if args.open and not webbrowser.open(page.as_uri()):
        print("vae-pipeline: there is no browser here to open it", file=sys.stderr)
    return OK
