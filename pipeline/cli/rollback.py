"""The command `rollback`: makes an older version the served one."""

import dataclasses
import sys

import click

from pipeline.cli import options
from pipeline.cli.command import command
from pipeline.cli.command_console import log_slow_work_to_stderr
from pipeline.cli.option_types import Number
from pipeline.config import loading
from pipeline.exit_codes import OK, find_exit_code

_DESCRIPTION = """\
Makes an older version the served version again.

The command pushes the files of the older version again, under a new number that is the
highest. Model servers load this version as they load any other. The command removes
nothing. The manifest of the new version records the user, the time and the reason of
the rollback. A record beside the versions names the model that was served before, and
prevents a new push of this model. The older model is the baseline of the
next run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RollbackOptions(options.Settings):
    """The options of `rollback`."""

    version: int | None
    reason: str


@command(
    description=f"{_DESCRIPTION}\n\nVERSION is the version to serve again. The "
    "default is the newest intact version before the served version that holds another "
    "model and was not rolled back from.",
    examples=[
        "rollback --reason 'sevens look like ones'",
        "rollback 1795457098 --reason 'sevens look like ones'",
    ],
)
@click.argument("version", type=Number(int), required=False, metavar="[VERSION]")
@click.option(
    "--reason",
    required=True,
    metavar="TEXT",
    help="Reason for the rollback, which the manifest records.",
)
@options.settings_options
def roll_back(args: RollbackOptions) -> int:
    """Pushes an older version's files as the newest version; returns the exit code.

    Model servers then serve these files.
    """
    resolved = options.resolve(args)
    destination = options.destination(args, resolved)
    reason = args.reason.strip()
    if not reason:
        raise loading.ConfigError(
            "--reason must be a text, which the manifest records; got nothing"
        )
    from components.registry import rolling_back

    try:
        with log_slow_work_to_stderr():
            version = rolling_back.roll_back(
                destination,
                args.version,
                why=reason,
                single_writer=resolved.push.single_writer,
                signing=resolved.push.signing,
            )
    except OSError as error:
        print(f"vae-pipeline: {error}", file=sys.stderr)
        return find_exit_code(error)
    print(f"version {version.number} {rolling_back.describe_origin(version)}")
    print(f"it is now served from {destination}, and is the next run's baseline")
    return OK
