"""The check for words that docstrings, comments, messages and names must not contain.

    python .ci/plain_english.py FOLDER ...

Prints each occurrence as `file:line: 'word': text` and exits with 1 if there is one.
"""

import ast
import io
import pathlib
import re
import sys
import tokenize
from collections.abc import Iterator

# Words that are wrong here in every sense, so that a search can find them.
REFUSED = """
    aught, came of, come of, comes of, glance, gone back, is taken as, lest, naught,
    of ours, of theirs, said so, seals, sealed, so be it, stands for itself,
    thereof, therein, told, whom
"""
# Words that no name may contain between its underscores.
REFUSED_IN_NAMES = """
    aught, came_of, glance, goes_on, gone_back, lest, naught, said, thereof, therein,
    told, whom
"""
_WORDS = [re.escape(word.strip()) for word in REFUSED.split(",")]
_PATTERN = re.compile(
    rf"\b({'|'.join(_WORDS)})\b".replace(r"\ ", r"\s+"), re.IGNORECASE
)
_WORDS_IN_NAMES = "|".join(word.strip() for word in REFUSED_IN_NAMES.split(","))
_IN_NAMES = re.compile(rf"(?<![a-z])({_WORDS_IN_NAMES})(?![a-z])", re.IGNORECASE)


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yields the line number and the text of each comment and string in a module."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def refused_words(source: str) -> list[tuple[int, str, str]]:
    """Returns each refused word in a module: its line number, the word and the line."""
    found = []
    for line, text in texts(source):
        for match in _PATTERN.finditer(text):
            lines_before = text.count("\n", 0, match.start())
            row = text.splitlines()[lines_before].strip()
            word = " ".join(match[0].split())
            found.append((line + lines_before, word, row))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and (match := _IN_NAMES.search(token.string)):
            found.append((token.start[0], match[0], token.line.strip()))
    return sorted(found)


def main(folders: list[str]) -> int:
    """Prints the refused words in all modules of folders; returns the exit code."""
    found = False
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            for line, word, row in refused_words(source):
                found = True
                print(f"{path}:{line}: {word!r}: {row}")
    return int(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
