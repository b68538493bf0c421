"""The command `prune`: removes old versions, and artifacts that nothing refers to."""

import dataclasses
import pathlib
import sys
from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from pipeline.cli.command import command
from pipeline.cli.option_types import Number
from pipeline.config import loading
from pipeline.exit_codes import OK, find_exit_code

if TYPE_CHECKING:
    from pipeline.local.unused_artifacts import Plan

_DESCRIPTION = """\
Removes old versions and the artifacts, logs and checkpoints that are no longer used.

Versions are at push.destination or, if that setting is empty, in ROOT/serving. The
newest K versions stay, and so do the served version and the baselines that the served
version and the last run were compared with. The records of rollbacks stay, too.

Below ROOT, the command keeps the files that were used by the last K runs that ended, by
any run after them, or by a run that made a version that stays. It removes the other
artifacts, logs and checkpoints, and the files that failed steps left behind. A later
run that needs a removed artifact from the cache makes the artifact again. The command
works only while no run uses ROOT."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneOptions(options.Settings):
    """The options of `prune`."""

    keep: int
    dry_run: bool


@command(
    description=_DESCRIPTION,
    examples=[
        "prune --keep 5 --dry-run",
        "prune --keep 5 --set push.destination=s3://models/serving",
    ],
)
@click.option(
    "--keep",
    type=Number(int, least=1),
    required=True,
    metavar="K",
    help="Number of the newest versions, and of the last ended runs, to keep.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print what the command would remove, and remove nothing.",
)
@options.settings_options
def prune(args: PruneOptions) -> int:
    """Removes old versions and unused artifacts; returns the exit code.

    Shows them first. With --dry-run, removes nothing.
    """
    resolved = options.resolve(args)
    options.check_encoding(args.root)
    root = pathlib.Path(args.root).absolute()
    if not root.is_dir():
        raise loading.ConfigError(
            f"--root must be the folder of earlier runs, got {args.root}"
        )
    from pipeline.local import unused_artifacts
    from pipeline.runs import lock

    destination = options.destination(args, resolved)
    try:
        with lock.hold_lock(root, should_wait=False, print_line=print):
            plan = unused_artifacts.plan(
                root,
                destination,
                keep=args.keep,
                verifier=resolved.push.signing.load_verifier(destination),
            )
            for line in describe_plan(plan):
                print(line)
            if not args.dry_run:
                unused_artifacts.execute_plan(root, plan)
    except OSError as error:
        print(f"vae-pipeline: {error}", file=sys.stderr)
        return find_exit_code(error)
    would = "would be " if args.dry_run else ""
    print(f"{plan.bytes / 1e6:.1f} MB {would}freed")
    return OK


def describe_plan(plan: "Plan") -> list[str]:
    """Returns lines: the versions and files to remove, and the versions that stay."""
    result = []
    if plan.versions:
        result.append(
            f"{plan.version_bytes / 1e6:8.1f} MB  {len(plan.versions)} "
            f"{'version' if len(plan.versions) == 1 else 'versions'} at "
            f"{plan.destination}: {', '.join(map(str, plan.versions))}"
        )
    for group in plan.groups:
        result.append(f"{group.bytes / 1e6:8.1f} MB  {len(group.paths)} {group.kind}")
    if not result:
        result.append("nothing to remove")
    stay = ", ".join(map(str, plan.kept)) or "none"
    return [*result, f"versions that are kept: {stay}"]
