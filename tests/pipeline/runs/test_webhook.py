"""Posts to real HTTP servers; the tests skip only the waits between attempts."""

import http.client
import logging
import re
import threading
import traceback

import pytest
import requests

from pipeline.runs import webhook
from tests.support import webhook_server

TOKEN = "t0ken-that-nobody-may-see"
SECRET_PATH = "/services/p4th-that-nobody-may-see"
BODY = '{"text": "ein Maß"}'


@pytest.fixture
def serve():
    with webhook_server.servers() as serve:
        yield serve


@pytest.fixture
def sleeps():
    """Returns the list of the waits between attempts, in seconds."""
    return []


@pytest.fixture
def post(sleeps):
    def post(url, *, token="", timeout=10.0):
        webhook.post(url, token=token, body=BODY, timeout=timeout, sleep=sleeps.append)

    return post


def error_of(post, url, **options):
    with pytest.raises(webhook.WebhookError) as error:
        post(url, **options)
    return str(error.value)


def test_the_body_is_posted_as_json_with_the_token(serve, post):
    server = serve(204)
    post(f"{server.url}/hook?key=1", token=TOKEN)
    ((path, headers, body),) = server.requests
    assert path == "/hook?key=1"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Content-Type"] == "application/json"
    assert body == BODY.encode("utf-8")


def test_without_a_token_there_is_no_header(serve, post):
    server = serve(200)
    post(server.url)
    assert "Authorization" not in server.requests[0][1]


def test_netrc_does_not_replace_the_token(serve, post, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    server = serve(200)
    post(server.url, token=TOKEN)
    assert server.requests[0][1]["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_works_after_three_failures_gets_the_post(serve, post, status):
    server = serve(status, status, status, 200)
    post(server.url)
    assert len(server.requests) == 4
    assert len({body for _, _, body in server.requests}) == 1


def test_each_wait_is_about_twice_the_one_before(serve, post, sleeps):
    post(serve(503, 503, 503, 503, 200).url)
    assert len(sleeps) == 4
    for number, wait in enumerate(sleeps):
        assert 0.5 * 2**number <= wait <= 0.5 * 2**number + 0.5


def test_a_server_that_never_works_ends_within_the_timeout(serve, post, sleeps):
    server = serve(503)
    message = error_of(post, server.url + SECRET_PATH, timeout=10.0)
    tries = len(server.requests)
    # The waits are at least 0.5, 1, 2, 4, 8 and 16 s, and at most 0.5 s longer: the
    # sixth would take longer than the timeout.
    assert tries == 6
    assert max(sleeps) < 10.0
    assert message == f"{server.url}/... answered 503, {tries} times"


@pytest.mark.parametrize("drops", [False, True])
def test_a_server_that_hangs_takes_at_most_the_timeout(serve, post, drops):
    server = serve(None, drops=drops)
    message = error_of(post, server.url, timeout=0.4)
    assert message == f"{server.url}/... did not answer in 0.4 s"


def test_a_refused_connection_is_tried_again(post, sleeps):
    message = error_of(post, "http://127.0.0.1:9/hook", timeout=3.0)
    assert re.fullmatch(
        r"http://127\.0\.0\.1:9/\.\.\. can't be reached, \d times", message
    )
    assert len(sleeps) >= 1


@pytest.mark.parametrize("status", [400, 401, 404])
def test_an_answer_that_will_not_improve_is_not_tried_again(serve, post, status):
    server = serve(status)
    assert error_of(post, server.url) == f"{server.url}/... answered {status}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_not_followed(serve, post, status):
    other = serve(200)
    server = serve(status, location=other.url.replace("127.0.0.1", "localhost"))
    assert error_of(post, server.url, token=TOKEN) == (
        f"{server.url}/... answered {status}: redirects are not followed"
    )
    assert other.requests == []


def test_no_proxy_gets_a_post_to_this_machine(serve, post, monkeypatch):
    server, proxy = serve(200), serve(200)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    post(server.url, token=TOKEN)
    assert len(server.requests) == 1
    assert proxy.requests == []


def test_a_server_without_a_certificate_is_not_trusted(serve, post):
    url = serve(200).url.replace("http:", "https:")
    assert error_of(post, url) == (
        f"{url}/... speaks no TLS, or has no certificate that is trusted"
    )


def test_a_token_that_is_not_a_valid_header_is_not_shown(serve, post):
    message = error_of(post, serve(200).url, token=f"{TOKEN}\nX: y")
    assert message.endswith("/... was not notified: ValueError")
    assert TOKEN not in message


CANARY = "c4nary"  # in all parts of a URL and in the token: nobody may see it


def secret_url(server):
    host = server.url.partition("//")[2]
    return f"http://u-{CANARY}:p-{CANARY}@{host}/s/{CANARY}?key={CANARY}#{CANARY}"


@pytest.fixture
def seen(capfd, monkeypatch):
    """Returns a function that returns all that libraries log and print."""
    lines = []

    class Handler(logging.Handler):
        def emit(self, record):
            lines.append(f"{record.name} {self.format(record)} {vars(record)}")

    handler = Handler(logging.DEBUG)
    loggers = [logging.getLogger(), *map(logging.getLogger, ("urllib3", "requests"))]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)

    def read():
        out, err = capfd.readouterr()
        return "\n".join([*lines, out, err])

    yield read
    logging.getLogger().removeHandler(handler)
    for logger, level in zip(loggers, levels):
        logger.setLevel(level)


def wait_for_posts():
    for thread in threading.enumerate():
        if thread.name.endswith("(run)"):
            thread.join(5.0)
            assert not thread.is_alive()


def test_other_requests_are_logged_and_printed(serve, post, seen, monkeypatch):
    """The next test would see a secret: this one does, and sees it after a post too."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    post(serve(200).url)
    wait_for_posts()
    requests.post(secret_url(serve(200, echoes=True)), data=b"", timeout=5.0)
    text = seen()
    assert "Failed to parse headers (url=http://127.0.0.1" in text
    assert f'"POST /s/{CANARY}?key={CANARY} HTTP/1.1" 200' in text
    assert f"send: b'POST /s/{CANARY}" in text


@pytest.mark.parametrize(
    ("statuses", "options", "problem"),
    [
        ((200,), {"echoes": True}, None),
        ((503, 429, 200), {"echoes": True}, None),
        ((404,), {"echoes": True}, "answered 404"),
        ((503,), {"echoes": True}, "answered 503, "),
        ((307,), {"location": f"/{CANARY}", "echoes": True}, "answered 307: redirects"),
        ((302,), {"location": f"http://[{CANARY}"}, "was not notified: "),
        ((200,), {"hangs_up": True}, "can't be reached, "),
        ((None,), {}, "did not answer in 0.4 s"),
        ((None,), {"drops": True}, "did not answer in 0.4 s"),
    ],
)
def test_no_library_logs_or_prints_a_secret(
    serve, post, seen, statuses, options, problem
):
    server = serve(*statuses, **options)
    error = None
    try:
        timeout = 0.4 if statuses == (None,) else 3.0
        post(secret_url(server), token=f"t-{CANARY}", timeout=timeout)
    except webhook.WebhookError as raised:
        error = raised
        logging.exception("a caller logs it")
    assert CANARY in repr(server.requests)  # the server got it
    server.stop.set()  # an answer that is late
    wait_for_posts()
    text = seen()
    assert CANARY not in text
    assert "urllib3.connectionpool hidden, because it may contain the webhook's" in text
    if problem is None:
        assert error is None
    else:
        assert f"{server.url}/... {problem}" in str(error)
        assert CANARY not in "".join(traceback.format_exception(error))
        assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize(
    ("url", "token"),
    [
        (f"http://127.0.0.1:9/{CANARY}", f"t-{CANARY}"),
        (f"http://127.0.0.1:9/{CANARY}", f"t-{CANARY}\nX: y"),
        (f"http://{CANARY}:{CANARY}@127.0.0.1:9/\x00{CANARY}", ""),
        (f"https://{CANARY}@127.0.0.1:9/{CANARY}", ""),
    ],
)
def test_a_post_that_never_leaves_shows_no_secret(post, seen, url, token):
    with pytest.raises(webhook.WebhookError) as error:
        try:
            post(url, token=token, timeout=1.0)
        except webhook.WebhookError:
            logging.exception("a caller logs it")
            raise
    assert (error.value.__cause__, error.value.__context__) == (None, None)
    assert "a caller logs it" in (text := seen())
    assert CANARY not in text
