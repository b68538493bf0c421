"""The strict YAML reader: the values of YAML 1.2, and the errors with their places."""

import math

import pytest
import yaml

from pipeline.config import strict_yaml
from pipeline.config.strict_yaml import YamlError, parse


# The table and example 10.9 of https://yaml.org/spec/1.2.2/#103-core-schema, and the
# examples of YAML 1.1 that YAML 1.2 reads otherwise.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, None) for text in ("", "null", "Null", "NULL", "~")),
        *((text, True) for text in ("true", "True", "TRUE")),
        *((text, False) for text in ("false", "False", "FALSE")),
        *(("0", 0), ("0o7", 7), ("0x3A", 58), ("-19", -19), ("+12", 12)),
        *(("0.", 0.0), ("-0.0", -0.0), (".5", 0.5), ("+12e03", 12000.0)),
        *(("-2E+05", -200000.0), ("1e-3", 0.001), ("-.5", -0.5)),
        *((".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf)),
        *(("0123", 123), ("010", 10), ("08", 8), ("-07", -7)),
        *((text, text) for text in ("yes", "No", "on", "OFF", "y", "n")),
        *((text, text) for text in ("1_000", "0b11", "1:30", "190:20:30.15", "1_0.5")),
        *(
            (text, text)
            for text in ("2024-01-01", "2024-99-99", "2001-12-14T21:59:43Z")
        ),
        *((text, text) for text in ("=", "0o8", "-0x1F", "0O7", "e3", ".", "+", "1e")),
        *((text, text) for text in ("nULL", "tRUE", ".iNF", "inf", "nan", "None")),
        *((f"'{text}'", text) for text in ("null", "1", "<<", "*a", "&a", "!a")),
        *(('"1"', "1"), ("|\n 1\n", "1\n"), ("\u0661", "\u0661")),
    ],
)
def test_a_scalar_is_that_of_the_core_schema_of_yaml_1_2(text, value):
    result = parse(f"- {text}")
    assert result == [value]
    assert type(result[0]) is type(value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_not_a_number_is_that_of_the_core_schema(text):
    assert math.isnan(parse(text))


def test_lists_and_maps_of_both_styles_are_read():
    text = "%YAML 1.2\n---\na:\n- 1\n- {b: [c, 'd'], e: }\nf: >\n  g\n  h\n'i': {}\n..."
    assert parse(text) == {
        "a": [1, {"b": ["c", "d"], "e": None}],
        "f": "g h\n",
        "i": {},
    }


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "---\n...\n"])
def test_an_empty_text_is_parsed_as_none(text):
    assert parse(text) is None


ALIAS = (
    "must have no alias, got one at {}: write the value again, or put a text that "
    "begins with * in quotes"
)
ANCHOR = (
    "must have no anchor, got one at {}: write the value without it, or put a text "
    "that begins with & in quotes"
)
TAG = (
    "must have no tag, got one at {}: write the value without it, or put a text that "
    "begins with ! in quotes"
)
TWICE = "must have each key once, got {} at {} and again at {}: keep one of them"
MERGE = "must have no merge key <<, got one at {}: write the fields out"
KEY = "must have texts as keys, got {} at {}"
DEEP = "must be at most 20 levels deep, got more at {}: the settings have five levels"
DIGITS = (
    "must have integers of at most 18 digits, got one of {} at {}: put it in quotes "
    "if it is a text"
)
TAB = "must have no tab, got one at {}: write spaces"
DOCUMENTS = (
    "must be one document, got the start of a second one at {}: keep one, without the "
    "line ---"
)
DIRECTIVE = (
    "must have no directive but %YAML 1.2, got another at {}: remove the line that "
    "begins with %"
)
PRINTABLE = (
    "must have keys of printable characters, got another at {}: write the key on one "
    "line, without escapes"
)
UNUSABLE = (
    "must have no \\0 and no half of a character (\\uD800 to \\uDFFF), got one in the "
    "text at {}: write the character itself"
)
LARGE_NUMBER = (
    "must be YAML: an escape such as \\U0001F600 or a %YAML line has too large a "
    "number, at {}"
)
FORBIDDEN = "must be YAML: it has characters that YAML does not allow, at line {}"
QUOTES = "must be YAML: a text begins with @, ` or %, at {}: put it in quotes"
BOM = (
    "must have no byte order mark, got one at line 1, column 1: save it as UTF-8 "
    "without one"
)


def at(line, column):
    return f"line {line}, column {column}"


REFUSED = [
    ("gate: 1\ntrain: 2\ngate: 3\n", TWICE.format("gate", at(1, 1), at(3, 1))),
    ("a:\n  b: 1\n  'b': 2\n", TWICE.format("b", at(2, 3), at(3, 3))),
    ('a: {b: 1, "\\x62": 2}', TWICE.format("b", at(1, 5), at(1, 11))),
    ("a: {b: {c: 1, c: 2}}", TWICE.format("one", at(1, 9), at(1, 15))),
    ("? a\n: 1\n? a\n: 2", TWICE.format("a", at(1, 3), at(3, 3))),
    (f"{'a' * 60}: 1\n{'a' * 60}: 2", TWICE.format("one", at(1, 1), at(2, 1))),
    ("a: &a [x, x]\nb: [*a, *a]\n", ANCHOR.format(at(1, 4))),
    ("a: &a [*a]", ANCHOR.format(at(1, 4))),
    ("&a b: 1", ANCHOR.format(at(1, 1))),
    ("a: &a\n", ANCHOR.format(at(1, 4))),
    ("a: *a", ALIAS.format(at(1, 4))),
    ("*a : 1", ALIAS.format(at(1, 1))),
    ("a: !!str 1", TAG.format(at(1, 4))),
    ("a: ! b", TAG.format(at(1, 4))),
    ("!a b: 1", TAG.format(at(1, 1))),
    ("a: !!python/object/apply:os.system [x]", TAG.format(at(1, 4))),
    ("a: !<tag:yaml.org,2002:int> 1", TAG.format(at(1, 4))),
    ("<<: {a: 1}", MERGE.format(at(1, 1))),
    ("a:\n  <<: [{b: 1}, {c: 2}]", MERGE.format(at(2, 3))),
    ("a: {<<: }", MERGE.format(at(1, 5))),
    ("1: a", KEY.format("a number", at(1, 1)) + ": put it in quotes"),
    ("a:\n  .5: a", KEY.format("a number", at(2, 3)) + ": put it in quotes"),
    ("true: a", KEY.format("a boolean", at(1, 1)) + ": put it in quotes"),
    ("~: a", KEY.format("null", at(1, 1)) + ": put it in quotes"),
    ("[a]: b", KEY.format("a list or a map", at(1, 1)) + ": write a name"),
    ("? {a: b}\n: c", KEY.format("a list or a map", at(1, 3)) + ": write a name"),
    ('"a\\nb": 1', PRINTABLE.format(at(1, 1))),
    ('a: {"\\e[2J": 1}', PRINTABLE.format(at(1, 5))),
    ("[" * 90_000, DEEP.format(at(1, 21))),
    ("{a: " * 20_000, DEEP.format(at(1, 81))),
    ("- " * 40_000, DEEP.format(at(1, 41))),
    ("\n".join(" " * i + "a:" for i in range(400)), DEEP.format(at(21, 21))),
    ("a: " + "9" * 5_000, DIGITS.format("5,000", at(1, 4))),
    ("a: -" + "9" * 19, DIGITS.format("19", at(1, 4))),
    ("a: 0x" + "f" * 5_000, DIGITS.format("5,000", at(1, 4))),
    ("a:\n  0o" + "7" * 40_000 + ": 1", DIGITS.format("40,000", at(2, 3))),
    ("a:\n\tb: 1", TAB.format(at(2, 1))),
    ("a:\tb", TAB.format(at(1, 3))),
    ("a: {b: 1,\t}", TAB.format(at(1, 10))),
    ("a: 1\t# b", TAB.format(at(1, 5))),
    ("\ufeffa: 1", BOM),
    ("a: 1\n---\nb: 2", DOCUMENTS.format(at(2, 1))),
    ("a: 1\n...\n---\n", DOCUMENTS.format(at(3, 1))),
    ("---\n---\n", DOCUMENTS.format(at(2, 1))),
    ("%YAML 1.1\n---\na: 1", DIRECTIVE.format(at(1, 1))),
    ("%TAG ! tag:a,2000:\n---\na: 1", DIRECTIVE.format(at(1, 1))),
    (f"%YAML 1.{'9' * 5_000}\n---\na: 1", LARGE_NUMBER.format(at(1, 9))),
    ('a:\n  "\\UFFFFFFFF"', LARGE_NUMBER.format(at(2, 6))),
    ('a: "\\U00110000"', LARGE_NUMBER.format(at(1, 7))),
    ('a: "\\ud83d\\ude00"', UNUSABLE.format(at(1, 4))),
    ('a:\n- "\\0"', UNUSABLE.format(at(2, 3))),
    ('"\\0": a', UNUSABLE.format(at(1, 1))),
    ("a: 1\nb: \a", FORBIDDEN.format(2)),
    ("a: \0", FORBIDDEN.format(1)),
    ("a: \udc80", FORBIDDEN.format(1)),
    ("a: @b", QUOTES.format(at(1, 4))),
    ("a:\n- `b", QUOTES.format(at(2, 3))),
    ("a: %b", QUOTES.format(at(1, 4))),
    ("a: [", "must be YAML: while parsing a flow node, at line 1, column 5"),
    ("a: b: c", "must be YAML: while reading a value, at line 1, column 5"),
    ("a: !x!y z", "must be YAML: while parsing a node, at line 1, column 4"),
    ("a: 'b", "must be YAML: while scanning a quoted scalar, at line 1, column 6"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused_yaml_is_named_with_its_position_on_one_line(text, message):
    with pytest.raises(YamlError) as caught:
        parse(text, named_levels=2)
    assert str(caught.value) == message


def test_a_key_below_the_named_levels_is_not_shown():
    with pytest.raises(YamlError) as caught:
        parse("{s3cret: 1, s3cret: 2}")
    assert str(caught.value) == TWICE.format("one", at(1, 2), at(1, 13))


@pytest.mark.parametrize("text", ["a", "é", "[],"])
def test_no_more_than_100_000_bytes_are_read(text):
    long = text * (100_000 // len(text.encode()) + 1)
    with pytest.raises(YamlError) as caught:
        parse(long)
    assert str(caught.value) == (
        "must have at most 100,000 bytes, got more: keep only the settings "
        "that differ from the preset"
    )


def test_the_largest_values_are_read():
    assert parse(f"a: {'b' * 99_997}") == {"a": "b" * 99_997}
    assert parse("-" + "9" * 18) == -(10**18) + 1
    assert parse("[" * 20 + "]" * 20) == yaml.safe_load("[" * 20 + "]" * 20)
    assert parse("9" * 5_000 + ".0") == math.inf


def test_what_is_written_is_read_as_the_same():
    same = ["a", {"b": 1e-5}]
    texts = ["0o17", "0x1F", "0123", "08", "1e3", "5.", "+.5", "yes", "1:30", "<<", "="]
    texts += ["", "~", "null", ".inf", "2024-01-01", "*a", "&a", "!a", "a: b", "a #b"]
    texts += [
        "@a",
        "- a",
        "\ta",
        "a\nb",
        "é",
        "😀",
        "%a",
        "`a",
        "'",
        '"',
        "1_000",
        "---",
    ]
    value = {
        "same": [same, same],
        "texts": texts,
        "keys": dict.fromkeys(texts[:20], 1),
        "numbers": [0, -1, 1.0, 1e22, 1e-300, 0.1, True, None],
    }
    written = yaml.dump(value, Dumper=strict_yaml.Dumper)
    assert parse(written) == value
    assert yaml.safe_load(written) == value  # other programs read it too


@pytest.mark.parametrize("text", ["0x8000000000000000", "0o1000000000000000000000"])
def test_an_integer_of_more_than_64_bits_is_refused(text):
    with pytest.raises(YamlError) as error:
        parse(text)
    assert "must have integers of at most " in str(error.value)
    assert parse("0x7fffffffffffffff") == 2**63 - 1
