"""The HTTP server: its start, its connections, and its end at a signal."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from pipeline.serving.app import App
from pipeline.serving.models import Models

_log = logging.getLogger(__name__)

_FIRST_REQUEST = 30.0  # seconds until a new connection must have sent a request
_LINGER = 1.0  # seconds for reading the rest of a refused body
_KEEP_ALIVE = 75.0  # seconds that a connection may be idle between two requests


async def run(
    app: App,
    models: Models,
    *,
    sock: socket.socket,
    poll: float,
    grace: float,
    started: Callable[[], None],
) -> int:
    """Serves until SIGTERM or SIGINT, and returns the signal's number.

    Args:
      app, models, sock, poll, grace: see `serve`.
      started: is called when the server handles signals and accepts connections.
    """
    loop = asyncio.get_running_loop()
    received: asyncio.Future[int] = loop.create_future()

    def stop(signum: int) -> None:
        if not received.done():
            received.set_result(signum)

    for caught in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(caught, stop, caught)
    async with serve(app, models, sock=sock, poll=poll, grace=grace):
        started()
        signum = await received
        name = signal.Signals(signum).name
        _log.info("%s: finishing the current requests, at most %g s", name, grace)
    return signum


@contextlib.asynccontextmanager
async def serve(
    app: App, models: Models, *, sock: socket.socket, poll: float, grace: float
) -> AsyncIterator[None]:
    """Serves while the block runs, then finishes the requests that have begun.

    Args:
      app: the application that answers requests.
      models: the served models, which this refreshes.
      sock: a bound socket to listen on.
      poll: seconds between two checks for a new version.
      grace: seconds for the requests that have begun when the block ends.
    """
    connect, note_request = _close_silent_connections(lambda: runner.server())  # type: ignore[misc]
    runner = web.AppRunner(
        app.create_application(note_request),
        access_log=None,
        keepalive_timeout=_KEEP_ALIVE,
        lingering_time=_LINGER,
        shutdown_timeout=grace,
    )
    await runner.setup()
    server = await asyncio.get_running_loop().create_server(connect, sock=sock)
    watcher = asyncio.create_task(models.watch(poll))
    try:
        yield
    finally:
        app.is_stopping = True
        server.close()
        await runner.cleanup()
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
        models.close()


def _close_silent_connections(
    make: Callable[[], Any],
) -> tuple[Callable[[], Any], Callable[..., Any]]:
    """Wraps a connection factory: connections without a request are closed after 30 s.

    aiohttp has no time limit for the first request of a connection.

    Returns:
      The new factory, and the middleware that cancels the limit at the first request.
    """
    silent: dict[Any, asyncio.TimerHandle] = {}

    def close(connection: Any) -> None:
        del silent[connection]
        connection.force_close()

    def connect() -> Any:
        connection = make()
        loop = asyncio.get_running_loop()
        silent[connection] = loop.call_later(_FIRST_REQUEST, close, connection)
        return connection

    @web.middleware
    async def note_request(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.protocol in silent:
            silent.pop(request.protocol).cancel()
        return await handler(request)

    return connect, note_request
