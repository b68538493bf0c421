"""The command `versions`: lists the pushed versions and which one is served."""

import dataclasses
import datetime
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from model.errors import escape_controls
from pipeline.cli import options, tables
from pipeline.cli.command import command, command_group
from pipeline.cli.command_console import get_result_code, log_slow_work_to_stderr
from pipeline.cli.option_types import Number
from pipeline.config import loading
from pipeline.exit_codes import OK, find_exit_code

if TYPE_CHECKING:
    from components.registry.listing import DamagedVersion
    from components.registry.signatures import Verifier

_DESCRIPTION = """\
Lists the versions at push.destination or, if that setting is empty, in ROOT/serving,
newest first. Each row has the version, the time of its push (UTC), its ELBO (nats per
image), the fingerprint of its training data, its size (MB) and its state. The served
version is the newest version whose files match its manifest and, if push.verify is set,
that its key has signed; it is the baseline of the next run. The command reads all files
of the versions. `retire` takes a version out of service and out of every later
rollback."""

_RETIRE = """\
Takes VERSION out of service and out of every later rollback.

No command serves a retired version, measures against it or rolls back to it, and no run
pushes its model again. Its files stay, and a record beside the versions has the user,
the time and the reason. The served version cannot be retired: roll back first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VersionsOptions(options.Settings):
    """The options of `versions`."""

    span: int | None
    json: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetireOptions(options.Settings):
    """The options of `versions retire`."""

    version: int
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A version as the command shows it.

    The fields' names are keys of --json, so they must not change.
    """

    version: int
    path: str  # path or URI
    pushed_at: str | None  # ISO 8601, UTC; read from the number
    state: str  # served, older, damaged or retired
    damage: str | None  # what is wrong with its files
    retired: str | None  # who retired it, when and why
    spans: list[int]  # numbers of the spans that its model was trained on
    run: str | None  # id of the run that pushed it; None: ROOT has no record of it
    elbo: float | None  # nats per image, higher is better
    estimate: str | None  # how the ELBO was estimated
    independent_pixels: float | None  # their log-likelihood, nats per image
    data_fingerprint: str | None
    bytes: int
    # The rollback from this model: who made it, when and why. None: there is none.
    rejected: dict[str, object] | None
    # The rollback that made this version: from, to, by, why, at. None: there is none.
    rolled_back: dict[str, object] | None


@command_group(
    description=_DESCRIPTION,
    examples=[
        "versions",
        "versions --span 7",
        "versions retire 1795457098 --why 'trained on a wrong span'",
        "versions --set push.destination=s3://models/serving --json",
    ],
)
@click.option(
    "--span",
    type=Number(int, least=0),
    metavar="N",
    show_default="all versions",
    help="List only the versions whose model was trained on this span, and their runs.",
)
@click.option("--json", is_flag=True, help="Print JSON instead of a table.")
@options.settings_options
def list_versions(args: VersionsOptions) -> int:
    """Prints the pushed versions as a table or JSON; returns the exit code."""
    from components.registry import version_numbers

    resolved = options.resolve(args)
    destination = options.destination(args, resolved)
    with log_slow_work_to_stderr():
        verifier = resolved.push.signing.load_verifier(destination)
        rows = read_rows(destination, root=pathlib.Path(args.root), verifier=verifier)
        for message in version_numbers.describe_ignored_names(destination):
            print(f"vae-pipeline: {escape_controls(message)}", file=sys.stderr)
    if args.span is not None and rows:
        rows = [row for row in rows if args.span in row.spans]
        if not rows and not args.json:
            print(f"no version at {destination} has seen span {args.span}")
            return get_result_code()
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    elif not rows:
        print(f"nothing was pushed to {destination}")
    else:
        _print_table(destination, rows, has_runs=args.span is not None)
    return get_result_code()


@command(
    description=_RETIRE,
    examples=["versions retire 1795457098 --why 'trained on a wrong span'"],
)
@click.argument("version", type=Number(int), metavar="VERSION")
@click.option(
    "--why",
    required=True,
    metavar="REASON",
    help="Reason, which the record beside the versions states.",
)
@options.settings_options
def retire(args: RetireOptions) -> int:
    """Takes a version out of service; returns the exit code."""
    destination = options.destination(args, options.resolve(args))
    why = args.why.strip()
    if not why:
        raise loading.ConfigError(
            "--why must be a text, which the record states; got nothing"
        )
    from components.registry import retirement, retiring

    try:
        with log_slow_work_to_stderr():
            retiring.retire_version(destination, args.version, why=why)
    except OSError as error:
        print(f"vae-pipeline: {error}", file=sys.stderr)
        return find_exit_code(error)
    print(
        f"version {args.version} is retired: nothing serves it, measures against it or "
        "rolls back to it"
    )
    print(
        f"to bring it back, remove {retirement.record_name(args.version)} in "
        f"{destination}"
    )
    return OK


list_versions.add_command(retire)


def read_rows(
    destination: str, *, root: pathlib.Path, verifier: "Verifier | None" = None
) -> list[Row]:
    """Returns a row for each version at a destination, the newest version first.

    Args:
      destination: folder or URI of the versions.
      root: the root, whose run records name the runs that pushed the versions.
      verifier: verifies the signatures, as in `listing.list_versions`.

    Raises:
      StorageError: the object store does not answer.
      RejectionError: the record of a rollback can't be read.
    """
    from components.evaluation.estimate import Estimate
    from components.registry import listing, rolling_back
    from pipeline.runs import run_record

    records = rolling_back.read_rejected_models(destination)
    runs = {record.version: record.run_id for record in run_record.read_all(root)[0]}
    result: list[Row] = []
    for found in listing.list_versions(destination, verifier=verifier):
        size = listing.count_bytes(destination, found.number)
        if isinstance(found, listing.DamagedVersion):
            row = _damaged_row(found, size)
            result.append(dataclasses.replace(row, run=runs.get(found.number)))
            continue
        manifest = found.manifest
        rejections = [
            r for r in records if r.has_identity(found.digest, manifest.singleprint)
        ]
        estimate = Estimate.from_manifest(manifest)
        has_images = estimate is not None and estimate.images is not None
        rolled_back = manifest.rolled_back
        is_served = not any(row.state in ("served", "older") for row in result)
        result.append(
            Row(
                version=found.number,
                path=found.path,
                pushed_at=_push_time(found.number),
                state="served" if is_served else "older",
                damage=None,
                retired=None,
                spans=list(manifest.spans or ()),
                run=runs.get(found.number),
                elbo=manifest.elbo,
                estimate=estimate.describe() if estimate and has_images else None,
                independent_pixels=manifest.independent_pixels,
                data_fingerprint=manifest.data_fingerprint,
                bytes=size,
                rejected=dataclasses.asdict(rejections[0]) if rejections else None,
                rolled_back=rolled_back.to_content() if rolled_back else None,
            )
        )
    return result


def _damaged_row(found: "DamagedVersion", size: int) -> Row:
    """Returns the row of a damaged version, without figures from its manifest.

    The manifest may describe other files.
    """
    return Row(
        version=found.number,
        path=found.path,
        pushed_at=_push_time(found.number),
        state="retired" if found.is_retired else "damaged",
        damage=None if found.is_retired else found.why,
        retired=found.why if found.is_retired else None,
        spans=list(found.spans),
        run=None,
        elbo=None,
        estimate=None,
        independent_pixels=None,
        data_fingerprint=None,
        bytes=size,
        rejected=None,
        rolled_back=None,
    )


def _print_table(destination: str, rows: Sequence[Row], *, has_runs: bool) -> None:
    columns = {
        "version": "left",
        "pushed (UTC)": "left",
        "ELBO": "right",
        tables.INDEPENDENT_PIXELS: "right",
        "data": "left",
        "MB": "right",
        "state": "fold",
        **({"spans": "fold", "run": "fold"} if has_runs else {}),
    }
    cells = [
        (
            str(row.version),
            (row.pushed_at or "")[:19].replace("T", " "),
            tables.Elbo(row.elbo, row.estimate),
            tables.format_nats(row.independent_pixels),
            (row.data_fingerprint or "")[:8],
            f"{row.bytes / 1e6:.1f}",
            _describe_state(row),
            *((", ".join(map(str, row.spans)), row.run or "") if has_runs else ()),
        )
        for row in rows
    ]
    priorities = (
        *(("run", "spans") if has_runs else ()),
        *("version", "state", "ELBO", "pushed (UTC)", "data", "MB"),
        tables.INDEPENDENT_PIXELS,
    )
    tables.show(columns, cells, title=destination, priorities=priorities)


def _describe_state(row: Row) -> str:
    """Returns a text with a version's state and the rollbacks to or from its model."""
    parts = [row.state if row.damage is None else f"damaged: {row.damage}"]
    parts += [row.retired] if row.retired else []
    if record := row.rolled_back:
        parts.append(
            f"version {record['to']} again, in place of {record['from']}: by "
            f"{record['by']} ({record['why']})"
        )
    if record := row.rejected:
        by = f" by {record['by']} ({record['why']})"
        if record["version"] == row.version:
            parts.append(f"rolled back from{by}")
        else:
            parts.append(f"the model of {record['version']}, rolled back from{by}")
    return "; ".join(parts)


def _push_time(number: int) -> str | None:
    """Returns the time that a version's number encodes, in ISO 8601, or None."""
    try:
        zone = datetime.timezone.utc
        return datetime.datetime.fromtimestamp(number, zone).isoformat()
    except (ValueError, OverflowError, OSError):  # a number that another program chose
        return None
