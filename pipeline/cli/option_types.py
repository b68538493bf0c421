"""The Click types of the options, whose error messages state the expected value."""

import click

from model.files import locations, safe_paths
from pipeline.config.names import suggest


def name_of(parameter: click.Parameter | None) -> str:
    """Returns a parameter's name as users type it, for messages.

    An option with a short and a long name has the long one, such as --output.
    """
    if parameter is None:
        return "a value"
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.human_readable_name.strip("[.]")


class Choice(click.Choice[str]):
    """The type of an option whose value is one of several names.

    The error message for any other value suggests the most similar name.
    """

    def get_invalid_choice_message(
        self, value: object, ctx: click.Context | None
    ) -> str:
        """Returns the error message: the choices, the value and the nearest choice."""
        given = str(value)
        hint = suggest(given, self.choices)
        return f"must be one of {', '.join(self.choices)}, got {given!r}{hint}"


class Number(click.ParamType):
    """The type of an option whose value is an integer or a float in a range.

    Args:
      kind: type of the number.
      least: smallest valid number; None: no limit.
      most: largest valid number; None: no limit.
      is_positive: whether the number must be finite and above 0, in place of limits.
      unit: unit of the limits, for the error message.
    """

    def __init__(
        self,
        kind: type[int] | type[float],
        *,
        least: float | None = None,
        most: float | None = None,
        is_positive: bool = False,
        unit: str = "",
    ):
        self.name = "integer" if kind is int else "number"
        self._kind, self._is_positive = kind, is_positive
        self._least, self._most, self._unit = least, most, unit

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Returns the value as a number, or fails if it is not a valid one."""
        try:
            number = self._kind(str(value))
        except ValueError:
            number = None
        if self._is_positive:
            if number is None or not 0 < number < float("inf"):
                self.fail(f"must be a number above 0, got {value!r}", param, ctx)
            return number
        if number is None:
            article = "an" if self._kind is int else "a"
            self.fail(f"must be {article} {self.name}, got {value!r}", param, ctx)
        if expected := self._find_violated_bound(number):
            shown = f"{number:g}" if isinstance(number, float) else str(number)
            self.fail(f"must be {expected}{self._unit}, got {shown}", param, ctx)
        return number

    def _find_violated_bound(self, number: float) -> str | None:
        """Returns the range as a text if the number is outside it, else None."""
        least, most = self._least, self._most
        if (least is None or number >= least) and (most is None or number <= most):
            return None
        if least is None or most is None:
            return f"at least {least}" if most is None else f"at most {most}"
        return f"from {least} to {most}"


class Path(click.Path):
    """The type of an option whose value is a path, which need not exist."""

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Returns the path."""
        try:
            locations.check_local(str(value), what=name_of(param))
        except safe_paths.PathError as error:
            raise click.UsageError(str(error), ctx) from error
        try:
            return safe_paths.expand_home(str(value))
        except safe_paths.PathError as error:
            raise click.UsageError(f"{name_of(param)}: {error}", ctx) from error


FILE = Path(dir_okay=False)
FOLDER = Path(file_okay=False)


class Picture(Path):
    """The type of an option whose value is the path of a PNG file to write."""

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Returns the path."""
        path = super().convert(value, param, ctx)
        if not path.lower().endswith(".png"):
            self.fail(f"must be the name of a .png, got {path}", param, ctx)
        return path
