"""Secrets that a setting names as env:NAME or file:PATH, and never contains."""

import os
import pathlib
import re

from model.errors import PipelineError
from model.files import regular_files, safe_paths

REFERENCE = re.compile(r"(env|file):.+")  # a setting that names a secret

_LONGEST_SECRET = 10_000  # characters
_LONGEST_NAME = 200  # characters of a variable's or a file's name in a message


class SecretError(PipelineError):
    """A secret can't be read; the message names its place and contains none of it."""

    is_bad_input = True


def read_secret(reference: str, *, setting: str) -> str:
    """Returns the text that env:NAME or file:PATH names, without space at its ends.

    Args:
      reference: the setting's value.
      setting: the setting's name, such as notify.token, for the messages.

    Raises:
      SecretError: the variable or the file is missing, empty, too long or unreadable.
    """
    kind, _, place = reference.partition(":")
    where = place[:_LONGEST_NAME]
    if kind == "env":
        value = os.environ.get(place, "").strip()
        if not value:
            raise SecretError(
                f"the environment variable {where}, which {setting} names, must be set"
            )
        return value
    try:
        path = pathlib.Path(safe_paths.expand_home(place))
        # A character has at most 4 bytes.
        with regular_files.open_regular(path) as file:
            value = file.read(4 * (_LONGEST_SECRET + 1)).decode().strip()
    except (regular_files.IrregularFileError, IsADirectoryError):
        raise SecretError(
            f"{where}, which {setting} names, must be a regular file"
        ) from None
    except (OSError, UnicodeDecodeError, safe_paths.PathError) as error:
        is_home = isinstance(error, safe_paths.PathError)
        why = str(error) if is_home else getattr(error, "strerror", "not UTF-8")
        # Without a cause: the text of UnicodeDecodeError contains the file's bytes.
        raise SecretError(
            f"the file {where}, which {setting} names, can't be read: {why}"
        ) from None
    if not value:
        raise SecretError(f"the file {where}, which {setting} names, must not be empty")
    if len(value) > _LONGEST_SECRET:
        raise SecretError(
            f"the file {where}, which {setting} names, must have at most "
            f"{_LONGEST_SECRET:,} characters, got more"
        )
    return value
