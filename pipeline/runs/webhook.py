"""Posts JSON to a URL: tries again while that may help, for as long as it is told.

No text of an exception goes out from here: requests' own hold the URL.
"""

import threading
import time

import requests
import tenacity

from pipeline.config.notifications import shown

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds between tries


class WebhookError(Exception):
    """It was not told; the message holds neither the token nor the URL's path."""


class _LaterError(WebhookError):
    """It may work at the next try."""


def post(url: str, token: str, body: str, timeout: float) -> None:
    """Posts a text of JSON; returns when the answer says that it was taken.

    Tries again if there is no connection, and after 429 and 5xx; follows no redirect.

    Args:
      url: where to.
      token: sent as `Authorization: Bearer`, unless empty.
      body: the JSON.
      timeout: seconds that all of it may take.

    Raises:
      WebhookError: it was not taken, or not in time.
    """
    ended: list[Exception | None] = []

    def tries() -> None:
        try:
            _tries(url, token, body, timeout)
            ended.append(None)
        except Exception as error:
            ended.append(error)

    # In a thread: requests' timeouts bound neither DNS nor an answer that comes in
    # drops. As a daemon it can't keep the process from its end.
    thread = threading.Thread(target=tries, daemon=True)
    thread.start()
    thread.join(timeout)
    error = ended[0] if ended else _late(timeout)
    if isinstance(error, WebhookError):
        raise WebhookError(f"{shown(url)} {error}") from error
    if error is not None:
        why = type(error).__name__
        raise WebhookError(f"{shown(url)} can't be told: {why}") from error


def _tries(url: str, token: str, body: str, timeout: float) -> None:
    end = time.monotonic() + timeout
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_LaterError),
        wait=tenacity.wait_exponential_jitter(
            _FIRST_WAIT, _LONGEST_WAIT, jitter=_FIRST_WAIT
        ),
        stop=tenacity.stop_before_delay(timeout),
        reraise=True,
    ):
        with attempt:
            left = max(end - time.monotonic(), 0.01)
            _once(url, token, body, left, attempt.retry_state.attempt_number)


def _once(url: str, token: str, body: str, timeout: float, number: int) -> None:
    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # As one of `headers`, what ~/.netrc says would go over it.
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    tried = "" if number == 1 else f", {number} times"
    try:
        session = requests.Session()
        # Plain HTTP is to this machine: no proxy may read it.
        session.trust_env = not url.lower().startswith("http:")
        response = session.post(
            url,
            data=body.encode(),
            headers={"Content-Type": "application/json"},
            auth=authorize,
            timeout=timeout,
            allow_redirects=False,  # no other host gets the record or the token
            stream=True,  # nobody reads the answer
        )
    except requests.exceptions.SSLError as error:
        raise WebhookError(
            "speaks no TLS, or has no certificate that is trusted"
        ) from error
    except requests.ConnectionError as error:
        raise _LaterError(f"can't be reached{tried}") from error
    except requests.Timeout as error:
        raise _late(timeout) from error
    response.close()
    code = response.status_code
    if code == requests.codes.too_many_requests or code >= 500:
        raise _LaterError(f"answered {code}{tried}")
    if 300 <= code < 400:
        raise WebhookError(f"answered {code}: redirects are not followed")
    if not response.ok:
        raise WebhookError(f"answered {code}")


def _late(timeout: float) -> WebhookError:
    return WebhookError(f"did not answer in {timeout:.3g} s")
