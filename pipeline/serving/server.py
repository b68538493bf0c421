"""Runs the HTTP server until it gets a signal to stop."""

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

_FIRST_REQUEST = 30.0  # seconds that a new connection may take to send one
_LINGER = 1.0  # seconds in which the rest of a body that was refused is read
_KEEP_ALIVE = 75.0  # seconds that a connection may be idle between two


async def run(
    app: App,
    models: Models,
    *,
    sock: socket.socket,
    poll: float,
    grace: float,
    started: Callable[[], None],
) -> int:
    """Serves until SIGTERM or SIGINT; returns which came.

    Args:
      app, models, sock, poll, grace: see `serving`.
      started: called when signals are handled and connections are taken.
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Future[int] = loop.create_future()

    def stop(signum: int) -> None:
        if not came.done():
            came.set_result(signum)

    for caught in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(caught, stop, caught)
    async with serving(app, models, sock=sock, poll=poll, grace=grace):
        started()
        signum = await came
        name = signal.Signals(signum).name
        _log.info("%s: answering what has begun, at most %g s", name, grace)
    return signum


@contextlib.asynccontextmanager
async def serving(
    app: App, models: Models, *, sock: socket.socket, poll: float, grace: float
) -> AsyncIterator[None]:
    """Serves during the block; then takes no connection, and answers what has begun.

    Args:
      app: what answers.
      models: what it answers with.
      sock: bound, to listen on.
      poll: seconds between two looks for a new version.
      grace: seconds that the last answers may take.
    """
    connect, note = _patience(lambda: runner.server())  # type: ignore[misc]
    runner = web.AppRunner(
        app.application(note),
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
        app.stopping = True
        server.close()
        await runner.cleanup()
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
        models.close()


def _patience(
    make: Callable[[], Any],
) -> tuple[Callable[[], Any], Callable[..., Any]]:
    """Makes connections that are closed unless they send a request: aiohttp waits.

    Returns:
      What makes a connection, and the middleware that notes its first request.
    """
    silent: dict[Any, asyncio.TimerHandle] = {}

    def give_up(connection: Any) -> None:
        del silent[connection]
        connection.force_close()

    def connect() -> Any:
        connection = make()
        loop = asyncio.get_running_loop()
        silent[connection] = loop.call_later(_FIRST_REQUEST, give_up, connection)
        return connection

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.protocol in silent:
            silent.pop(request.protocol).cancel()
        return await handler(request)

    return connect, note
