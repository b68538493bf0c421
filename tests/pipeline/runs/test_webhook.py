"""Posts to real HTTP servers; the tests skip only the waits between attempts."""

import re

import pytest

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
def test_a_server_that_fails_thrice_and_then_works_gets_it(serve, post, status):
    server = serve(status, status, status, 200)
    post(server.url)
    assert len(server.requests) == 4
    assert len({body for _, _, body in server.requests}) == 1


def test_each_wait_is_about_twice_the_one_before(serve, post, sleeps):
    post(serve(503, 503, 503, 503, 200).url)
    assert len(sleeps) == 4
    for number, wait in enumerate(sleeps):
        assert 0.5 * 2**number <= wait <= 0.5 * 2**number + 0.5


def test_a_server_that_never_works_is_given_up_in_time(serve, post, sleeps):
    server = serve(503)
    message = error_of(post, server.url + SECRET_PATH, timeout=10.0)
    tries = len(server.requests)
    # The waits are at least 0.5, 1, 2, 4, 8 and 16 s, and at most 0.5 s longer: the
    # sixth would take longer than the timeout.
    assert tries == 6
    assert max(sleeps) < 10.0
    assert message == f"{server.url}/... answered 503, {tries} times"


@pytest.mark.parametrize("drops", [False, True])
def test_a_server_that_hangs_costs_the_timeout_at_most(serve, post, drops):
    server = serve(None, drops=drops)
    message = error_of(post, server.url, timeout=0.4)
    assert message == f"{server.url}/... did not answer in 0.4 s"


def test_an_address_where_nobody_listens_is_tried_again(post, sleeps):
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


def test_a_token_that_is_no_header_is_not_shown(serve, post):
    message = error_of(post, serve(200).url, token=f"{TOKEN}\nX: y")
    assert message.endswith("/... was not notified: ValueError")
    assert TOKEN not in message
