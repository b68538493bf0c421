"""The text and JSON forms of a span."""

import json

import pytest

from components.datasets import span
from components.datasets.span import Span

FIVE, SEVEN = Span(5, "a" * 64), Span(7, "b" * 64)
# The form that older releases, without the class Span, wrote.
JSON = json.dumps(
    [{"span": 5, "fingerprint": "a" * 64}, {"span": 7, "fingerprint": "b" * 64}]
)
FINGERPRINT = f"5:{'a' * 64},7:{'b' * 64}"


def test_spans_are_the_json_of_earlier_releases():
    assert span.format_json([FIVE, SEVEN]) == JSON
    assert span.parse_json(JSON) == (FIVE, SEVEN)
    assert span.format_json([]) == "[]"


@pytest.mark.parametrize("text", ["", "[]"])
def test_an_empty_text_has_no_spans(text):
    assert span.parse_json(text) == ()


def test_the_fingerprint_of_spans_names_each():
    assert span.combine_fingerprints([FIVE, SEVEN]) == FINGERPRINT
    assert span.parse_fingerprint(FINGERPRINT) == (FIVE, SEVEN)
    assert span.parse_fingerprint(f"5:{'a' * 64}") == (FIVE,)


@pytest.mark.parametrize("fingerprint", ["", "b" * 64, "5", "x5:abc"])
def test_the_fingerprint_of_a_data_set_names_none(fingerprint):
    assert span.parse_fingerprint(fingerprint) == ()


def test_spans_are_described_by_their_numbers():
    assert span.describe_spans([]) == ""
    assert span.describe_spans([SEVEN]) == "span 7"
    assert span.describe_spans([FIVE, SEVEN]) == "spans 5, 7"
