"""A pushed model, for the commands that use it: its version and its SavedModel."""

import argparse
import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from model.errors import PipelineError
from pipeline.cli import options
from pipeline.cli.command_console import open_console
from pipeline.config import loading
from pipeline.exit_codes import OK, code_of

if TYPE_CHECKING:
    from components.evaluation.estimate import Estimate
    from components.registry.listing import Version
    from pipeline.console import Screen


class PushedModelError(PipelineError):
    """There is no pushed model to use, or its manifest lacks what is needed."""


@dataclasses.dataclass(frozen=True)
class PushedModel:
    """A version and a verified copy of its SavedModel."""

    version: "Version"
    folder: str  # of the copy

    def read_estimate(self) -> "Estimate":
        """Returns how the gate estimated the version's ELBO.

        Raises:
          PushedModelError: its manifest does not say, or has settings of another
            release.
        """
        from components.evaluation.estimate import Estimate

        estimate = Estimate.from_manifest(self.version.manifest)
        if estimate is None:
            raise PushedModelError(
                f"the manifest of version {self.version.number} must have the settings "
                "gate and model of this release: another release pushed it, or another "
                "program; name another version"
            )
        return estimate

    def __str__(self) -> str:
        folder = os.path.dirname(self.version.path)
        return f"version {self.version.number} of {folder}"


@contextlib.contextmanager
def fetch(
    destination: str, number: int | None, *, warn: Callable[[str], None]
) -> Iterator[PushedModel]:
    """Gives a pushed model, whose copy is removed when the block ends.

    Args:
      destination: the folder of versions, or its URI.
      number: of the version; None for the one that is served.
      warn: called with a line for each damaged version newer than the served one.

    Raises:
      ConfigError: there is no such version.
      PushedModelError: nothing is served.
      VersionError: its files are not those that were pushed.
      StorageError: the object store does not answer.
    """
    from components.registry import listing

    version = _find(destination, number, warn=warn)
    with tempfile.TemporaryDirectory() as folder:
        listing.fetch_version(version, folder)
        yield PushedModel(version, folder)


def add_model_command(
    commands: options.Commands,
    name: str,
    *,
    function: Callable[[argparse.Namespace], int],
    summary: str,
    description: str,
    examples: Sequence[str],
) -> argparse.ArgumentParser:
    """Adds a command that uses a pushed model, with the options that name the model.

    Args:
      commands: the commands of the command line.
      name: the command's name.
      function: runs the command and returns its exit code.
      summary: the command's line in the list of all commands.
      description: the first part of the command's help.
      examples: command lines without the program's name.

    Returns:
      The parser, to which the command adds its own options.
    """
    lines = "".join(f"  vae-pipeline {example}\n" for example in examples)
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"such as:\n{lines}\n{options.EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_version_option(parser)
    options.add_settings_options(parser)
    parser.set_defaults(command=function)
    return parser


def run_with_model(
    args: argparse.Namespace,
    name: str,
    *,
    use: Callable[[PushedModel, "Screen"], None],
) -> int:
    """Calls a function with the model that the flags name; returns the exit code.

    Warnings and errors go to standard error: standard output is the command's result.
    """
    destination = options.destination(args, options.resolve(args))
    with open_console(args, name) as console:
        try:
            with fetch(destination, args.version, warn=console.aside) as model:
                use(model, console)
        except (PipelineError, OSError) as error:
            console.aside(f"vae-pipeline: {error}")
            return code_of(error)
    return OK


def _find(
    destination: str, number: int | None, *, warn: Callable[[str], None]
) -> "Version":
    """Returns the version of a number, or the one that is served."""
    from components.registry import listing

    if number is not None:
        try:
            return listing.find_version(destination, number)
        except listing.NoVersionError as error:
            raise loading.ConfigError(f"--version: {error}") from error
    version, damaged = listing.find_served_and_damaged(destination)
    for other in damaged:
        warn(other.describe(version))
    if version is None:
        raise PushedModelError(
            f"nothing is served at {destination}: `run` first, or name the place by "
            "--root or --set push.destination=..."
        )
    return version
