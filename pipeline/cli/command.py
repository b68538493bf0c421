"""A command of the command line: its help, and its options as typed values."""

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping, Sequence

import click

EXIT_CODES = (
    "exit codes: 0 all went well; 2 bad input; 3 the gate refused the model; "
    "130 interrupted; 141 the reader of what is printed left early; 1 anything else"
)


class Command(click.Command):
    """A command whose invocation returns its work, with all arguments, undone.

    So mistakes in the arguments are found before the work begins, and Click's own
    handling of interrupts and of broken pipes ends there.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments; a mistake in them names the command."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> functools.partial[int]:
        """Returns the function of the command and its arguments."""
        if self.callback is None:
            raise TypeError(f"the command {self.name} has no function")
        return functools.partial(
            self.callback, **_collect_arguments(self.callback, ctx.params)
        )


def command(
    *, description: str, examples: Sequence[str] = (), epilog: str = ""
) -> Callable[[Callable[..., int]], Command]:
    """Returns the decorator that makes a command of a function.

    The function returns the exit code. A parameter of it whose type is a dataclass
    takes the options that are named as the fields are; any other takes one option.

    Args:
      description: the first part of the command's help.
      examples: command lines without the program's name.
      epilog: a part of the help below the options.
    """
    parts = []
    if examples:
        lines = [f"  vae-pipeline {example}" for example in examples]
        parts.append(literal("\n".join(["such as:", *lines])))
    parts += [epilog] if epilog else []
    return click.command(
        cls=Command, help=description, epilog="\n\n".join([*parts, EXIT_CODES])
    )


def literal(text: str) -> str:
    """Returns a text of the help whose lines Click must not fill."""
    return "\n\n".join(f"\b\n{part}" for part in text.strip("\n").split("\n\n"))


def _collect_arguments(
    function: Callable[..., int], values: Mapping[str, object]
) -> dict[str, object]:
    """Returns the arguments of a command's function from the values of its options."""
    result: dict[str, object] = {}
    for name, kind in typing.get_type_hints(function).items():
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        if fields:
            result[name] = kind(**{each.name: values[each.name] for each in fields})
        elif name != "return":
            result[name] = values[name]
    return result
