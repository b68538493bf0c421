"""The decorator that turns a function into a command with help and typed options."""

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping, Sequence

import click
from click.core import ParameterSource

EXIT_CODES = (
    "Exit codes: 0 success; 2 bad input; 3 the gate refused the model; "
    "130 interrupted; 141 the reader of the printed output closed it early; "
    "1 any other failure."
)


class Command(click.Command):
    """A Click command whose invocation returns its function with arguments, uncalled.

    The program calls the function later. So mistakes in the arguments are found before
    the work begins, and Click does not handle the work's interrupts and broken pipes.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments; adds this command to a usage error that has none."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> functools.partial[int]:
        """Returns the command's function with its arguments, without calling it."""
        if self.callback is None:
            raise TypeError(f"the command {self.name} has no function")
        return functools.partial(
            self.callback, **_collect_arguments(self.callback, ctx.params)
        )


class CommandGroup(click.Group, Command):
    """A command that does its own work without the name of a subcommand.

    An option before the subcommand's name would have no effect, so it is refused.
    """

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the subcommand; refuses options of the group before its name."""
        found = super().resolve_command(ctx, args)
        for name in ctx.params:
            if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
                option = next(p for p in self.get_params(ctx) if p.name == name)
                raise click.UsageError(
                    f"{max(option.opts, key=len)} must be after {found[0]}, got it "
                    "before",
                    ctx,
                )
        return found


def command(
    *, description: str, examples: Sequence[str] = (), epilog: str = ""
) -> Callable[[Callable[..., int]], Command]:
    """Returns a decorator that turns a function into a command.

    The function must return the exit code. A parameter whose type is a dataclass gets
    an instance with the value of one option for each field, by the field's name. Any
    other parameter gets the value of the option with the parameter's name.

    Args:
      description: first part of the command's help.
      examples: command lines without the program's name.
      epilog: part of the help between the options and the exit codes.
    """
    text = _format_epilog(examples, epilog)
    return click.command(cls=Command, help=description, epilog=text)


def command_group(
    *, description: str, examples: Sequence[str] = ()
) -> Callable[[Callable[..., int]], CommandGroup]:
    """Returns a decorator that turns a function into a command with subcommands.

    The function does the command's work if no subcommand is named.

    Args:
      description: first part of the command's help.
      examples: command lines without the program's name.
    """
    return click.group(
        cls=CommandGroup,
        help=description,
        epilog=_format_epilog(examples, ""),
        invoke_without_command=True,
        subcommand_metavar="[COMMAND]",
    )


def _format_epilog(examples: Sequence[str], epilog: str) -> str:
    """Returns the end of a command's help: examples, a text and the exit codes."""
    parts = []
    if examples:
        lines = [f"  vae-pipeline {example}" for example in examples]
        parts.append(literal("\n".join(["Examples:", *lines])))
    parts += [epilog] if epilog else []
    return "\n\n".join([*parts, EXIT_CODES])


def literal(text: str) -> str:
    """Returns a help text with the marks that make Click keep its line breaks."""
    return "\n\n".join(f"\b\n{part}" for part in text.strip("\n").split("\n\n"))


def _collect_arguments(
    function: Callable[..., int], values: Mapping[str, object]
) -> dict[str, object]:
    """Returns the arguments for a command's function, from the values of its options.

    Args:
      function: the command's function, whose parameters have type hints.
      values: the value of each option, by the option's name.
    """
    result: dict[str, object] = {}
    for name, kind in typing.get_type_hints(function).items():
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        if fields:
            result[name] = kind(**{each.name: values[each.name] for each in fields})
        elif name != "return":
            result[name] = values[name]
    return result
