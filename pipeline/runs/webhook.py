"""The client of a webhook: posts JSON with retries, within a time limit.

The texts of requests' exceptions contain the whole URL, which may have a secret in its
path. So no message contains them.
"""

import functools
import threading
import time
from collections.abc import Callable

import requests
import tenacity

from model.errors import PipelineError
from pipeline.config.notifications import hide_secrets

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds between tries


class WebhookError(PipelineError):
    """The post failed; the message contains neither the token nor the URL's path."""


class _RetryableError(WebhookError):
    """The post failed, but the next try may succeed."""


def post(
    url: str,
    *,
    token: str,
    body: str,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Posts JSON to a URL, and returns when the server has accepted it.

    This tries again if the connection fails, or the status is 429 or 5xx. Redirects are
    not followed.

    Args:
      url: an https:// URL, or an http:// URL of this machine.
      token: the token of the `Authorization: Bearer` header; empty: no header.
      body: the JSON text.
      timeout: seconds for all tries together.
      sleep: waits a number of seconds between two tries.

    Raises:
      WebhookError: the server did not accept the post within the time.
    """
    result: list[Exception | None] = []

    def run() -> None:
        try:
            _post_with_retries(
                functools.partial(_post_once, url, token=token, body=body),
                timeout=timeout,
                sleep=sleep,
            )
            result.append(None)
        except Exception as error:
            result.append(error)

    # In a thread, because requests' timeouts limit neither DNS nor an answer that comes
    # byte by byte. A daemon thread does not delay the end of the process.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout)
    error = result[0] if result else _create_timeout_error(timeout)
    if isinstance(error, WebhookError):
        raise WebhookError(f"{hide_secrets(url)} {error}") from error
    if error is not None:
        why = type(error).__name__
        raise WebhookError(f"{hide_secrets(url)} was not notified: {why}") from error


def _post_with_retries(
    post_once: Callable[..., None], *, timeout: float, sleep: Callable[[float], None]
) -> None:
    end = time.monotonic() + timeout
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_RetryableError),
        wait=tenacity.wait_exponential_jitter(
            _FIRST_WAIT, _LONGEST_WAIT, jitter=_FIRST_WAIT
        ),
        stop=tenacity.stop_before_delay(timeout),
        sleep=sleep,
        reraise=True,
    ):
        with attempt:
            left = max(end - time.monotonic(), 0.01)
            post_once(timeout=left, attempt=attempt.retry_state.attempt_number)


def _post_once(
    url: str, *, token: str, body: str, timeout: float, attempt: int
) -> None:
    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # requests would replace a header in `headers` by credentials of ~/.netrc.
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    tried = "" if attempt == 1 else f", {attempt} times"
    try:
        session = requests.Session()
        # Plain HTTP goes to this machine only, so it must not go through a proxy.
        session.trust_env = not url.lower().startswith("http:")
        response = session.post(
            url,
            data=body.encode(),
            headers={"Content-Type": "application/json"},
            auth=authorize,
            timeout=timeout,
            allow_redirects=False,  # must not send the token to another host
            stream=True,  # leaves the body of the answer unread
        )
    except requests.exceptions.SSLError as error:
        raise WebhookError(
            "speaks no TLS, or has no certificate that is trusted"
        ) from error
    except requests.ConnectionError as error:
        raise _RetryableError(f"can't be reached{tried}") from error
    except requests.Timeout as error:
        raise _create_timeout_error(timeout) from error
    response.close()
    code = response.status_code
    if code == requests.codes.too_many_requests or code >= 500:
        raise _RetryableError(f"answered {code}{tried}")
    if 300 <= code < 400:
        raise WebhookError(f"answered {code}: redirects are not followed")
    if not response.ok:
        raise WebhookError(f"answered {code}")


def _create_timeout_error(timeout: float) -> WebhookError:
    return WebhookError(f"did not answer in {timeout:.3g} s")
