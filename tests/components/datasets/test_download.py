"""Downloads from a local server: bad answers, wrong digests, no answer."""

import gzip
import hashlib
import http.server
import socket
import threading
import time
import types

import numpy as np
import pytest

from components.datasets import download, idx
from components.datasets.idx import DataAccessError, DataError
from tests.support.span_folders import bars

FIRST, SECOND, *_ = idx.STREAMS


@pytest.fixture
def server():
    """Yields a server; `files` maps its paths to an answer: bytes, or a status code."""
    files, requests = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.headers)
            answer = files.get(self.path, 404)
            status = answer if isinstance(answer, int) else 200
            self.send_response(status)
            self.end_headers()
            if status == 200:
                self.wfile.write(answer)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{found.server_port}/data/"
        yield types.SimpleNamespace(files=files, url=url, requests=requests)
        found.shutdown()


@pytest.fixture
def streams(server):
    """Adds the four IDX files to the server, compressed by gzip; returns the arrays."""
    arrays = bars(0, 7, 3)
    for stream, array in arrays.items():
        data = gzip.compress(idx.to_bytes(array), mtime=0)
        server.files[f"/data/{idx.file_name(stream)}.gz"] = data
    return arrays


def builder(server, infos=None):
    return types.SimpleNamespace(URL=server.url, url_infos=infos)


def info_of(server, checksum):
    url = f"{server.url}{idx.file_name(FIRST)}.gz"
    return url, {url: types.SimpleNamespace(checksum=checksum)}


def test_the_four_files_are_downloaded(server, streams):
    found = download.download_idx_arrays(builder(server), 5.0)
    assert found.keys() == streams.keys()
    for stream, array in streams.items():
        np.testing.assert_array_equal(found[stream], array)


def test_the_request_asks_for_no_compression(server, streams):
    download.download_idx_arrays(builder(server), 5.0)
    assert [headers["Accept-Encoding"] for headers in server.requests] == [
        "identity"
    ] * 4


def test_the_digest_that_tfds_knows_is_verified(server, streams):
    data = server.files[f"/data/{idx.file_name(FIRST)}.gz"]
    _, infos = info_of(server, hashlib.sha256(data).hexdigest())
    assert (
        download.download_idx_arrays(builder(server, infos), 5.0).keys()
        == streams.keys()
    )
    url, infos = info_of(server, "0" * 64)
    with pytest.raises(DataError) as error:
        download.download_idx_arrays(builder(server, infos), 5.0)
    assert str(error.value) == (
        f"{url} has the SHA-256 {hashlib.sha256(data).hexdigest()}, expected "
        f"{'0' * 64} by TFDS; try again later, or use another source"
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((400, DataError), (404, DataError), (499, DataError)),
        *((500, DataAccessError), (503, DataAccessError)),
    ],
)
def test_an_error_of_the_server_is_named(server, streams, status, kind):
    path = f"/data/{idx.file_name(SECOND)}.gz"
    server.files[path] = status
    with pytest.raises(DataError, match=f"{status} .*; try again later") as error:
        download.download_idx_arrays(builder(server), 5.0)
    assert type(error.value) is kind
    assert f"{path} cannot be downloaded: " in str(error.value)


def test_a_server_that_is_not_there_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    with pytest.raises(DataAccessError) as error:
        download.open_url(url, 5.0)
    assert str(error.value) == (
        f"{url} cannot be reached (ConnectionError); check the network, or use another "
        "source"
    )


def test_an_invalid_url_is_named():
    with pytest.raises(DataAccessError, match=r"cannot be reached \(MissingSchema\)"):
        download.open_url("nowhere", 5.0)


def test_a_silent_server_ends_in_a_time_out():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        started = time.monotonic()
        with pytest.raises(DataAccessError, match=r"did not answer within 0\.2 s"):
            download.open_url(url, 0.2)
        assert time.monotonic() - started < 5.0


def test_a_name_look_up_that_hangs_ends_in_a_time_out(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(
        download.requests, "get", lambda *args, **kwargs: released.wait(30)
    )
    try:
        with pytest.raises(DataAccessError, match=r"did not answer within 0\.1 s"):
            download.open_url("http://example.invalid/x", 0.1)
    finally:
        released.set()


def test_an_endless_answer_is_not_read_to_its_end(server, streams, monkeypatch):
    name = f"{idx.file_name(FIRST)}.gz"
    monkeypatch.setattr(idx, "MAX_IMAGES", 100)
    limit = 100 * 784 + 78 + 1024
    server.files[f"/data/{name}"] = bytes(limit + 1)
    with pytest.raises(DataError) as error:
        download.download_idx_arrays(builder(server), 5.0)
    assert str(error.value) == (
        f"{server.url}{name} sends more than 79,502 bytes, expected at most as many "
        "for 100 images or labels; use another source"
    )
