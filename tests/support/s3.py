"""A real S3 server on the loopback, which records requests and can refuse them."""

import logging
import socket
import threading
import uuid

import pytest
import s3fs
from moto.moto_server import werkzeug_app
from werkzeug import serving

KEY, SECRET = "the-key-id", "the-secret-key"

_DENIED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"""

_BUSY = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Slow Down</Message></Error>"""


class Server:
    """moto's S3, with one request at a time, so that a conditional write is atomic."""

    def __init__(self):
        self.requests = []  # (method, path) of each request, in order
        self.refused = []  # (method, end of the path) of requests to answer with 403
        self.ignores_conditions = False  # of writes
        self.unavailable = {}  # method -> number of requests to answer with 503
        # (method, end of the path) -> function to call before the answer
        self.before = {}
        self._moto = werkzeug_app.DomainDispatcherApplication(
            werkzeug_app.create_backend_app
        )
        self._one = threading.Lock()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._http = serving.make_server(
            "127.0.0.1",
            0,
            self._answer,
            threaded=True,
            request_handler=werkzeug_app.MotoRequestHandler,
        )
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def written(self) -> list[str]:
        """Returns the paths of the objects that were written, in order."""
        return [path for method, path in self.requests if method == "PUT"]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, environ, start_response):
        request = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        for (method, end), action in list(self.before.items()):
            if request[0] == method and request[1].endswith(end):
                try:
                    action()
                except ConnectionError:  # no answer: the connection is closed
                    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                    raise
        with self._one:
            self.requests.append(request)
            if self.unavailable.get(request[0], 0) > 0:
                self.unavailable[request[0]] -= 1
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                headers = [("Content-Type", "application/xml")]
                start_response("503 Slow Down", headers)
                return [_BUSY]
            for method, end in self.refused:
                if request[0] == method and request[1].endswith(end):
                    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                    headers = [("Content-Type", "application/xml")]
                    start_response("403 Forbidden", headers)
                    return [_DENIED]
            if self.ignores_conditions:
                environ.pop("HTTP_IF_MATCH", None)
                environ.pop("HTTP_IF_NONE_MATCH", None)
            return self._moto(environ, start_response)


class Bucket:
    """A new bucket of a server; `files` gives the test its own access to the bucket."""

    def __init__(self, server: Server):
        self.server = server
        self.name = f"bucket-{uuid.uuid4().hex}"
        self.files = s3fs.S3FileSystem(
            endpoint_url=server.url, key=KEY, secret=SECRET, use_listings_cache=False
        )
        self.files.mkdir(self.name)
        server.requests.clear()


@pytest.fixture(scope="session")
def _s3_server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def s3_environment(monkeypatch, tmp_path):
    """Sets made-up credentials for botocore, and hides the user's own files."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # no retries, so that an error appears at once
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture
def s3_elsewhere(s3_environment, monkeypatch):
    """Sets made-up credentials, for a test that sets AWS_ENDPOINT_URL itself."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    # s3fs caches the environment of its first use.
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3(s3_environment, _s3_server, monkeypatch):
    """Yields an empty bucket, to whose server AWS_ENDPOINT_URL points."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", _s3_server.url)
    yield Bucket(_s3_server)
    _s3_server.refused.clear()
    _s3_server.before.clear()
    _s3_server.unavailable.clear()
