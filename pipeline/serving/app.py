"""The HTTP server: TensorFlow Serving's paths, health, and limits."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web

from pipeline.serving import protocol
from pipeline.serving.batching import Tensors
from pipeline.serving.model import Model, Refused
from pipeline.serving.models import Models
from pipeline.serving.protocol import Request, RequestError, Target

_log = logging.getLogger(__name__)
_access = logging.getLogger(f"{__name__}.access")

_AT_ONCE = 64 * 1024  # bytes of JSON that take the event loop a millisecond or so

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Limits(NamedTuple):
    """What one request may ask for."""

    images: int = 1024  # rows in, or, of `generate`, out
    draws: int = 65_536  # images times `iwae`'s k
    body: int = 32 * 1024**2  # bytes
    seconds: float = 30.0  # for its body to arrive


class App:
    """Answers requests about the models."""

    def __init__(self, models: Models, limits: Limits):
        self._models = models
        self._limits = limits
        self.stopping = False  # no longer ready, but still answering

    def application(self, *middlewares: Any) -> web.Application:
        """Returns what aiohttp runs, with these middlewares around it."""
        application = web.Application(
            client_max_size=self._limits.body,
            middlewares=[*middlewares, _answer_errors],
        )
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_route("*", "/{path:.*}", self._v1)
        return application

    async def _healthz(self, request: web.Request) -> web.Response:
        return _json(200, {"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        if self.stopping:
            return _json(503, {"error": "stopping"})
        if not self._models.ready:
            return _json(503, {"error": "no model is loaded yet"})
        return _json(200, {"status": "ok"})

    async def _v1(self, request: web.Request) -> web.Response:
        path = request.raw_path.partition("?")[0]
        if not path.lower().startswith("/v1/"):
            raise RequestError(404, f"Not found: {path}")
        wanted = protocol.target(request.method, path)
        if wanted.action == "status":
            return _json(200, self._models.status(wanted))
        if wanted.action == "metadata":
            return _json(200, self._models.metadata(wanted))
        body = await self._body(request)
        with self._models.model(wanted) as model:
            if wanted.action != "predict":
                raise _not_of_method(wanted, model)
            text = await self._predict(model, body)
        return web.Response(text=text, content_type="application/json")

    async def _body(self, request: web.Request) -> bytes:
        try:
            return await asyncio.wait_for(request.read(), self._limits.seconds)
        except asyncio.TimeoutError as error:
            raise RequestError(
                408,
                f"the body must arrive within {self._limits.seconds:g} s",
            ) from error
        except web.HTTPRequestEntityTooLarge as error:
            raise RequestError(
                413,
                f"the body must be at most {self._limits.body:,} bytes: send fewer "
                "images at a time",
            ) from error

    async def _predict(self, model: Model, body: bytes) -> str:
        def parse() -> Request:
            return protocol.parse(body, model.inputs)

        large = len(body) > _AT_ONCE
        asked = await asyncio.to_thread(parse) if large else parse()
        self._check(asked)
        outputs = await self._call(model, asked)

        def answer() -> str:
            return protocol.answer(outputs, asked.by_row)

        large = sum(output.nbytes for output in outputs.values()) > _AT_ONCE
        return await asyncio.to_thread(answer) if large else answer()

    async def _call(self, model: Model, asked: Request) -> Tensors:
        try:
            batcher = model.batcher(asked.signature)
            if batcher is not None:
                return await batcher(asked.inputs)
            loop = asyncio.get_running_loop()
            signature = model.signatures[asked.signature]
            return await loop.run_in_executor(
                self._models.executor, signature, asked.inputs
            )
        except Refused as error:
            raise RequestError(400, _words(error)) from error

    def _check(self, asked: Request) -> None:
        """Raises RequestError if a request asks for more than it may."""
        rows = max((len(t) for t in asked.inputs.values() if t.ndim), default=1)
        if asked.signature == "generate" and "n" in asked.inputs:
            rows = int(asked.inputs["n"])
        if rows > self._limits.images:
            raise RequestError(
                400,
                f"a request may have at most {self._limits.images:,} images, this one "
                f"has {rows:,}",
            )
        draws = 0
        if asked.signature == "iwae" and "k" in asked.inputs:
            draws = rows * int(asked.inputs["k"])
        if draws > self._limits.draws:
            raise RequestError(
                400,
                f"images times k may be at most {self._limits.draws:,}, this request "
                f"has {draws:,}",
            )


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives every error the body that TensorFlow Serving gives it, and logs all."""
    started = asyncio.get_running_loop().time()
    try:
        response = await handler(request)
    except RequestError as error:
        response = _json(error.status, {"error": str(error)})
    except web.HTTPException as error:
        response = _json(error.status, {"error": error.reason})
    except Exception:
        _log.exception("%s %s", request.method, request.path)
        response = _json(500, {"error": "an error of the server: its log has it"})
    if response.status in (408, 413):  # the rest of the body is still to come
        response.force_close()
    _access.info(
        "%s %s %s %d %.1f ms",
        request.remote,
        request.method,
        ascii(request.path)[1:-1],
        response.status,
        1e3 * (asyncio.get_running_loop().time() - started),
    )
    return response


def _json(status: int, content: dict[str, Any]) -> web.Response:
    return web.json_response(content, status=status)


def _words(error: Exception) -> str:
    """Returns what TensorFlow says, without where in the graph it says it."""
    message = getattr(error, "message", str(error)).partition("\n\t [[{{node")[0]
    return message.rpartition("stack traces unavailable>\n")[2][:500]


def _not_of_method(wanted: Target, model: Model) -> RequestError:
    kind = {"classify": "classification", "regress": "regression"}[wanted.action]
    method = model.signature_def[protocol.DEFAULT_SIGNATURE]["method_name"]
    return RequestError(
        400,
        f"Expected {kind} signature method_name to be tensorflow/serving/"
        f"{wanted.action}. Was: {method}",
    )
