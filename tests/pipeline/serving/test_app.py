"""The server over real HTTP: the documentation's examples, limits, many clients."""

import concurrent.futures
import gc
import json
import pathlib
import socket

import numpy as np
import pytest
import requests
import tensorflow as tf
import tf_keras as tfk
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from components.registry.manifest import Manifest
from model import export
from model.vae import VAE
from tests.support.configs import demo_model
from tests.support.pushes import push_next
from tests.support.serving_http import Affine, Server, place


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """Yields a server of a real export."""
    path = tmp_path_factory.mktemp("vae")
    tfk.utils.set_random_seed(0)
    export.export(
        VAE(demo_model(latent_size=2, hidden_units=8)),
        str(path / "model"),
        samples=3,
        seed=11,
    )
    pushed = push_next(
        str(path / "model"),
        destination=str(path / "vae"),
        manifest=Manifest.from_content({}),
    )
    with Server(path / "vae", images=40, draws=500, body=400_000) as server:
        server.path = pathlib.Path(pushed.path)
        server.number = pushed.number
        server.loaded = tf.saved_model.load(pushed.path)
        yield server.when_ready()


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """Yields a server of the documentation's model half_plus_three, as version 123."""
    path = tmp_path_factory.mktemp("half")
    place(Affine(0.5, 3.0).export(path / "model"), path / "half", 123)
    with Server(path / "half", "half_plus_three", delay=0.2) as server:
        yield server.when_ready()


def rows(count):
    rng = np.random.default_rng(count)
    return (rng.integers(0, 256, [count, 28, 28, 1]) / 255).astype(np.float32)


def test_the_status_of_the_documentation(half):
    expected = {
        "model_version_status": [
            {
                "version": "123",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    for path in ("", "/versions/123"):
        answer = half.get(f"/v1/models/half_plus_three{path}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.json() == expected


def test_the_predictions_of_the_documentation(half):
    body = {"instances": [1.0, 2.0, 5.0]}
    assert half.predict(body) == (200, {"predictions": [3.5, 4.0, 5.5]})
    assert half.predict({"inputs": [1.0, 2.0, 5.0]}) == (
        200,
        {"outputs": [3.5, 4.0, 5.5]},
    )
    url = f"{half.url}/versions/123:predict"
    answer = requests.post(url, json={"inputs": {"x": [1]}}, timeout=20)
    assert answer.json() == {"outputs": [3.5]}


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        # The documentation's own example:
        (
            "POST",
            "/v1/models/half:predict",
            404,
            "Servable not found for request: Latest(half)",
        ),
        (
            "POST",
            "/v1/models/half_plus_three/versions/7:predict",
            404,
            "Servable not found for request: Specific(half_plus_three, 7)",
        ),
        (
            "POST",
            "/v1/models/half_plus_three/labels/new:predict",
            400,
            "Unrecognized servable version label: new",
        ),
        (
            "GET",
            "/v1/models/half",
            404,
            "Could not find any versions of model half",
        ),
        (
            "GET",
            "/v1/models/half_plus_three/versions/7",
            404,
            "Could not find version 7 of model half_plus_three",
        ),
        (
            "GET",
            "/v1/models/half/metadata",
            404,
            "Servable not found for request: Latest(half)",
        ),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("PUT", "/v1/models/half", 400, "Malformed request: PUT /v1/models/half"),
        ("GET", "/index.html", 404, "Not found: /index.html"),
        (
            "POST",
            "/v1/models/half_plus_three:classify",
            400,
            "Expected classification signature method_name to be "
            "tensorflow/serving/classify. Was: tensorflow/serving/predict",
        ),
        (
            "POST",
            "/v1/models/half_plus_three:regress",
            400,
            "Expected regression signature method_name to be "
            "tensorflow/serving/regress. Was: tensorflow/serving/predict",
        ),
    ],
)
def test_paths_that_are_refused(half, method, path, status, error):
    answer = requests.request(
        method, half.host + path, data='{"instances": [1.0, 5.0]}', timeout=20
    )
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_metadata_is_that_of_the_saved_model(vae):
    """The expected JSON is protobuf's own, which TensorFlow Serving writes."""
    message = saved_model_pb2.SavedModel()
    message.ParseFromString((vae.path / "saved_model.pb").read_bytes())
    answer = vae.get("/v1/models/vae/metadata").json()
    assert answer["model_spec"] == {
        "name": "vae",
        "signature_name": "",
        "version": str(vae.number),
    }
    got = answer["metadata"]["signature_def"]["signature_def"]
    expected = message.meta_graphs[0].signature_def
    assert set(got) == set(expected)
    assert got["elbo"]["inputs"]["images"]["tensor_shape"] == {
        "dim": [{"size": size, "name": ""} for size in ("-1", "28", "28", "1")],
        "unknown_rank": False,
    }
    for name, content in got.items():
        read = json_format.ParseDict(content, type(expected[name])())
        assert read == expected[name]


def test_every_signature_answers_as_the_saved_model_does(vae):
    images = rows(3)
    call = vae.loaded.signatures
    for name in ("serving_default", "reconstruct", "encode", "elbo"):
        expected = call[name](images=tf.constant(images))
        body = {"signature_name": name, "inputs": {"images": images.tolist()}}
        status, by_column = vae.predict(body)
        assert status == 200, by_column
        body = {"signature_name": name, "instances": images.tolist()}
        _, in_rows = vae.predict(body)
        for output, values in expected.items():
            columns = by_column["outputs"][output]
            np.testing.assert_allclose(columns, values, rtol=1e-5, atol=1e-6)
            column = [row[output] for row in in_rows["predictions"]]
            np.testing.assert_allclose(column, values, rtol=1e-5, atol=1e-6)
    inputs = {"images": images.tolist(), "k": 4}
    _, got = vae.predict({"signature_name": "iwae", "inputs": inputs})
    expected = call["iwae"](images=tf.constant(images), k=tf.constant(4))["iwae"]
    np.testing.assert_allclose(got["outputs"], expected, rtol=1e-5)
    inputs = {"n": 2, "seed": -5}
    _, got = vae.predict({"signature_name": "generate", "inputs": inputs})
    expected = call["generate"](n=tf.constant(2), seed=tf.constant(-5, tf.int64))
    np.testing.assert_allclose(got["outputs"]["mode"], expected["mode"])


def of(signature, **inputs):
    return {"signature_name": signature, "inputs": inputs}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            {"instances": (rows(1) * 300).tolist()},
            "assertion failed: [every pixel must be a number in [0, 1]]",
        ),
        (
            json.dumps({"instances": (rows(1) * np.nan).tolist()}),
            "assertion failed: [every pixel must be a number in [0, 1]]",
        ),
        (
            {"instances": rows(1)[..., 0].tolist()},
            "Input images of signature serving_default must have shape [?,28,28,1], "
            "got [1,28,28]",
        ),
        (of("elbo_examples", examples=["?"]), "Could not parse example input, value"),
        (of("generate", n=0, seed=1), "assertion failed: [n must be at least 1"),
        (
            of("generate", n=41, seed=1),
            "a request may have at most 40 images, this one has 41",
        ),
        (
            {"signature_name": "elbo_examples", "inputs": ["?"] * 41},
            "a request may have at most 40 images, this one has 41",
        ),
        (
            of("iwae", images=rows(2).tolist(), k=251),
            "images times k may be at most 500, this request has 502",
        ),
        ("{", "JSON Parse error: Expecting property name"),
    ],
)
def test_bodies_that_are_refused(vae, body, error):
    status, answer = vae.predict(body)
    assert status == 400
    assert set(answer) == {"error"}
    assert answer["error"].startswith(error)


def test_a_body_that_is_too_large(vae):
    body = json.dumps({"instances": [[0.5] * 100_000]})
    assert len(body) > 400_000
    error = "the body must be at most 400,000 bytes: send fewer images at a time"
    # The size is known from a header, or found while reading.
    for data in (body, iter([body.encode()])):
        assert vae.predict_raw(data) == (413, {"error": error})
    assert vae.predict({"instances": rows(1).tolist()})[0] == 200


def test_a_body_that_does_not_come(tmp_path):
    place(Affine(1.0, 0.0).export(tmp_path / "model"), tmp_path / "vae", 1)
    with Server(tmp_path / "vae", seconds=0.2) as server:
        host, port = server.host.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                b"POST /v1/models/vae:predict HTTP/1.1\r\nHost: a\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            answer = connection.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 408 ")
    assert answer.endswith('{"error": "the body must arrive within 0.2 s"}')


def test_a_request_that_is_not_http(vae):
    host, port = vae.host.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"\x16\x03\x01\x00\xff of TLS\r\n\r\n")
        assert connection.makefile("rb").read().startswith(b"HTTP/1.0 400 ")
    assert vae.get("/healthz").json() == {"status": "ok"}


def test_clients_at_once_share_batches_and_get_their_own(half):
    """Eight clients wait up to 0.2 s for each other, and each gets its own answer."""
    half.predict({"instances": [0.0], "signature_name": "sizes"})

    def ask(client):
        values = [float(client), client + 0.5]
        body = {"signature_name": "sizes", "instances": values}
        status, answer = half.predict(body)
        assert status == 200, answer
        assert [row["x"] for row in answer["predictions"]] == values
        return answer["predictions"][0]["size"]

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        sizes = list(clients.map(ask, range(8)))
    assert sum(2 / size for size in sizes) <= 4  # at most as many batches
    assert max(sizes) >= 4


def test_a_bad_request_does_not_affect_requests_at_the_same_time(half):
    def ask(value):
        return half.predict({"instances": [value]})

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(ask, [1.0, -1.0, 2.0, -2.0, 3.0, 4.0]))
    bad = (400, {"error": "assertion failed: [x must not be negative]"})
    good = [(200, {"predictions": [x / 2 + 3]}) for x in (1.0, 2.0, 3.0, 4.0)]
    assert answers == [good[0], bad, good[1], bad, good[2], good[3]]


def test_before_the_first_push(tmp_path):
    with Server(tmp_path / "vae") as server:
        assert server.get("/healthz").status_code == 200
        not_ready = server.get("/readyz")
        assert (not_ready.status_code, not_ready.json()) == (
            503,
            {"error": "no model is loaded yet"},
        )
        error = {"error": "Servable not found for request: Latest(vae)"}
        assert server.predict({"instances": [1.0]}) == (404, error)
        place(Affine(1.0, 0.0).export(tmp_path / "model"), tmp_path / "vae", 1)
        server.when_ready()
        assert server.predict({"instances": [1.0]}) == (200, {"predictions": [1.0]})


def test_the_garbage_collector_leaves_alone_what_is_loaded(half):
    assert gc.get_freeze_count() > 10_000
