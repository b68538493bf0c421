"""The command `versions`: lists the pushed versions and which one is served."""

import dataclasses
import datetime
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pipeline.cli import options, tables
from pipeline.cli.command import command
from pipeline.cli.command_console import get_result_code, log_slow_work_to_stderr

if TYPE_CHECKING:
    from components.registry.listing import DamagedVersion

_DESCRIPTION = """\
Lists the versions at push.destination or, if that setting is empty, in ROOT/serving,
newest first. Each row has the version, the time of its push (UTC), its ELBO (nats per
image), the fingerprint of its training data, its size (MB) and its state. The served
version is the newest version whose files match its manifest; it is the baseline of the
next run. The command reads all files of the versions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VersionsOptions(options.Settings):
    """The options of `versions`."""

    json: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A version as the command shows it.

    The fields' names are keys of --json, so they must not change.
    """

    version: int
    path: str  # path or URI
    pushed_at: str | None  # ISO 8601, UTC; read from the number
    state: str  # served, older or damaged
    damage: str | None  # what is wrong with its files
    elbo: float | None  # nats per image, higher is better
    estimate: str | None  # how the ELBO was estimated
    independent_pixels: float | None  # their log-likelihood, nats per image
    data_fingerprint: str | None
    bytes: int
    # The rollback from this model: who made it, when and why. None: there is none.
    rejected: dict[str, object] | None
    # The rollback that made this version: from, to, by, why, at. None: there is none.
    rolled_back: dict[str, object] | None


@command(
    description=_DESCRIPTION,
    examples=[
        "versions",
        "versions --set push.destination=s3://models/serving --json",
    ],
)
@click.option("--json", is_flag=True, help="Print JSON instead of a table.")
@options.settings_options
def list_versions(args: VersionsOptions) -> int:
    """Prints the pushed versions as a table or JSON; returns the exit code."""
    destination = options.destination(args, options.resolve(args))
    with log_slow_work_to_stderr():
        rows = read_rows(destination)
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    elif not rows:
        print(f"nothing was pushed to {destination}")
    else:
        _print_table(destination, rows)
    return get_result_code()


def read_rows(destination: str) -> list[Row]:
    """Returns a row for each version at a destination, the newest version first.

    Raises:
      StorageError: the object store does not answer.
      RejectionError: the record of a rollback can't be read.
    """
    from components.evaluation.estimate import Estimate
    from components.registry import listing, rolling_back

    records = rolling_back.read_rejected_models(destination)
    result: list[Row] = []
    for found in listing.list_versions(destination):
        size = listing.count_bytes(destination, found.number)
        if isinstance(found, listing.DamagedVersion):
            result.append(_damaged_row(found, size))
            continue
        manifest = found.manifest
        rejections = [
            r for r in records if r.has_identity(found.digest, manifest.singleprint)
        ]
        estimate = Estimate.from_manifest(manifest)
        has_images = estimate is not None and estimate.images is not None
        rolled_back = manifest.rolled_back
        is_served = all(row.state == "damaged" for row in result)
        result.append(
            Row(
                version=found.number,
                path=found.path,
                pushed_at=_push_time(found.number),
                state="served" if is_served else "older",
                damage=None,
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
        state="damaged",
        damage=found.why,
        elbo=None,
        estimate=None,
        independent_pixels=None,
        data_fingerprint=None,
        bytes=size,
        rejected=None,
        rolled_back=None,
    )


def _print_table(destination: str, rows: Sequence[Row]) -> None:
    columns = {
        "version": "left",
        "pushed (UTC)": "left",
        "ELBO": "right",
        tables.INDEPENDENT_PIXELS: "right",
        "data": "left",
        "MB": "right",
        "state": "fold",
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
        )
        for row in rows
    ]
    priorities = (
        *("version", "state", "ELBO", "pushed (UTC)", "data", "MB"),
        tables.INDEPENDENT_PIXELS,
    )
    tables.show(columns, cells, title=destination, priorities=priorities)


def _describe_state(row: Row) -> str:
    """Returns a text with a version's state and the rollbacks to or from its model."""
    parts = [row.state if row.damage is None else f"damaged: {row.damage}"]
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
