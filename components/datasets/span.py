"""The class Span, with a span's number and fingerprint, and its text formats."""

import dataclasses
import json
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Span:
    """The number and fingerprint of a span, the data of one period of time."""

    number: int
    fingerprint: str  # SHA-256 of its images and labels

    def to_content(self) -> dict[str, int | str]:
        """Returns the span as a JSON object, for manifests and Ingest's examples."""
        return {"span": self.number, "fingerprint": self.fingerprint}


def format_json(spans: Sequence[Span]) -> str:
    """Returns a JSON array of the spans."""
    return json.dumps([span.to_content() for span in spans])


def parse_json(text: str) -> tuple[Span, ...]:
    """Returns the spans in a JSON array of `format_json`; none for an empty text."""
    content = json.loads(text or "[]")
    return tuple(Span(each["span"], each["fingerprint"]) for each in content)


def combine_fingerprints(spans: Sequence[Span]) -> str:
    """Returns one fingerprint of several spans, as NUMBER:SHA-256,NUMBER:SHA-256."""
    return ",".join(f"{span.number}:{span.fingerprint}" for span in spans)


def parse_fingerprint(fingerprint: str) -> tuple[Span, ...]:
    """Returns the spans in a fingerprint from `combine_fingerprints`.

    The fingerprint of a single data set, a SHA-256, contains no spans.
    """
    found = (re.fullmatch("([0-9]+):(.*)", part) for part in fingerprint.split(","))
    return tuple(Span(int(match[1]), match[2]) for match in found if match)


def describe_spans(spans: Sequence[Span]) -> str:
    """Returns the numbers as text, `span 7` or `spans 5, 7`; empty without spans."""
    if not spans:
        return ""
    numbers = ", ".join(str(span.number) for span in spans)
    return f"span{'s' if len(spans) > 1 else ''} {numbers}"
