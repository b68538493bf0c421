"""The connection to a Kubeflow Pipelines API server."""

import dataclasses
import json
import os
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import kfp
import kfp_server_api
import urllib3
from kfp.client import set_volume_credentials
from kfp_server_api import rest

from model.errors import PipelineError
from pipeline.config.loading import ConfigError

TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105, a variable's name

_PAGE = 100  # of a list, in items
_MESSAGE = 400  # characters of a server's message that are shown at most
_REPEATED = (500, 502, 503, 504)


class ClusterError(PipelineError):
    """The API server did not do what was requested.

    Attributes:
      status: the HTTP status of its answer; None: it did not answer.
    """

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The time limits of a request."""

    connect: float = 10.0  # seconds
    read: float = 60.0  # seconds, until the next bytes of the answer
    backoff: float = 1.0  # seconds; before the third attempt, twice that for the next


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A connection to an API server."""

    client: kfp.Client
    namespace: str | None  # None: KFP has only one user

    def link(self, page: str) -> str:
        """Returns the URL of a page of the UI, such as runs/details/ID."""
        return f"{self.client._get_url_prefix()}/#/{page}"

    def run_link(self, run_id: str) -> str:
        """Returns the URL of a run's page of the UI."""
        return self.link(f"runs/details/{run_id}")


def connect(host: str | None, namespace: str | None, *, limits: Limits) -> Cluster:
    """Connects as kfp.Client does, but with time limits for every request.

    Credentials are kfp.Client's: IAP's variables (KF_PIPELINES_IAP_OAUTH2_CLIENT_ID,
    KF_PIPELINES_APP_OAUTH2_CLIENT_ID and _SECRET), ~/.config/kfp/context.json (a cookie
    or a header), Application Default Credentials for *.googleusercontent.com, and
    without a host the pod's service account or the kubeconfig. TOKEN_FILE too, which
    kfp.Client itself reads only in a pod.

    Args:
      host: the URL before /apis/; None: kfp.Client finds it.
      namespace: a user's; None: the namespace of kfp's context, or none.
      limits: the time limits of each request.

    Raises:
      ConfigError: the host or the token file is not what it should be.
      ClusterError: KFP can't be reached, or refuses.
    """
    if host is not None:
        _check_host(host)

    class Client(kfp.Client):
        def get_kfp_healthz(self, sleep_duration=5):
            # kfp's constructor calls this five times, without a time limit.
            _install_limits(self, limits)
            return super().get_kfp_healthz(sleep_duration)

    client = Client(host=host, credentials=_find_token())
    _install_limits(client, limits)
    return Cluster(client, namespace or client.get_user_namespace() or None)


def pages(call: Callable, field: str, **arguments: Any) -> Iterator[Any]:
    """Yields the items of all pages of a list."""
    token = ""
    while True:
        page = call(page_token=token, page_size=_PAGE, **arguments)
        yield from getattr(page, field) or ()
        token = page.next_page_token
        if not token:
            return


def filter_by_name(name: str) -> str:
    """Returns the filter that limits a list of KFP's to one display name."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


class _Rest(rest.RESTClientObject):
    """kfp-server-api's requests, with time-outs, repetition and clear errors.

    Every request goes through it, whatever a version of kfp-server-api names its API.
    """

    def __init__(self, configuration, limits: Limits):
        self._timeouts = (limits.connect, limits.read)
        # Only a GET is repeated after a request may have reached the server.
        configuration.retries = urllib3.Retry(
            total=3,
            connect=1,
            read=0,
            status=3,
            allowed_methods=["GET"],
            status_forcelist=_REPEATED,
            backoff_factor=limits.backoff,
            raise_on_status=False,
        )
        super().__init__(configuration)

    def request(self, method, url, **arguments):
        arguments["_request_timeout"] = self._timeouts
        what = f"{method} {url.partition('?')[0]}"
        try:
            response = super().request(method, url, **arguments)
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(
                self._describe_failure(what, method, error=error)
            ) from error
        except kfp_server_api.ApiException as error:
            raise ClusterError(
                _describe_refusal(what, error), error.status or None
            ) from error
        if response.data.lstrip()[:1] == b"<":
            raise ClusterError(
                f"{what} gave a page of HTML, not KFP's JSON, most likely to log in: "
                "give credentials (see --help), or the address of KFP's API itself"
            )
        return response

    def _describe_failure(self, what: str, method: str, *, error: Exception) -> str:
        """Returns the message for a request that was not answered."""
        cause = getattr(error, "reason", None) or error  # of a MaxRetryError
        if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
            text = f"{what} was not answered within {self._timeouts[1]:g} s"
        elif type(cause) is urllib3.exceptions.ConnectTimeoutError:  # not a refusal
            text = f"{what} could not connect within {self._timeouts[0]:g} s"
        else:
            return (
                f"{what} can't be reached ({_reason(cause)}): is --host right, and, if "
                "it is a port-forward, does `kubectl port-forward` still run?"
            )
        text += ": is the server well, and the way to it?"
        if method != "GET":
            text += " It may have been done all the same: look before you call again"
        return text


def _install_limits(client: kfp.Client, limits: Limits) -> None:
    # All of kfp.Client's APIs share this api_client.
    api_client = client._healthz_api.api_client
    api_client.rest_client = _Rest(api_client.configuration, limits)


def _check_host(host: str) -> None:
    url = urllib.parse.urlsplit(host)
    if "@" in url.netloc:
        raise ConfigError(
            "--host must hold no credentials, got some before an @: see --help for "
            "where they go"
        )
    if url.scheme not in ("http", "https") or not url.netloc:
        raise ConfigError(
            f"--host must be a URL such as http://localhost:8080, got {host!r}"
        )


def _find_token() -> set_volume_credentials.ServiceAccountTokenVolumeCredentials | None:
    path = os.environ.get(TOKEN_FILE)
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError(
            f"{TOKEN_FILE} must name a file that holds a token, got {path}: {reason}"
        ) from error
    return set_volume_credentials.ServiceAccountTokenVolumeCredentials(path)


def _describe_refusal(what: str, error: Any) -> str:
    """Returns the message for a request that was answered with an error."""
    if not error.status:  # TLS
        return f"{what} can't be reached safely: {_first_line(error.reason)}"
    message = _find_message(error.body)
    if error.status == 401:
        advice = "it wants credentials, or others: see --help for where they go"
    elif error.status == 403:
        advice = "these credentials may not do that: ask for the role, or --namespace"
    elif error.status == 404:
        advice = (
            "there is no such thing, or this is not KFP's API: --host is what comes "
            "before /apis/"
        )
    elif error.status >= 500:
        advice = "the server failed: see the log of its deployment ml-pipeline"
    else:
        advice = "mend what it says, and call again"
    return f"{what} was answered with {error.status} ({message}): {advice}"


def _find_message(body: bytes) -> str:
    """Returns the first line of the server's message, from any of its formats."""
    text = (body or b"").decode(errors="replace").strip()
    try:
        fields = json.loads(text)
        keys = ("message", "error_message", "error")
        text = next(str(fields[key]) for key in keys if fields.get(key))
    except (ValueError, AttributeError, StopIteration):
        if text.startswith("<"):
            text = "a page of HTML"
    return _first_line(text) or "without a word"


def _reason(cause: Any) -> str:
    # urllib3 puts the object's name before the reason.
    return _first_line(str(cause).rpartition(": ")[2])


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:_MESSAGE]
