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

_PAGE = 100  # items per page of a list
_MESSAGE = 400  # the most characters of a server's message to show
_REPEATED = (500, 502, 503, 504)  # HTTP statuses after which a GET is repeated


class ClusterError(PipelineError):
    """A request to the API server failed.

    Attributes:
      status: the HTTP status of the answer; None: the server did not answer.
    """

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The time limits of a request."""

    connect: float = 10.0  # seconds
    read: float = 60.0  # seconds, until the next bytes of the answer
    backoff: float = 1.0  # seconds before the third attempt; doubled for each later one


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A connection to an API server."""

    client: kfp.Client
    namespace: str | None  # None: the server is for a single user

    def make_link(self, page: str) -> str:
        """Returns the URL of a page of KFP's UI.

        Args:
          page: the page's path, such as runs/details/ID.
        """
        return f"{self.client._get_url_prefix()}/#/{page}"

    def make_run_link(self, run_id: str) -> str:
        """Returns the URL of a run's page in KFP's UI."""
        return self.make_link(f"runs/details/{run_id}")


def connect(host: str | None, namespace: str | None, *, limits: Limits) -> Cluster:
    """Connects to an API server, with time limits for every request.

    kfp.Client finds the credentials: in IAP's variables
    (KF_PIPELINES_IAP_OAUTH2_CLIENT_ID, KF_PIPELINES_APP_OAUTH2_CLIENT_ID and _SECRET),
    in ~/.config/kfp/context.json (a cookie or a header), in Application Default
    Credentials for *.googleusercontent.com and, without a host, in the pod's service
    account or the kubeconfig. The file that TOKEN_FILE names is read too; kfp.Client
    reads it only in a pod.

    Args:
      host: the URL before /apis/; None: kfp.Client finds it.
      namespace: the user's namespace; None: the one in kfp's context, if there is one.
      limits: the time limits of each request.

    Raises:
      ConfigError: the host is no URL, or the token file can't be read.
      ClusterError: the server can't be reached, or refuses the connection.
    """
    if host is not None:
        _check_host(host)

    class Client(kfp.Client):
        def get_kfp_healthz(self, sleep_duration=5):
            # kfp.Client's constructor calls this five times, without a time limit.
            _install_limits(self, limits)
            return super().get_kfp_healthz(sleep_duration)

    client = Client(host=host, credentials=_find_token())
    _install_limits(client, limits)
    return Cluster(client, namespace or client.get_user_namespace() or None)


def list_items(call: Callable, field: str, **arguments: Any) -> Iterator[Any]:
    """Yields the items of a list that the server returns page by page.

    Args:
      call: the method of kfp.Client that requests one page.
      field: the attribute of a page that holds its items.
      **arguments: further arguments of `call`.
    """
    token = ""
    while True:
        page = call(page_token=token, page_size=_PAGE, **arguments)
        yield from getattr(page, field) or ()
        token = page.next_page_token
        if not token:
            return


def make_name_filter(name: str) -> str:
    """Returns the filter, in KFP's JSON, for the items with a certain display name."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


class _Rest(rest.RESTClientObject):
    """kfp-server-api's HTTP client, with time-outs, repetition and clear errors.

    It is the only place that all versions of kfp-server-api have in common: the names
    of their API's methods differ.
    """

    def __init__(self, configuration, limits: Limits):
        self._timeouts = (limits.connect, limits.read)
        # Once a request may have reached the server, only a GET is safe to repeat.
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
                f"{what} returned an HTML page, most likely a login page, but KFP's "
                "API returns JSON: give credentials (see --help), or the API's address"
            )
        return response

    def _describe_failure(self, what: str, method: str, *, error: Exception) -> str:
        """Returns the message for a request that the server did not answer.

        Args:
          what: the request's method and URL.
          method: the request's method.
          error: urllib3's error.
        """
        cause = getattr(error, "reason", None) or error  # a MaxRetryError has a reason
        if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
            text = f"{what} was not answered within {self._timeouts[1]:g} s"
        # Not isinstance: in urllib3 1, a refused connection has a subclass of it.
        elif type(cause) is urllib3.exceptions.ConnectTimeoutError:
            text = f"{what} could not connect within {self._timeouts[0]:g} s"
        else:
            return (
                f"{what} can't be reached ({_find_reason(cause)}): check --host and, "
                "if it is a forwarded port, whether `kubectl port-forward` still runs"
            )
        text += ": check the server and the network"
        if method != "GET":
            text += ". It may have been done anyway: check before you repeat it"
        return text


def _install_limits(client: kfp.Client, limits: Limits) -> None:
    # All of kfp.Client's APIs share this api_client.
    api_client = client._healthz_api.api_client
    api_client.rest_client = _Rest(api_client.configuration, limits)


def _check_host(host: str) -> None:
    try:
        url = urllib.parse.urlsplit(host)
        _ = url.port
    except ValueError as error:
        raise ConfigError(
            "--host must be a URL such as http://localhost:8080, got one with a wrong "
            f"address or port: {error}"
        ) from error
    if "@" in url.netloc:
        raise ConfigError(
            "--host must have no credentials, got some before an @: see --help for "
            "the ways to give them"
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
    """Returns the message for a request that the server answered with an error.

    Args:
      what: the request's method and URL.
      error: kfp-server-api's exception.
    """
    if not error.status:  # TLS failed
        return f"{what} can't be reached safely: {_shorten_to_one_line(error.reason)}"
    message = _find_message(error.body)
    if error.status == 401:
        advice = "it requires other credentials: see --help for the ways to give them"
    elif error.status == 403:
        advice = "your credentials do not allow it: get the role, or set --namespace"
    elif error.status == 404:
        advice = (
            "it does not exist, or --host is not KFP's API: --host is the part of the "
            "API's URL before /apis/"
        )
    elif error.status >= 500:
        advice = "the server failed: see the log of its deployment ml-pipeline"
    else:
        advice = "correct what the message says, and try again"
    return f"{what} was answered with {error.status} ({message}): {advice}"


def _find_message(body: bytes) -> str:
    """Returns the first line of the server's message.

    Args:
      body: the answer's body: JSON in one of KFP's formats, HTML or text.
    """
    text = (body or b"").decode(errors="replace").strip()
    try:
        fields = json.loads(text)
        keys = ("message", "error_message", "error")
        text = next(str(fields[key]) for key in keys if fields.get(key))
    except (ValueError, AttributeError, StopIteration):
        if text.startswith("<"):
            text = "an HTML page"
    return _shorten_to_one_line(text) or "no message"


def _find_reason(cause: Any) -> str:
    # urllib3 puts the object's name before the reason.
    return _shorten_to_one_line(str(cause).rpartition(": ")[2])


def _shorten_to_one_line(text: str) -> str:
    return text.strip().partition("\n")[0][:_MESSAGE]
