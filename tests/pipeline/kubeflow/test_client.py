"""The client of Kubeflow's API: credentials, errors and repeated requests."""

import json
import socket

import pytest

from pipeline.config.loading import ConfigError
from pipeline.kubeflow import client
from pipeline.kubeflow.client import ClusterError, Limits
from tests.kubeflow import api_server
from tests.kubeflow.api_server import LIMITS

pytest_plugins = ["tests.kubeflow.fixtures"]

SHORT = Limits(connect=0.5, read=0.5, backoff=0.01)
HTML = "<!DOCTYPE html><html><body>Log in to Your Account</body></html>"


def connect(kfp, namespace=None):
    return client.connect(kfp.url, namespace, limits=LIMITS)


def get(connection):
    return connection.client.get_run("11")


def test_a_connection_asks_once_and_links_to_the_ui(kfp):
    connection = connect(kfp)
    assert kfp.requests == [("GET", "/healthz")]
    assert connection.namespace is None
    assert connection.make_run_link("7") == f"{kfp.url}/#/runs/details/7"


def test_the_namespace_is_that_of_the_flag_or_of_kfps_context(kfp, tmp_path):
    assert connect(kfp, namespace="ada").namespace == "ada"
    context = {"namespace": "grace", "client_authentication_cookie": "session=1"}
    (tmp_path / "context.json").write_text(json.dumps(context))
    connection = connect(kfp)
    assert connection.namespace == "grace"
    cluster_list = connection.client.list_pipelines()
    assert cluster_list.pipelines is None
    assert kfp.headers[-1]["Cookie"] == "session=1"


def test_a_token_file_is_read_again_for_every_request(kfp, tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text("first\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    connection = connect(kfp)
    assert kfp.headers[-1]["Authorization"] == "Bearer first"
    file.write_text("second")
    connection.client.list_pipelines()
    assert kfp.headers[-1]["Authorization"] == "Bearer second"


def test_a_token_file_that_cannot_be_read_is_named(kfp, tmp_path, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"SA_TOKEN_PATH must name a file .*none: No"):
        connect(kfp)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("localhost:8080", "--host must be a URL such as .*, got 'localhost:8080'"),
        ("ftp://kfp", "--host must be a URL such as"),
        ("https://", "--host must be a URL such as"),
    ],
)
def test_an_invalid_host_is_named(host, message):
    with pytest.raises(ConfigError, match=message):
        client.connect(host, None, limits=LIMITS)


def test_credentials_in_the_host_are_refused_and_not_shown():
    with pytest.raises(ConfigError, match="must have no credentials") as caught:
        client.connect("https://ada:secret@kfp.example", None, limits=LIMITS)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "it requires other credentials: see --help for the ways to give them"),
        (403, "your credentials do not allow it: get the role, or set --namespace"),
        (404, "it does not exist, or --host is not KFP's API: --host is the part"),
        (400, "correct what the message says, and try again"),
        (500, "the server failed: see the log of its deployment ml-pipeline"),
    ],
)
def test_a_refusal_names_the_url_the_words_and_what_to_do(kfp, status, advice):
    connection = connect(kfp)
    body = json.dumps({"code": 1, "message": "no, never\nat server.go:1"})
    kfp.faults = [api_server.Fault(status, body=body)]
    with pytest.raises(ClusterError) as caught:
        get(connection)
    url = f"{kfp.url}/apis/v2beta1/runs/11"
    expected = f"GET {url} was answered with {status} (no, never): {advice}"
    assert str(caught.value).startswith(expected)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"error_message": "bad\\nstack"}', "(bad)"),
        ("", "(no message)"),
        (HTML, "(an HTML page)"),
        ("[1]", "([1])"),
    ],
)
def test_the_message_of_a_refusal_is_one_line(kfp, body, expected):
    kfp.faults = [api_server.Fault(404, body=body)]
    with pytest.raises(ClusterError) as caught:
        connect(kfp)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_get_is_repeated_until_the_server_works_again(kfp):
    connection = connect(kfp)
    kfp.faults = [api_server.Fault(503, times=3)]
    assert connection.client.list_pipelines().pipelines is None
    assert kfp.requests[1:] == [("GET", "/pipelines")] * 4


def test_a_post_is_never_repeated(kfp):
    connection = connect(kfp)
    kfp.faults = [api_server.Fault(500, times=1, method="POST")]
    with pytest.raises(ClusterError, match=r"answered with 500 \(something broke\)"):
        connection.client.create_experiment("e")
    assert kfp.writes() == [("POST", "/experiments")]


def test_a_server_that_hangs_is_not_waited_for(kfp):
    kfp.faults = [api_server.Fault(hang=2, times=1)]
    message = r"GET .*/healthz was not answered within 0.5 s: check the server"
    with pytest.raises(ClusterError, match=message):
        client.connect(kfp.url, None, limits=SHORT)


def test_a_change_without_an_answer_may_have_been_made(kfp, connection):
    client._install_limits(connection.client, SHORT)
    kfp.faults = [api_server.Fault(hang=2, times=1, path="experiments", method="POST")]
    with pytest.raises(ClusterError, match=r"It may have been done anyway: check"):
        connection.client._experiment_api.api_client.call_api(
            "/apis/v2beta1/experiments", "POST", body={"display_name": "e"}
        )


def test_a_server_that_is_not_there_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ClusterError) as caught:
        client.connect(url, None, limits=LIMITS)
    message = f"GET {url}/apis/v2beta1/healthz can't be reached ("
    assert str(caught.value).startswith(message)
    assert "refused): check --host" in str(caught.value)
    assert caught.value.status is None


def test_a_server_without_tls_is_named(kfp):
    with pytest.raises(ClusterError, match="can't be reached"):
        client.connect(kfp.url.replace("http:", "https:"), None, limits=LIMITS)


def test_a_connection_that_cannot_be_made_times_out():
    # The backlog of the socket is full, so the kernel does not answer.
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        with pytest.raises(ClusterError, match=r"could not connect within 0.5 s"):
            client.connect(url, None, limits=SHORT)


def test_a_login_page_is_recognized(kfp):
    kfp.faults = [api_server.Fault(200, body=HTML, content_type="text/html")]
    with pytest.raises(ClusterError, match=r"returned an HTML page, most likely"):
        connect(kfp)


def test_all_pages_of_a_list_are_read(kfp):
    connection = connect(kfp)
    for number in range(5):
        connection.client.create_experiment(f"e{number}")
    kfp.page_limit = 2
    found = client.list_items(connection.client.list_experiments, "experiments")
    assert [e.display_name for e in found] == ["e0", "e1", "e2", "e3", "e4"]
