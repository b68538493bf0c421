"""The command line: list of commands, error messages, interrupts and exit codes.

The module of a command is imported when the command is called. It imports TensorFlow
and TFX when the command runs: their import takes seconds, and `--help` must be fast.
"""

import functools
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from model.errors import PipelineError, escape_controls
from model.files import disk_space, machine_faults
from model.training import signals
from pipeline.cli.command import EXIT_CODES
from pipeline.cli.option_types import name_of
from pipeline.config.names import suggest
from pipeline.exit_codes import BAD_INPUT, find_exit_code
from pipeline.startup import temporary_folder

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_PROGRAM = "vae-pipeline"
_COMPLETE = "_VAE_PIPELINE_COMPLETE"  # set by Click's completion scripts

# The commands in the order of --help. The key is the command's name and its module's;
# the value is the function in the module, and the command's line in the list.
_COMMANDS = {
    "data": ("prepare_data", "Fetch, verify and prepare the data set."),
    "run": ("run_pipeline", "Run the whole pipeline on this machine."),
    "evaluate": (
        "evaluate",
        "Measure the served model's ELBO and IWAE on the test split.",
    ),
    "report": (
        "report",
        "Write the HTML report of a run again, and show it on request.",
    ),
    "compile": ("compile_pipeline", "Write the pipeline for Kubeflow Pipelines v2."),
    "submit": ("submit", "Run the pipeline on Kubeflow Pipelines v2."),
    "schedule": (
        "schedule",
        "Run the pipeline at set times, on a cluster or on this machine.",
    ),
    "history": ("history", "List the runs and how each run ended."),
    "prune": ("prune", "Remove old versions and unused artifacts."),
    "versions": (
        "list_versions",
        "List the pushed versions, and mark the served version.",
    ),
    "rollback": ("roll_back", "Serve an older version again."),
    "serve": ("serve", "Serve the pushed model over HTTP, as TensorFlow Serving does."),
    "generate": ("generate", "Draw new images from the served model."),
    "reconstruct": (
        "reconstruct",
        "Show images beside their reconstructions by the served model.",
    ),
    "score": ("score", "Find the images that are unlikely under the served model."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Prints one line to standard error, without a traceback, for a mistake in the
    arguments, a PipelineError, a path where no file can be, a fault of the machine and
    an interrupt.

    Args:
      argv: the arguments; None: the arguments of this process.
    """
    os.umask(os.umask(0o077) | 0o002)  # no file becomes writable for every user
    if instruction := os.environ.get(_COMPLETE):
        return _complete(instruction)
    try:
        work = parse(sys.argv[1:] if argv is None else argv)
        with signals.interrupt_on_signals(), temporary_folder.use_own_folder():
            code = work()
        sys.stdout.flush()
        return code
    except click.exceptions.Exit as done:  # after --help and --version
        return done.exit_code
    except click.UsageError as error:
        print(f"{_PROGRAM}: {escape_controls(_describe(error))}", file=sys.stderr)
        return BAD_INPUT
    except PipelineError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return find_exit_code(error)
    except OSError as error:
        if machine_faults.is_wrong_path(error):
            path = escape_controls(str(error.filename))
            print(
                f"{_PROGRAM}: {path} can't be used: {error.strerror}; correct the path",
                file=sys.stderr,
            )
            return BAD_INPUT
        if not machine_faults.is_fault(error):
            raise
        is_full = disk_space.is_full(error)
        advice = "; free some space, then run the same command again" if is_full else ""
        print(f"{_PROGRAM}: {error}{advice}", file=sys.stderr)
        return find_exit_code(error)
    except KeyboardInterrupt as error:
        print(
            f"\n{_PROGRAM}: interrupted; run the same command to continue where it "
            "stopped: the steps that ended come from the cache",
            file=sys.stderr,
        )
        return find_exit_code(error)


def parse(arguments: Sequence[str]) -> functools.partial[int]:
    """Returns the function of a command with its typed arguments, without calling it.

    Args:
      arguments: the command's name, and its arguments as texts.

    Raises:
      click.UsageError: the arguments name no command, or are wrong for it.
      click.exceptions.Exit: --help or --version was printed, so there is no work.
    """
    # Not `.main()`, which handles interrupts and broken pipes in its own way.
    with _commands.make_context(_PROGRAM, list(arguments)) as context:
        return _commands.invoke(context)


class _Commands(click.Group):
    """The group of all commands, which imports a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of the commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command's module and returns the command; None: unknown name."""
        if cmd_name not in _COMMANDS:
            return None
        function, _ = _COMMANDS[cmd_name]
        module = importlib.import_module(f"pipeline.cli.{cmd_name}")
        return getattr(module, function)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Writes the list of the commands to the help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> "list[CompletionItem]":
        """Returns the commands and options that begin with an incomplete word.

        Imports no command.
        """
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text)
            for name, (_, text) in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def _show_version(
    context: click.Context, parameter: click.Parameter, is_given: bool
) -> None:
    """Prints the release, the stack and the commit if --version is given.

    Then ends the parsing of the arguments.
    """
    if is_given and not context.resilient_parsing:
        from pipeline import version

        print(version.describe())
        context.exit()


@click.group(
    cls=_Commands,
    no_args_is_help=False,
    help="Trains, gates and ships a variational autoencoder.",
    epilog=EXIT_CODES,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 88,
        "show_default": True,
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Print the release, the software stack and the commit, and exit.",
)
def _commands() -> None:
    """Does nothing: the group holds the commands, and each command does its work."""


def _complete(instruction: str) -> int:
    """Prints the completions that a shell's completion script asks for.

    Args:
      instruction: what to print, in Click's terms, such as `bash_complete`.

    Returns:
      the exit code.
    """
    from click.shell_completion import shell_complete

    return shell_complete(
        _commands,
        ctx_args={},
        prog_name=_PROGRAM,
        complete_var=_COMPLETE,
        instruction=instruction,
    )


def _describe(error: click.UsageError) -> str:
    """Returns a one-line message about a mistake in the arguments."""
    path = error.ctx.command_path if error.ctx else _PROGRAM
    if isinstance(error, click.NoSuchOption):
        name = error.option_name
        hint = _suggest_option(name, error.ctx)
        return f"unknown option {name}{hint}{_refer_to_help(path)}"
    if isinstance(error, click.exceptions.NoSuchCommand):
        group = error.ctx.command if error.ctx else _commands
        names = list(_COMMANDS)
        if isinstance(group, click.Group) and group is not _commands:
            names = list(group.commands)
        hint = suggest(error.command_name, names)
        hint = hint or f": must be one of {', '.join(names)}"
        return f"unknown command {error.command_name}{hint}"
    if isinstance(error, click.MissingParameter):
        return f"{name_of(error.param)} must be given{_refer_to_help(path)}"
    if isinstance(error, click.BadParameter):
        return f"{name_of(error.param)} {error.message}"
    if isinstance(error, click.BadOptionUsage):
        return f"{error.option_name} {_describe_value(error)}{_refer_to_help(path)}"
    if error.ctx is not None and error.ctx.command is _commands:
        return f"a command must be given: one of {', '.join(_COMMANDS)}"
    return f"{error.message[0].lower()}{error.message[1:]}{_refer_to_help(path)}"


def _suggest_option(name: str, context: click.Context | None) -> str:
    """Returns `: did you mean OPTION?` for a mistyped option, or an empty text."""
    return suggest(name, [o for each in _options(context) for o in each.opts])


def _describe_value(error: click.BadOptionUsage) -> str:
    """Returns the part of a message that says whether an option must have a value."""
    context = error.ctx or click.Context(_commands)
    for option in _options(context):
        if error.option_name in option.opts and not option.is_flag:
            return f"must have a value: {option.make_metavar(context)}"
    return "must have no value"


def _options(context: click.Context | None) -> list[click.Option]:
    """Returns the options of a context's command; an empty list without a context."""
    parameters = context.command.get_params(context) if context else []
    return [each for each in parameters if isinstance(each, click.Option)]


def _refer_to_help(path: str) -> str:
    return f"; see {path} --help"
