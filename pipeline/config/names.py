"""The nearest of the known names, for messages about a mistyped one."""

import difflib
from collections.abc import Iterable


def find_nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that resembles a mistyped one most; None if none does."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return close[0] if close else None


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns `: did you mean NAME?`; an empty text if no known name resembles it."""
    nearest = find_nearest(name, known)
    return f": did you mean {nearest}?" if nearest else ""
