"""The pushed model that a command uses: its options, its version, its SavedModel."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from model.errors import PipelineError
from pipeline.cli import options
from pipeline.cli.command_console import get_result_code, open_console
from pipeline.config import loading
from pipeline.exit_codes import OK, find_exit_code

if TYPE_CHECKING:
    from components.evaluation.estimate import Estimate
    from components.registry.listing import Version
    from components.registry.signatures import Verifier
    from pipeline.console import Console


class PushedModelError(PipelineError):
    """No version is served, or the manifest of a version lacks settings."""


_Function = TypeVar("_Function", bound=Callable[..., int])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions(options.Settings):
    """The values of the options that `model_options` adds to a command."""

    version: int | None


@dataclasses.dataclass(frozen=True)
class PushedModel:
    """A pushed version, and a local, verified copy of its SavedModel."""

    version: "Version"
    folder: str  # path of the copy

    def read_estimate(self) -> "Estimate":
        """Returns how the gate estimated the version's ELBO.

        Raises:
          PushedModelError: the manifest lacks the settings for that, or has those of
            another release.
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
    destination: str,
    number: int | None,
    *,
    warn: Callable[[str], None],
    verifier: "Verifier | None" = None,
) -> Iterator[PushedModel]:
    """Yields a pushed model with a copy, which is removed after the `with` block.

    Args:
      destination: path or URI of the folder of versions.
      number: number of the version; None: the served version.
      warn: called with a line for each damaged version newer than the served one.
      verifier: refuses versions without a valid signature; None: accepts all.

    Raises:
      ConfigError: there is no version with this number.
      PushedModelError: no version is served.
      VersionError: the version's files are not those that were pushed.
      InvalidSignatureError: the version that was named has no valid signature.
      StorageError: the object store does not answer.
    """
    from components.registry import listing

    version = _find(destination, number, warn=warn, verifier=verifier)
    with tempfile.TemporaryDirectory() as folder:
        listing.fetch_version(version, folder)
        yield PushedModel(version, folder)


def model_options(function: _Function) -> _Function:
    """Adds --version and the settings options, which `ModelOptions` holds."""
    return options.version_option(options.settings_options(function))


def run_with_model(
    args: ModelOptions,
    name: str,
    *,
    use: Callable[[PushedModel, "Console"], None],
    is_result_printed: bool = False,
) -> int:
    """Calls a function with a pushed model and a console; returns the exit code.

    Warnings and errors go to standard error: standard output is the command's result.

    Args:
      args: the options, which name the model.
      name: name of the command.
      use: the function.
      is_result_printed: whether the output of the command is its result.
    """
    resolved = options.resolve(args)
    destination = options.destination(args, resolved)
    with open_console(args.root, name) as console:
        try:
            with fetch(
                destination,
                args.version,
                warn=console.print_to_stderr,
                verifier=resolved.push.signing.load_verifier(destination),
            ) as model:
                use(model, console)
        except (PipelineError, OSError) as error:
            console.print_to_stderr(f"vae-pipeline: {error}")
            return find_exit_code(error)
        return get_result_code(console) if is_result_printed else OK


def _find(
    destination: str,
    number: int | None,
    *,
    warn: Callable[[str], None],
    verifier: "Verifier | None",
) -> "Version":
    """Returns the version with a number, or the served version if it is None.

    Args:
      destination: path or URI of the folder of versions.
      number: number of the version; None: the served version.
      warn: called with a line for each damaged version newer than the served one.
      verifier: refuses versions without a valid signature; None: accepts all.

    Raises:
      ConfigError: there is no version with this number.
      InvalidSignatureError: the version with this number has no valid signature.
      PushedModelError: no version is served.
    """
    from components.registry import listing
    from components.registry.signed_version import InvalidSignatureError

    if number is not None:
        try:
            version = listing.find_version(destination, number)
            listing.verify_signature(version, verifier)
            return version
        except listing.NoVersionError as error:
            raise loading.ConfigError(f"--version: {error}") from error
        except InvalidSignatureError as error:
            raise InvalidSignatureError(
                f"version {number} of {destination} is not used: {error}"
            ) from error
    served, damaged = listing.find_served_and_damaged(destination, verifier=verifier)
    for other in damaged:
        warn(other.describe(served))
    if served is None:
        raise PushedModelError(
            f"nothing is served at {destination}: `run` first, or name the place by "
            "--root or --set push.destination=..."
        )
    return served
