"""A server in this process, on the loopback, and small models to serve."""

import asyncio
import json
import pathlib
import socket
import threading
import time

import requests
import tensorflow as tf

from components.registry.manifest import MANIFEST, Manifest
from pipeline.serving import app, batching, models, server
from tests.support.pushes import push_next


class Affine(tf.Module):
    """A model of y = a * x + b, which refuses x < 0; its `sizes` can be made slow."""

    def __init__(self, a, b, seconds=0.0):
        super().__init__()
        self.a = tf.Variable(a, dtype=tf.float32)
        self.b = tf.Variable(b, dtype=tf.float32)
        self.seconds = seconds

    def export(self, folder):
        """Writes the SavedModel with the signatures `serving_default` and `sizes`.

        `sizes` returns for each row the size of the batch in which the row was
        computed.
        """
        rows = tf.TensorSpec([None], tf.float32, name="x")

        @tf.function(input_signature=[rows])
        def serving_default(x):
            message = "x must not be negative"
            tf.debugging.Assert(tf.reduce_all(x >= 0), [message])
            return {"y": self.a * x + self.b}

        @tf.function(input_signature=[rows])
        def sizes(x):
            ones = tf.fill([1000, 1000], tf.reduce_sum(x) * 0)
            steps = int(30 * self.seconds)  # matrix products, of about 30 ms each
            busy = tf.while_loop(
                lambda step, _: step < steps,
                lambda step, ones: (step + 1, tf.linalg.matmul(ones, ones)),
                [tf.constant(0), ones],
            )
            zero = tf.reduce_sum(busy[1])
            size = tf.cast(tf.shape(x)[0], tf.float32)
            return {"size": tf.fill(tf.shape(x), size + zero), "x": x + 0}

        signatures = {"serving_default": serving_default, "sizes": sizes}
        tf.saved_model.save(self, str(folder), signatures)
        return str(folder)


def place(model: str, destination: pathlib.Path, number: int) -> pathlib.Path:
    """Writes a SavedModel to the destination as the version with this number."""
    version = destination / str(number)
    pushed = push_next(
        model,
        destination=str(destination / "by_time"),
        manifest=Manifest.from_content({}),
    )
    pathlib.Path(pushed.path).rename(version)
    assert (version / MANIFEST).exists()
    return version


class Server:
    """A server that runs in a thread until the `with` block ends."""

    def __init__(self, destination, name="vae", rows=128, delay=0.0, poll=0.05, **more):
        waiting = more.pop("waiting", 8192)
        self._limits = batching.Limits(rows, delay, waiting)
        self._of_app = app.Limits(**more)
        self._name, self._destination, self._poll = name, str(destination), poll
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.host = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"{self.host}/v1/models/{name}"
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._started = threading.Event()

    async def _run(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.models = models.Models(
            self._name, self._destination, limits=self._limits, threads=2
        )
        application = app.App(self.models, self._of_app)
        async with server.serve(
            application, self.models, sock=self._socket, poll=self._poll, grace=20
        ):
            self._started.set()
            await self._stop.wait()

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *error):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def when_ready(self):
        """Waits until a model is loaded; returns the server."""
        self.wait(lambda: self.get("/readyz").status_code == 200)
        return self

    def get(self, path):
        return requests.get(self.host + path, timeout=20)

    def wait(self, true, seconds=20):
        """Waits until `true()` is true."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def states(self):
        """Returns version -> state."""
        status = self.get(f"/v1/models/{self._name}").json()["model_version_status"]
        return {int(each["version"]): each["state"] for each in status}

    def predict(self, body):
        """Sends a string, or a value as JSON; returns the status and parsed answer."""
        data = body if isinstance(body, str) else json.dumps(body)
        return self.predict_raw(data)

    def predict_raw(self, data):
        """Sends data, an iterator in chunks; returns the status and parsed answer."""
        answer = requests.post(f"{self.url}:predict", data=data, timeout=30)
        assert answer.headers["Content-Type"].startswith("application/json")
        return answer.status_code, answer.json()
