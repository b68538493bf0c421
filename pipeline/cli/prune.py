"""The command `prune`: removes old versions, and artifacts that nothing refers to."""

import argparse
import pathlib
import sys
from typing import TYPE_CHECKING

from pipeline.cli import options
from pipeline.config import loading
from pipeline.exit_codes import OK, code_of

if TYPE_CHECKING:
    from pipeline.local.unused_artifacts import Plan

_DESCRIPTION = """\
Removes what nothing refers to any more.

Of versions, at push.destination or else in ROOT/serving, the newest K stay, what is
served, and the baselines that it and the last run were measured against. What was
rolled back from stays noted. Below ROOT stays what the last K runs that ended used, or
any run after them, or the run that made a version that stays; the other artifacts, logs
and checkpoints go, and what failed steps left. A run that would have taken them from
the cache makes them anew. No run may be using ROOT."""


def add_command(commands: options.Commands) -> None:
    """Adds the command `prune` to the command line."""
    parser = commands.add_parser(
        "prune",
        help="remove old versions, and artifacts that nothing refers to",
        description=_DESCRIPTION,
        epilog="such as:\n"
        "  vae-pipeline prune --keep 5 --dry-run\n"
        "  vae-pipeline prune --keep 5 --set push.destination=s3://models/serving\n\n"
        f"{options.EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--keep",
        type=int,
        required=True,
        metavar="K",
        help="how many versions, and runs, stay",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would go, and remove nothing"
    )
    options.add_settings_options(parser)
    parser.set_defaults(command=prune)


def prune(args: argparse.Namespace) -> int:
    """Shows what no run and no version needs, and removes it; returns the exit code."""
    resolved = options.resolve(args)
    if args.keep < 1:
        raise loading.ConfigError(f"--keep must be at least 1, got {args.keep}")
    options.check_encoding(args)
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
            plan = unused_artifacts.plan(root, destination, keep=args.keep)
            for line in describe_plan(plan):
                print(line)
            if not args.dry_run:
                unused_artifacts.carry_out(root, plan)
    except OSError as error:
        print(f"vae-pipeline: {error}", file=sys.stderr)
        return code_of(error)
    would = "would be " if args.dry_run else ""
    print(f"{plan.bytes / 1e6:.1f} MB {would}freed")
    return OK


def describe_plan(plan: "Plan") -> list[str]:
    """Returns a line for each kind of thing to remove, and one for what stays."""
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
        result.append("nothing is to go")
    stay = ", ".join(map(str, plan.kept)) or "none"
    return [*result, f"versions that stay: {stay}"]
