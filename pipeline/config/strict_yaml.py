"""The strict reader and the writer of the YAML of config files and single settings.

PyYAML would read a key twice (the last one would win), aliases and anchors (a few of
them expand to gigabytes), tags, merge keys, keys that are no texts, and any depth, size
and number of digits. Here these are errors.

Numbers, booleans and null are those of the core schema of YAML 1.2: `on`, `0b11`,
`1_000`, `1:30` and `2024-01-01` are texts, and `010` is ten.

PyYAML's parser gives events without recursion; the values are built from them here.
"""

import re
from typing import Any

import yaml

from model.errors import PipelineError

MAX_BYTES = 100_000  # PyYAML reads them in about a second
MAX_DEPTH = 20  # levels of lists and maps; the settings have five
MAX_DIGITS = 18  # every such decimal has 64 bits at most

# https://yaml.org/spec/1.2.2/#1032-tag-resolution
_INTEGER = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
_NAMED = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{
        f"{sign}{name}": float(f"{sign}inf")
        for sign in ("", "+", "-")
        for name in (".inf", ".Inf", ".INF")
    },
}
_BASES = {"0o": 8, "0x": 16}

_UNUSABLE = re.compile("[\0\ud800-\udfff]")  # in no path, argument or UTF-8 file


class YamlError(PipelineError):
    """A text is not the YAML that is read here; the message says where and why.

    The message continues a sentence that begins with the name of the text.
    """

    is_bad_input = True


def parse(text: str, *, named_levels: int = 0) -> Any:
    """Returns the value of the only document in a YAML text; None if it is empty.

    Args:
      text: the YAML.
      named_levels: the number of outer levels of maps whose keys may be in a message;
        anything below them may be a secret and is not shown.

    Raises:
      YamlError: the text is not YAML or has something that is refused.
    """
    check_size(text.encode("utf-8", "surrogatepass"))
    if text.startswith("\ufeff"):
        raise YamlError(
            "must have no byte order mark, got one at line 1, column 1: save it as "
            "UTF-8 without one"
        )
    return _Reader(text, named_levels).read()


def check_size(content: bytes) -> None:
    """Raises YamlError for more bytes than are read."""
    if len(content) > MAX_BYTES:
        raise YamlError(
            f"must have at most {MAX_BYTES:,} bytes, got more: keep only the settings "
            "that differ from the preset"
        )


class Dumper(yaml.SafeDumper):
    """Writes what `parse` reads: no aliases, and quotes around texts like `0o17`."""

    def ignore_aliases(self, data: Any) -> bool:
        """Returns True: a value that occurs twice is written twice."""
        return True


for _tag, _pattern in (("int", _INTEGER), ("float", _FLOAT)):
    Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(f"^({_pattern})$"),
        list("-+.0123456789"),
    )


class _Reader:
    """Builds the value of one text."""

    def __init__(self, text: str, named_levels: int):
        self._text = text
        self._named_levels = named_levels
        try:
            self._parser = yaml.SafeLoader(text)
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise YamlError(
                "must be YAML: it has characters that YAML does not allow, at line "
                f"{line}"
            ) from error

    def read(self) -> Any:
        """Returns the value of the only document; None if there is no document."""
        self._next()  # the start of the stream
        start = self._next()
        if isinstance(start, yaml.StreamEndEvent):
            return None
        if start.version not in (None, (1, 2)) or start.tags:
            raise YamlError(
                "must have no directive but %YAML 1.2, got another at "
                f"{_position(start.start_mark)}: remove the line that begins with %"
            )
        value = self._build(self._next(), 1)
        self._next()  # the end of the document
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            raise YamlError(
                "must be one document, got the start of a second one at "
                f"{_position(after.start_mark)}: keep one, without the line ---"
            )
        return value

    def _next(self) -> Any:
        """Returns the next event of PyYAML's parser."""
        try:
            return self._parser.get_event()
        except yaml.MarkedYAMLError as error:
            raise YamlError(self._describe(error)) from error
        except (ValueError, OverflowError) as error:
            # Of int() and chr(), for which PyYAML does not check what it passes.
            raise YamlError(
                "must be YAML: an escape such as \\U0001F600 or a %YAML line has too "
                f"large a number, at {_position(self._parser.get_mark())}"
            ) from error

    def _describe(self, error: yaml.MarkedYAMLError) -> str:
        """Returns what is wrong and where, without the text, which may be a secret."""
        mark = error.problem_mark
        what = error.context or "while reading a value"
        if mark is None:
            return f"must be YAML: {what}"
        character = self._text[mark.index : mark.index + 1]
        if character == "\t":
            return f"must have no tab, got one at {_position(mark)}: write spaces"
        if character in ("@", "`", "%"):
            return (
                "must be YAML: a text begins with @, ` or %, at "
                f"{_position(mark)}: put it in quotes"
            )
        return f"must be YAML: {what}, at {_position(mark)}"

    def _build(self, event: Any, depth: int) -> Any:
        """Returns the value that begins with an event.

        Args:
          event: its first event.
          depth: the level of the value; that of the whole document is 1.
        """
        self._check(event)
        if isinstance(event, yaml.ScalarEvent):
            return _read_scalar(event)
        if depth > MAX_DEPTH:
            raise YamlError(
                f"must be at most {MAX_DEPTH} levels deep, got more at "
                f"{_position(event.start_mark)}: the settings have five levels"
            )
        if isinstance(event, yaml.SequenceStartEvent):
            return self._build_list(depth)
        return self._build_map(depth)

    def _build_list(self, depth: int) -> list[Any]:
        result = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            result.append(self._build(event, depth + 1))
        return result

    def _build_map(self, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        places: dict[str, str] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            self._check(event)
            key, place = _read_key(event), _position(event.start_mark)
            if key in result:
                is_named = depth <= self._named_levels and len(key) < 60
                name = key if is_named else "one"
                raise YamlError(
                    f"must have each key once, got {name} at {places[key]} and again "
                    f"at {place}: keep one of them"
                )
            places[key] = place
            result[key] = self._build(self._next(), depth + 1)
        return result

    def _check(self, event: Any) -> None:
        """Raises YamlError for an alias, an anchor or a tag."""
        place = _position(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            raise YamlError(
                f"must have no alias, got one at {place}: write the value again, or "
                "put a text that begins with * in quotes"
            )
        if event.anchor is not None:
            raise YamlError(
                f"must have no anchor, got one at {place}: write the value without it, "
                "or put a text that begins with & in quotes"
            )
        if event.tag is not None:
            raise YamlError(
                f"must have no tag, got one at {place}: write the value without it, or "
                "put a text that begins with ! in quotes"
            )


def _read_scalar(event: yaml.ScalarEvent) -> str | int | float | None:
    """Returns the value of a scalar: a text if it is quoted or like nothing else."""
    text = event.value
    if _UNUSABLE.search(text):
        raise YamlError(
            "must have no \\0 and no half of a character (\\uD800 to \\uDFFF), got one "
            f"in the text at {_position(event.start_mark)}: write the character itself"
        )
    if event.style is not None:  # in quotes, or a block of lines
        return text
    if text in _NAMED:
        return _NAMED[text]
    if re.fullmatch(_INTEGER, text):
        base = _BASES.get(text[:2], 10)
        digits = len(text.lstrip("+-")) if base == 10 else len(text) - 2
        if digits > MAX_DIGITS:
            raise YamlError(
                f"must have integers of at most {MAX_DIGITS} digits, got one of "
                f"{digits:,} at {_position(event.start_mark)}: put it in quotes if it "
                "is a text"
            )
        number = int(text, base)
        if abs(number) >= 2**63:
            raise YamlError(
                "must have integers of at most 64 bits, got a larger one at "
                f"{_position(event.start_mark)}: put it in quotes if it is a text"
            )
        return number
    return float(text) if re.fullmatch(_FLOAT, text) else text


def _read_key(event: Any) -> str:
    """Returns the key of a map, which must be a text of printable characters."""
    place = _position(event.start_mark)
    if not isinstance(event, yaml.ScalarEvent):
        raise YamlError(
            f"must have texts as keys, got a list or a map at {place}: write a name"
        )
    if event.style is None and event.value == "<<":
        raise YamlError(
            f"must have no merge key <<, got one at {place}: write the fields out"
        )
    key = _read_scalar(event)
    if not isinstance(key, str):
        kind = {type(None): "null", bool: "a boolean"}.get(type(key), "a number")
        raise YamlError(
            f"must have texts as keys, got {kind} at {place}: put it in quotes"
        )
    if not key.isprintable():
        raise YamlError(
            f"must have keys of printable characters, got another at {place}: write "
            "the key on one line, without escapes"
        )
    return key


def _position(mark: Any) -> str:
    """Returns the line and the column of a place in the text."""
    return f"line {mark.line + 1}, column {mark.column + 1}"
