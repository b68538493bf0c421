"""The command line: the parser, its commands, interrupts and exit codes.

A command imports what it needs when it runs: TFX takes seconds, and `--help` must not.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from model.errors import PipelineError
from model.files import disk_space, machine_faults
from model.training import signals
from pipeline.cli import (
    compile,
    data,
    evaluate,
    generate,
    history,
    options,
    prune,
    reconstruct,
    report,
    rollback,
    run,
    schedule,
    score,
    serve,
    submit,
    versions,
)
from pipeline.exit_codes import UNREAD, code_of
from pipeline.startup import standard_streams, temporary_folder

# In the order in which --help lists them.
_COMMANDS = (
    data,
    run,
    evaluate,
    report,
    compile,
    submit,
    schedule,
    history,
    prune,
    versions,
    rollback,
    serve,
    generate,
    reconstruct,
    score,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    os.umask(os.umask(0o077) | 0o002)  # no file becomes writable for every user
    try:
        args = build_parser().parse_args(argv)
        with signals.interrupt_on_signals(), temporary_folder.own_folder():
            code = args.command(args)
        sys.stdout.flush()
        return code if _is_delivered(args) else code or UNREAD
    except PipelineError as error:
        print(f"vae-pipeline: {error}", file=sys.stderr)
        return code_of(error)
    except OSError as error:
        if not machine_faults.is_fault(error):
            raise
        is_full = disk_space.is_full(error)
        advice = "; free some space, and the same command goes on" if is_full else ""
        print(f"vae-pipeline: {error}{advice}", file=sys.stderr)
        return code_of(error)
    except KeyboardInterrupt as error:
        print(
            "\nvae-pipeline: interrupted; the same command goes on where it stopped: "
            "the steps that ended come from the cache",
            file=sys.stderr,
        )
        return code_of(error)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = _Parser(
        prog="vae-pipeline",
        description="Trains, gates and ships a variational autoencoder.",
        epilog=options.EXIT_CODES,
    )
    parser.add_argument(
        "--version",
        action=_ShowVersion,
        nargs=0,
        help="print the release, the stack and the commit, and exit",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_command(commands)
    return parser


def _is_delivered(args: argparse.Namespace) -> bool:
    """Returns whether everything that a command exists to print was read.

    True of a command whose result is not what it prints: it has done its work, even if
    the reader of its lines left early.
    """
    is_lost = standard_streams.is_lost(sys.stdout) or getattr(
        args, "is_output_lost", False
    )
    return not (is_lost and getattr(args, "is_result_printed", False))


class _ShowVersion(argparse.Action):
    """Prints the release, the stack and the commit."""

    def __call__(self, parser, namespace, values, option_string=None):
        from pipeline import version

        print(version.describe())
        parser.exit()


class _Parser(argparse.ArgumentParser):
    def print_help(self, file=None) -> None:
        """Prints the help; Python 3.13's own would hide that the disk is full."""
        print(self.format_help(), end="", file=file or sys.stdout)
