"""The client of a webhook: posts JSON with retries, within a time limit.

The texts of requests' exceptions, urllib3's log records and http.client's debug output
contain the whole URL, which may have a secret in its path. So no message contains them,
and the thread that posts neither logs nor prints them.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable

import requests
import tenacity

from model.errors import PipelineError
from pipeline.config.notifications import hide_secrets

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds between tries

_this_thread = threading.local()  # has `is_posting` in a thread that posts


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
    _hide_log_records_of_posts()
    problems: list[str] = []

    def run() -> None:
        _this_thread.is_posting = True
        try:
            _post_with_retries(
                functools.partial(_post_once, url, token=token, body=body),
                timeout=timeout,
                sleep=sleep,
            )
            problems.append("")
        except WebhookError as error:
            problems.append(str(error))
        except Exception as error:
            problems.append(f"was not notified: {type(error).__name__}")

    # In a thread, because requests' timeouts limit neither DNS nor an answer that comes
    # byte by byte. A daemon thread does not delay the end of the process.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout)
    problem = problems[0] if problems else str(_create_timeout_error(timeout))
    if problem:
        # Without a cause: a log of the traceback would contain the cause's text.
        raise WebhookError(f"{hide_secrets(url)} {problem}")


def _hide_log_records_of_posts() -> None:
    """Makes logging empty each record that is created in a thread that posts.

    This acts on all loggers, also on those that a library creates later. It stays in
    force, because a thread may continue after its post took too long.
    """
    create = logging.getLogRecordFactory()
    if getattr(create, "func", None) is not _create_log_record:
        logging.setLogRecordFactory(functools.partial(_create_log_record, create))


def _create_log_record(
    create: Callable[..., logging.LogRecord], *arguments: object, **options: object
) -> logging.LogRecord:
    record = create(*arguments, **options)
    if getattr(_this_thread, "is_posting", False):
        record.msg = "hidden, because it may contain the webhook's URL or token"
        record.args = ()
        record.exc_info = record.exc_text = record.stack_info = None
    return record


class _Adapter(requests.adapters.HTTPAdapter):
    """Sends requests without http.client's debug output, whatever its debug level."""

    def get_connection_with_tls_context(self, *arguments, **options):
        pool = super().get_connection_with_tls_context(*arguments, **options)
        pool.ConnectionCls = type(
            "Connection", (pool.ConnectionCls,), {"debuglevel": 0}
        )
        return pool


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
        session.mount("http://", _Adapter())
        session.mount("https://", _Adapter())
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
