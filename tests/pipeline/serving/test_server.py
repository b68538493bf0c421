"""The server's lifetime: it listens, ends by a signal, and closes idle connections."""

import asyncio
import logging
import os
import signal
import socket
import threading

import pytest

from pipeline.serving import server
from pipeline.serving.app import App
from pipeline.serving.app import Limits as AppLimits
from pipeline.serving.batching import Limits
from pipeline.serving.models import Models
from tests.support.serving_http import Affine, place

ALIVE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"

PREDICT = (
    b"POST /v1/models/vae:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n"
    b'{"instances": [3.0]}'
)


class Parts:
    """An application without a model, and a socket for it."""

    def __init__(self, folder):
        self.models = Models("vae", str(folder / "vae"), limits=Limits(), threads=1)
        self.app = App(self.models, AppLimits())
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.address = self.sock.getsockname()

    def serving(self, grace=20.0):
        return server.serve(
            self.app, self.models, sock=self.sock, poll=60.0, grace=grace
        )

    async def connect(self):
        return await asyncio.open_connection(*self.address)


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path)


async def ask(reader, writer, request=ALIVE):
    """Sends a request; returns the status and the body of the answer."""
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(
        line.lower().split(": ", 1) for line in head.decode().splitlines()[1:] if line
    )
    body = await reader.readexactly(int(fields["content-length"]))
    return int(head.split()[1]), body


async def read_to_the_end(reader):
    """Returns the bytes that arrive until the connection is closed."""
    return await asyncio.wait_for(reader.read(), 20)


def finish(coroutine):
    """Runs a coroutine for at most 20 seconds; returns its result."""
    return asyncio.run(asyncio.wait_for(coroutine, 20))


# Signals.


def run_until_signal(parts, *, grace, started):
    running = server.run(
        parts.app,
        parts.models,
        sock=parts.sock,
        poll=60.0,
        grace=grace,
        started=started,
    )
    return finish(running)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_is_logged(parts, signum, caplog):
    caplog.set_level(logging.INFO, "pipeline")

    def started():
        # succeeds because the server already listens
        socket.create_connection(parts.address).close()
        os.kill(os.getpid(), signum)

    came = run_until_signal(parts, grace=2.5, started=started)
    assert came == signum
    name = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "SIGINT"}[signum]
    text = f"{name}: finishing the current requests, at most 2.5 s"
    assert text in [record.getMessage() for record in caplog.records]


def test_the_first_of_two_signals_counts(parts, caplog):
    def started():
        loop = asyncio.get_running_loop()
        loop.call_soon(os.kill, os.getpid(), signal.SIGTERM)
        loop.call_soon(os.kill, os.getpid(), signal.SIGINT)

    came = run_until_signal(parts, grace=20.0, started=started)
    assert came == signal.SIGTERM
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


# The end of the server.


def test_open_requests_are_answered_and_new_ones_are_not_accepted(parts, tmp_path):
    place(Affine(2.0, 1.0).export(tmp_path / "model"), tmp_path / "vae", 1)
    may_compute = threading.Event()

    async def run():
        async with parts.serving():
            while not parts.models.is_ready:
                await asyncio.sleep(0.01)
            idle = await parts.connect()
            assert await ask(*idle) == (200, b'{"status": "ok"}')
            parts.models.executor.submit(may_compute.wait)
            begun = asyncio.create_task(ask(*await parts.connect(), PREDICT))
            await ask(*idle)  # the server has read the other request by then

            async def let_it_compute():
                try:
                    while not parts.app.is_stopping:
                        await asyncio.sleep(0)
                    assert not begun.done()
                finally:
                    may_compute.set()

            releasing = asyncio.create_task(let_it_compute())
        await releasing
        assert await begun == (200, b'{"predictions": [7.0]}')
        assert await read_to_the_end(idle[0]) == b""

    finish(run())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(parts.address)
    with pytest.raises(RuntimeError, match="after shutdown"):
        parts.models.executor.submit(int)


def test_requests_that_arrive_longer_than_the_grace_are_cut_off(parts):
    async def run():
        async with parts.serving(grace=0.05):
            reader, writer = await parts.connect()
            writer.write(
                b"POST /v1/models/vae:predict HTTP/1.1\r\nHost: a\r\n"
                b"Content-Length: 2\r\n\r\n{"
            )
            await writer.drain()
            await ask(*await parts.connect())
        assert await read_to_the_end(reader) == b""

    finish(run())


def test_the_search_for_new_versions_ends_with_the_server(parts):
    async def run():
        before = asyncio.all_tasks()
        async with parts.serving():
            searching = asyncio.all_tasks() - before
            assert len(searching) == 1
        assert all(task.cancelled() for task in searching)

    finish(run())


# Idle connections.


def test_a_connection_that_sends_no_request_is_closed(parts, monkeypatch):
    monkeypatch.setattr(server, "_FIRST_REQUEST", 0.3)

    async def run():
        async with parts.serving():
            asked = await parts.connect()
            assert (await ask(*asked))[0] == 200
            silent = await parts.connect()
            slow = await parts.connect()
            slow[1].write(ALIVE[:20])
            assert await read_to_the_end(silent[0]) == b""
            assert await read_to_the_end(slow[0]) == b""
            assert (await ask(*asked))[0] == 200  # this connection stays open

    finish(run())


def test_a_connection_is_closed_when_it_is_idle_after_a_request(parts, monkeypatch):
    monkeypatch.setattr(server, "_KEEP_ALIVE", 0.05)

    async def run():
        async with parts.serving():
            reader, writer = await parts.connect()
            assert (await ask(reader, writer))[0] == 200
            assert await read_to_the_end(reader) == b""

    finish(run())
