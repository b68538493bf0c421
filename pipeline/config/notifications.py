"""The sections of the configuration on notifications and metrics.

They do not change what a run makes.
"""

import dataclasses
import ipaddress
import json
import string
import urllib.parse
from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from model.config import SECTION
from model.files import locations, safe_paths, secret_values
from pipeline.config.addresses import format_address
from pipeline.config.names import suggest

# The run statuses that a notification can report.
Event = Literal["pushed", "unchanged", "refused", "failed", "bad_data", "interrupted"]

_PLACEHOLDERS = ("$text", "$event", "$model", "$run_id")  # of a template


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class NotifyConfig:
    """The targets of notifications, and the run statuses that are reported."""

    events: Annotated[
        list[Event], Field(description="the run statuses that are reported")
    ] = dataclasses.field(
        default_factory=lambda: ["pushed", "refused", "failed", "bad_data"]
    )
    webhook: Annotated[
        str,
        Field(
            description="env:NAME or file:PATH, the environment variable or the file "
            "that contains an https:// URL; or the URL itself, if it has no path or "
            "names this machine; http:// is for this machine only; empty: none"
        ),
    ] = ""
    token: Annotated[
        str,
        Field(
            description="env:NAME or file:PATH, the environment variable or the file "
            "that contains the webhook's bearer token; empty: none"
        ),
    ] = ""
    template: Annotated[
        str,
        Field(
            description="the JSON object that the webhook gets, with the placeholders "
            "$text, $event, $model and $run_id, and $$ for a dollar sign; empty: the "
            "run record with a line of text"
        ),
    ] = ""
    command: Annotated[
        list[str], Field(description="a program and its arguments; empty: none")
    ] = dataclasses.field(default_factory=list)
    timeout: Annotated[
        float,
        Field(
            gt=0.0,
            le=86_400.0,  # the system's calls have a limit, too: 24 days
            description="seconds for the webhook, all its tries together, and again "
            "for the command",
        ),
    ] = 10.0

    def __post_init__(self):
        if self.webhook and not secret_values.REFERENCE.fullmatch(self.webhook):
            if problem := find_url_problem(self.webhook):
                raise ValueError(problem)
            parts = urllib.parse.urlsplit(self.webhook)
            # Chat services put a secret into the path.
            path = "" if _is_local(parts.hostname) else parts.path.strip("/")
            if path or parts.query or parts.fragment:
                raise ValueError(
                    "webhook must have no path and no query here, where it is kept "
                    f"with the run, got {hide_secrets(self.webhook)}: put the URL into "
                    "a variable or a file (env:NAME, file:PATH)"
                )
        if self.token and not secret_values.REFERENCE.fullmatch(self.token):
            raise ValueError(
                "token must be env:NAME or file:PATH, got something else, which might "
                "be the token itself and is not shown"
            )
        if self.template and (problem := _find_template_problem(self.template)):
            raise ValueError(problem)
        if self.command and not self.command[0]:
            raise ValueError("command must begin with a program, got an empty word")


@pydantic.dataclasses.dataclass(frozen=True, config=SECTION)
class MetricsConfig:
    """The file that a run's metrics are written to."""

    textfile: Annotated[
        str,
        Field(
            description="a .prom file for node-exporter's textfile collector; "
            "empty: none"
        ),
    ] = ""

    def __post_init__(self):
        if self.textfile and not self.textfile.endswith(".prom"):
            raise ValueError(
                "textfile must end in .prom, for node-exporter reads no other, got "
                f"{self.textfile!r}"
            )
        if not self.textfile:
            return
        try:
            locations.check_local(self.textfile, what="textfile")
        except safe_paths.PathError as error:
            raise ValueError(str(error)) from error
        try:
            safe_paths.expand_home(self.textfile)
        except safe_paths.PathError as error:
            raise ValueError(f"textfile: {error}") from error


def find_url_problem(url: str) -> str | None:
    """Returns why a URL cannot be the webhook; None if it can.

    It must be https://, or http:// to this machine, and have no user and password. The
    text contains no part of the URL that may be a secret.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, user = parts.hostname, parts.username is not None
        _ = parts.port
    except ValueError:
        return "webhook must be an https:// URL, got no URL"
    secure = parts.scheme == "https" or (parts.scheme == "http" and _is_local(host))
    if not host or not secure:
        return (
            "webhook must be an https:// URL (http:// to this machine alone), got "
            f"{hide_secrets(url)}"
        )
    if user:
        return (
            "webhook must have no user and password, got some for "
            f"{hide_secrets(url)}: use notify.token"
        )
    return None


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Returns the JSON text of a template with its placeholders filled.

    Args:
      template: a valid `NotifyConfig.template`. Its placeholders are within texts,
        because JSON has no `$` elsewhere.
      values: the value of each placeholder, without its `$`.
    """
    escaped = {name: json.dumps(value)[1:-1] for name, value in values.items()}
    return string.Template(template).substitute(escaped)


def _find_template_problem(template: str) -> str | None:
    """Returns why a text cannot be a template; None if it can.

    The problem contains no part of the text but a placeholder's name, because the text
    may be a secret.
    """
    expected = 'template must be a JSON object, such as {"content": "$text"}'
    try:
        payload = json.loads(template, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        return (
            f"{expected}, got no JSON: {error.msg.removesuffix(' at')} at line "
            f"{error.lineno}, column {error.colno}"
        )
    except (ValueError, RecursionError):
        return (
            f"{expected}, got NaN, an infinity, a number that is too long or lists in "
            "too many lists"
        )
    if not isinstance(payload, dict):
        return f"{expected}, got JSON that is no object"
    for match in string.Template.pattern.finditer(template):
        name = f"${match['named'] or match['braced'] or ''}"
        if match["escaped"] is None and name not in _PLACEHOLDERS:
            return (
                f"template has the unknown placeholder {name}: use "
                f"{', '.join(_PLACEHOLDERS)}, or $$ for a dollar sign"
                f"{suggest(name, _PLACEHOLDERS)}"
            )
    return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def hide_secrets(url: str) -> str:
    """Returns a URL without its user, path and query, which may be secrets."""
    parts = urllib.parse.urlsplit(url)
    if not parts.scheme or not parts.hostname:
        return "no URL"
    return f"{parts.scheme}://{format_address(parts.hostname, parts.port)}/..."


def _is_local(host: str | None) -> bool:
    """Returns whether a host name or an IP address is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
