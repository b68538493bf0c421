"""The search for the known name that a user probably meant by a mistyped name."""

import difflib
from collections.abc import Iterable


def find_nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that is most similar to a mistyped one, or None."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return close[0] if close else None


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns `: did you mean NAME?`, or an empty text if no known name is similar.

    The text is the end of an error message about the mistyped name.
    """
    nearest = find_nearest(name, known)
    return f": did you mean {nearest}?" if nearest else ""
