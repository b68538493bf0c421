"""Span: the number and the fingerprint of a span's data, and their written forms."""

import dataclasses
import json
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Span:
    """A span that was read: the data of its time."""

    number: int
    fingerprint: str  # SHA-256 of its images and labels

    def to_content(self) -> dict[str, int | str]:
        """Returns the JSON object of it in manifests and in Ingest's examples."""
        return {"span": self.number, "fingerprint": self.fingerprint}


def format_json(spans: Sequence[Span]) -> str:
    """Returns spans as JSON; `[]` if there are none."""
    return json.dumps([span.to_content() for span in spans])


def parse_json(text: str) -> tuple[Span, ...]:
    """Returns the spans that `format_json` wrote; none of an empty text."""
    content = json.loads(text or "[]")
    return tuple(Span(each["span"], each["fingerprint"]) for each in content)


def combine_fingerprints(spans: Sequence[Span]) -> str:
    """Returns the fingerprint of several spans: NUMBER:SHA-256,NUMBER:SHA-256."""
    return ",".join(f"{span.number}:{span.fingerprint}" for span in spans)


def parse_fingerprint(fingerprint: str) -> tuple[Span, ...]:
    """Returns the spans of a data fingerprint; none if it is of a data set."""
    found = (re.fullmatch("([0-9]+):(.*)", part) for part in fingerprint.split(","))
    return tuple(Span(int(match[1]), match[2]) for match in found if match)


def describe_spans(spans: Sequence[Span]) -> str:
    """Returns `span 7`, or `spans 5, 7`; empty if there are none."""
    if not spans:
        return ""
    numbers = ", ".join(str(span.number) for span in spans)
    return f"span{'s' if len(spans) > 1 else ''} {numbers}"
