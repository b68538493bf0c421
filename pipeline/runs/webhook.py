"""Posts JSON to a webhook, with retries and within a time limit.

No text of requests' exceptions goes into a message: it contains the whole URL.
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
    """The next try may succeed."""


def post(
    url: str,
    *,
    token: str,
    body: str,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Posts JSON, and returns when the server accepted it.

    Tries again without a connection and after 429 and 5xx; follows no redirect.

    Args:
      url: an https:// URL, or an http:// URL of this machine.
      token: sent as `Authorization: Bearer`, unless empty.
      body: the JSON.
      timeout: seconds for all tries together.
      sleep: waits between two tries.

    Raises:
      WebhookError: the server did not accept it, or not in time.
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
    # byte by byte. A daemon thread does not keep the process from ending.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout)
    error = result[0] if result else _timed_out(timeout)
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
        # The credentials in ~/.netrc would replace a header of `headers`.
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    tried = "" if attempt == 1 else f", {attempt} times"
    try:
        session = requests.Session()
        # Plain HTTP goes to this machine only: no proxy may read it.
        session.trust_env = not url.lower().startswith("http:")
        response = session.post(
            url,
            data=body.encode(),
            headers={"Content-Type": "application/json"},
            auth=authorize,
            timeout=timeout,
            allow_redirects=False,  # another host must not get the record or the token
            stream=True,  # the body of the answer is not read
        )
    except requests.exceptions.SSLError as error:
        raise WebhookError(
            "speaks no TLS, or has no certificate that is trusted"
        ) from error
    except requests.ConnectionError as error:
        raise _RetryableError(f"can't be reached{tried}") from error
    except requests.Timeout as error:
        raise _timed_out(timeout) from error
    response.close()
    code = response.status_code
    if code == requests.codes.too_many_requests or code >= 500:
        raise _RetryableError(f"answered {code}{tried}")
    if 300 <= code < 400:
        raise WebhookError(f"answered {code}: redirects are not followed")
    if not response.ok:
        raise WebhookError(f"answered {code}")


def _timed_out(timeout: float) -> WebhookError:
    return WebhookError(f"did not answer in {timeout:.3g} s")
