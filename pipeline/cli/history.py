"""The command `history`: lists the runs of a root and how each ended."""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pipeline.cli import options, tables
from pipeline.cli.command import command, literal
from pipeline.cli.command_console import get_result_code
from pipeline.cli.option_types import Number

if TYPE_CHECKING:
    from pipeline.runs.run_record import RunRecord

_DESCRIPTION = """\
Lists the runs below a root, newest first. Each row has the time of the run's start,
the data, the ELBO and its difference from the baseline's ELBO (both in nats per image),
the verdict, the version that the run pushed and the wall time."""

_EPILOG = """\
Verdicts:
  pushed        The gate blessed the model, and the model became the next version.
  unchanged     The gate blessed the model, but the same model was pushed before.
  refused       The gate refused the model.
  bad data      The data cannot be read, or are not the expected data.
  failed        The step that the verdict names failed.
  interrupted   SIGINT or SIGTERM interrupted the run.
  died          The process was killed, or the machine stopped, without a message.
  running       The run has not ended.

--json prints a list of objects. Their fields are those of ROOT/history/RUN.json, which
pipeline/runs/run_record.py defines; a field without a value is null. The names of the
fields do not change.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HistoryOptions:
    """The options of `history`."""

    root: str
    n: int
    json: bool


@command(description=_DESCRIPTION, epilog=literal(_EPILOG))
@options.root_option("Folder with the state of the runs to list.")
@click.option(
    "-n",
    type=Number(int, least=0),
    metavar="RUNS",
    default=20,
    help="Number of the newest runs to list; 0 lists all runs.",
)
@click.option("--json", is_flag=True, help="Print JSON instead of a table.")
def history(args: HistoryOptions) -> int:
    """Prints the newest runs of a root as a table or JSON; returns the exit code."""
    from pipeline.config import loading
    from pipeline.runs import run_record

    root = pathlib.Path(args.root)
    if not root.is_dir():
        raise loading.ConfigError(
            f"--root must be the folder of earlier runs, got {args.root}"
        )
    found, problems = run_record.read_all(root)
    for problem in problems:
        print(f"vae-pipeline: {problem}", file=sys.stderr)
    shown = found[: args.n or None]
    if args.json:
        print(json.dumps([run_record.to_dict(each) for each in shown], indent=2))
    elif not shown:
        print(f"no run yet below {args.root}")
    else:
        _print_table(shown)
        if len(shown) < len(found):
            print(f"{len(found) - len(shown)} older: -n 0 lists all")
    return get_result_code()


def _print_table(records: Sequence["RunRecord"]) -> None:
    columns = {
        "when": "left",
        "data": "left",
        "ELBO": "right",
        tables.INDEPENDENT_PIXELS: "right",
        "difference": "right",
        "verdict": "fold",
        "version": "right",
        "wall": "right",
    }
    rows = [
        (
            record.started[:19].replace("T", " "),
            _describe_data(record),
            tables.Elbo(record.elbo, record.estimate),
            tables.format_nats(record.independent_pixels),
            "" if record.difference is None else f"{record.difference:+.2f}",
            _describe_result(record),
            "" if record.version is None else str(record.version),
            "" if record.seconds is None else f"{record.seconds:.1f} s",
        )
        for record in records
    ]
    priorities = (
        *("verdict", "ELBO", "when", "version", "difference", "data", "wall"),
        tables.INDEPENDENT_PIXELS,
    )
    tables.show(columns, rows, priorities=priorities)


def _describe_data(record: "RunRecord") -> str:
    """Returns the name of a run's data set, and the numbers of its spans if any."""
    from components.datasets import span

    spans = span.parse_fingerprint(record.fingerprint or "")
    if not spans:
        return record.dataset
    return f"{record.dataset}, {span.describe_spans(spans)}"


def _describe_result(record: "RunRecord") -> str:
    """Returns a text that states how a run ended, in which step, and why."""
    text = record.status.value.replace("_", " ")
    if record.step:
        text += f" in {record.step}"
    why = "; ".join(record.refusals)
    if record.error and record.status != "interrupted":
        why = record.error.removeprefix(f"{record.step} failed: ")
    return f"{text}: {why}" if why else text
