"""The parser of the paths and URIs in settings and options.

It reads a text as the user wrote it. After a change such as `rstrip("/")` or
`os.path.abspath`, the URI `s3://` of an empty variable would be the local folder `s3:`.
"""

import dataclasses
import re
import unicodedata

from model.errors import INVISIBLE
from model.files.safe_paths import PathError

SCHEMES = ("minio", "s3", "gs")  # the URI schemes of object stores
STORES = ", ".join(f"{scheme}://" for scheme in SCHEMES)  # for messages
FOLDER_OR_STORE = f"be a folder or begin with {STORES}"

_FORM = "a URI has the form s3://BUCKET/FOLDER"
_UNSET = "a variable in it may be unset"
# The beginning of a path that is probably a URI with a mistake, such as s3:/a or s3//a.
_ALMOST_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(:/|:|//)")
_ODD_COLON = re.compile(rf"({'|'.join((*SCHEMES, 'file'))})\W{{1,3}}//", re.IGNORECASE)
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
# The name of a bucket, or the ARN of an access point of S3.
_BUCKET = re.compile(r"arn:[A-Za-z0-9:-]+|[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_URI = 1_000  # characters; the key of an object has at most 1,024 bytes
_LONGEST_SHOWN = 300  # characters of a text in a message
_LONGEST_PATH = 4_000  # bytes; Linux has a limit of 4,095
_LONGEST_PART = 255  # bytes, in all common file systems
_VARIABLE = re.compile(r"\$[A-Za-z_{(]")


@dataclasses.dataclass(frozen=True)
class Location:
    """A local path, or a folder in an object store.

    Attributes:
      scheme: the URI scheme of the object store; empty: the location is a local path.
      path: the local path, which may begin with `~`; or the bucket and the folder.
    """

    scheme: str
    path: str


def parse(
    text: str, *, what: str = "a destination", expected: str = FOLDER_OR_STORE
) -> Location:
    """Returns the location that a path or URI means.

    Args:
      text: a path, a `file:///` URI or an object store's URI.
      what: name of the setting or option, for the messages.
      expected: the messages' words after `must`.

    Raises:
      PathError: the text is empty or blank, or a URI whose scheme is unknown, that has
        no bucket, an empty part, credentials, `.` or `..`; or it is a path that looks
        like a URI with a mistake, or a path of Windows; or it is too long.
    """
    shown = repr(re.sub("://[^/]*@", "://***@", text))  # without a password
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}..."

    def refuse(advice: str) -> PathError:
        return PathError(f"{what} must {expected}, got {shown}: {advice}")

    written = text.strip()
    if not written:
        raise refuse(f"there is no path in it; {_UNSET}")
    if "\0" in text:
        raise refuse("no path has a null character")
    scheme, separator, rest = written.partition("://")
    if not separator:
        if _WINDOWS.match(written):
            raise refuse("write a path of this system, such as /mnt/c/models")
        match = _ALMOST_URI.match(written)
        is_known = match and match[1].lower() in (*SCHEMES, "file")
        if match and (is_known or match[2] == ":/"):
            raise refuse(f"{_FORM}; write ./{written} for a folder of that name")
        # Such as the full-width colon of some keyboards, which a terminal shows alike.
        plain = INVISIBLE.sub("", unicodedata.normalize("NFKC", written))
        if "://" in plain or _ODD_COLON.match(written):
            raise refuse("write :// in ASCII, without invisible characters")
        if problem := _find_length_problem(text):
            raise refuse(problem)
        return Location("", text)
    if text != written:
        raise refuse("remove the spaces around the URI")
    if scheme == "file":
        if not rest.startswith("/"):
            raise refuse("after file:// must be a path from /")
        if problem := _find_length_problem(rest):
            raise refuse(problem)
        return Location("", rest)
    if scheme not in SCHEMES:
        if scheme.lower() in (*SCHEMES, "file"):
            raise refuse(f"write {scheme.lower()}:// in small letters")
        raise refuse(f"{scheme}:// is no scheme of a URI here; {_FORM}")
    if len(text) > _LONGEST_URI:
        raise refuse(f"it has more than {_LONGEST_URI:,} characters")
    bucket, *parts = rest.split("/")
    if {".", ".."} & {bucket, *parts}:
        raise PathError(f"{what} must have no . or .. in it, got {shown}")
    if not bucket:
        raise refuse(f"it has no bucket; {_UNSET}; {_FORM}")
    if "@" in bucket:
        raise refuse("give no credentials in a URI, but in the store's variables")
    if not _BUCKET.fullmatch(bucket):
        raise refuse(f"{bucket!r} is no name of a bucket; {_FORM}")
    if INVISIBLE.search(rest) or set("\t\n") & set(rest):
        raise refuse("remove the control characters")
    if "" in parts[:-1]:  # the last part is empty after a slash at the end
        raise refuse(f"one of its parts is empty; {_UNSET}")
    return Location(scheme, rest)


def _find_length_problem(path: str) -> str | None:
    """Returns why no file system has a path of this length; None if one may."""
    # `replace`, because another check refuses letters that the locale does not have.
    parts = path.encode(errors="replace").split(b"/")
    if sum(map(len, parts)) + len(parts) > _LONGEST_PATH:
        return f"it has more than {_LONGEST_PATH:,} bytes"
    if max(map(len, parts)) > _LONGEST_PART:
        return f"a part of it has more than {_LONGEST_PART} bytes"
    return None


def check_setting(text: str, *, what: str, expected: str = FOLDER_OR_STORE) -> Location:
    """Returns the location that a setting means.

    Settings expand no variables, so a variable in one is refused. In a local path, a
    variable is a part that begins with `$`.

    Args:
      text: the value of the setting.
      what: name of the setting, for the messages.
      expected: the messages' words after `must`.

    Raises:
      PathError: `parse` refuses the text, or it has a variable.
    """
    # Before the parser, which would only say that `$BUCKET` is no name of a bucket.
    is_uri = "://" in text
    parts = [text] if is_uri else text.split("/")
    find = _VARIABLE.search if is_uri else _VARIABLE.match
    may_have_password = is_uri and "@" in text  # `parse` does not show it
    if any(map(find, parts)) and not may_have_password:
        raise PathError(
            f"{what} must {expected}, got {text!r}: settings expand no variables such "
            "as $NAME; write the value"
        )
    return parse(text, what=what, expected=expected)


def check_local(text: str, *, what: str) -> None:
    """Checks that an option's value is a path of this machine, and no URI.

    Args:
      text: the value of the option.
      what: name of the option, for the messages.

    Raises:
      PathError: the text is empty or blank, a URI, or looks like one.
    """
    expected = "be a path of this machine"
    parse(text, what=what, expected=expected)
    if "://" in text:
        raise PathError(f"{what} must {expected}, got {text!r}: it can't be a URI")
