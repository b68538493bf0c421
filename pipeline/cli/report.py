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
Writes the report of a local run again, from the metadata and the output of the run's
Report step. The report is one HTML page that needs no network, with its pictures as PNG
files, in ROOT/reports/RUN. `run` writes the report, too, even if the gate refuses the
model."""


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
@options.root_option("Folder with all state of local runs.")
@click.option(
    "--run",
    metavar="ID",
    show_default="the last run that has a report",
    help="Id of the run, which is the name of its log in ROOT/logs.",
)
@click.option("--open", is_flag=True, help="Open the page in the browser.")
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
