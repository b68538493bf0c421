"""The commands `versions` and `rollback`: what is served, and going back."""

import argparse
import dataclasses
import datetime
import json
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.cli import options, tables
from pipeline.cli.options import EXIT_CODES, FAILED, OK
from pipeline.config import loading

_VERSIONS = """\
Lists what is at push.destination, or else in ROOT/serving, the newest first: the
version, when it was pushed (UTC), its ELBO, the data it was trained on, its size, and
its state. Served is the newest version whose files are those of its manifest: it is the
next run's baseline. All files are read."""

_ROLLBACK = """\
Makes an older version the served one. Its files are pushed again, under a new, highest
number, which model servers load as they load any; nothing is removed. Who did it, when
and why is kept in its manifest. The model that was served is noted beside the versions,
and is never pushed there again. The next run's baseline is the model gone back to."""


def add_commands(commands: Any) -> None:
    """Adds the commands to what argparse's `add_subparsers` gave."""
    listing = commands.add_parser(
        "versions",
        help="list what was pushed, and what is served",
        description=_VERSIONS,
        epilog="such as:\n"
        "  vae-pipeline versions\n"
        "  vae-pipeline versions --set push.destination=s3://models/serving --json\n\n"
        f"{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listing.add_argument("--json", action="store_true", help="for machines")
    options.add_settings_options(listing)
    listing.set_defaults(command=_versions, is_result_printed=True)

    rollback = commands.add_parser(
        "rollback",
        help="make an older version the served one",
        description=_ROLLBACK,
        epilog="such as:\n"
        "  vae-pipeline rollback --reason 'sevens look like ones'\n"
        "  vae-pipeline rollback 1795457098 --reason 'sevens look like ones'\n\n"
        f"{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rollback.add_argument(
        "version",
        nargs="?",
        type=int,
        metavar="VERSION",
        help="the version to go back to (default: the newest intact one before what is "
        "served that holds another model and was not rolled back from)",
    )
    rollback.add_argument(
        "--reason", required=True, metavar="TEXT", help="why; it is kept"
    )
    options.add_settings_options(rollback)
    rollback.set_defaults(command=_rollback)


@dataclasses.dataclass(frozen=True)
class Row:
    """What is told of a version; the names are those of --json, and stay."""

    version: int
    path: str  # or the URI
    pushed_at: str | None  # ISO 8601, UTC: what its number says
    state: str  # served, older or damaged
    damage: str | None  # in words
    elbo: float | None  # nats per image, higher is better
    estimate: str | None  # how, in words
    data_fingerprint: str | None
    bytes: int
    rejected: dict | None  # if its model was rolled back from: by, why, at, ...
    rolled_back: dict | None  # if it repeats an older one: from, to, by, why, at


def rows(destination: str) -> list[Row]:
    """Returns what is told of each version, the newest first.

    Raises:
      ValueError: in words, when the destination or a record there can't be read.
    """
    from components.evaluation.estimate import Estimate
    from components.registry import listing, rolling_back

    records = rolling_back.read_rejected_models(destination)
    result: list[Row] = []
    for found in listing.list_versions(destination):
        size = listing.count_bytes(destination, found.number)
        if isinstance(found, listing.DamagedVersion):
            result.append(_damaged(found, size))
            continue
        manifest = found.manifest
        notes = [r for r in records if r.is_of(found.digest, manifest.singleprint)]
        estimate = Estimate.from_manifest(manifest)
        has_images = estimate is not None and estimate.images is not None
        rolled_back = manifest.rolled_back
        newest = all(row.state == "damaged" for row in result)
        result.append(
            Row(
                version=found.number,
                path=found.path,
                pushed_at=_time(found.number),
                state="served" if newest else "older",
                damage=None,
                elbo=manifest.elbo,
                estimate=estimate.describe() if estimate and has_images else None,
                data_fingerprint=manifest.data_fingerprint,
                bytes=size,
                rejected=dataclasses.asdict(notes[0]) if notes else None,
                rolled_back=rolled_back.to_content() if rolled_back else None,
            )
        )
    return result


def _damaged(found: Any, size: int) -> Row:
    return Row(
        version=found.number,
        path=found.path,
        pushed_at=_time(found.number),
        state="damaged",
        damage=found.why,
        elbo=None,  # its manifest may be of other files
        estimate=None,
        data_fingerprint=None,
        bytes=size,
        rejected=None,
        rolled_back=None,
    )


def _versions(args: argparse.Namespace) -> int:
    destination = options.destination(args, options.resolve(args))
    try:
        with options.slow_named():
            found = rows(destination)
    except ValueError as error:  # of ours, in words
        print(f"vae-pipeline: {error}", file=sys.stderr)
        return FAILED
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in found], indent=2))
    elif not found:
        print(f"nothing was pushed to {destination}")
    else:
        _print(destination, found)
    return OK


def _rollback(args: argparse.Namespace) -> int:
    destination = options.destination(args, options.resolve(args))
    reason = args.reason.strip()
    if not reason:
        raise loading.ConfigError("--reason must say why, it is kept: got nothing")
    from components.registry import rolling_back

    try:
        with options.slow_named():
            version = rolling_back.roll_back(destination, args.version, why=reason)
    except rolling_back.RollbackError as error:
        raise loading.ConfigError(str(error)) from error
    except (ValueError, OSError) as error:
        print(f"vae-pipeline: {error}", file=sys.stderr)
        return FAILED
    print(f"version {version.number} {rolling_back.describe_origin(version)}")
    print(f"it is what is served from {destination}, and the next run's baseline")
    return OK


def _print(destination: str, found: Sequence[Row]) -> None:
    columns = {
        **{"version": "left", "pushed (UTC)": "left", "ELBO": "right"},
        **{"data": "left", "MB": "right", "state": "fold"},
    }
    rows = [
        (
            str(row.version),
            (row.pushed_at or "")[:19].replace("T", " "),
            tables.Elbo(row.elbo, row.estimate),
            (row.data_fingerprint or "")[:8],
            f"{row.bytes / 1e6:.1f}",
            _state(row),
        )
        for row in found
    ]
    priorities = ("version", "state", "ELBO", "pushed (UTC)", "data", "MB")
    tables.show(columns, rows, title=destination, priorities=priorities)


def _state(row: Row) -> str:
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


def _time(number: int) -> str | None:
    try:
        zone = datetime.timezone.utc
        return datetime.datetime.fromtimestamp(number, zone).isoformat()
    except (ValueError, OverflowError, OSError):  # another's number is no time
        return None
