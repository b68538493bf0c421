"""The HTTP application: the paths, the health checks and the limits of requests."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web

from pipeline.serving import protocol
from pipeline.serving.batching import Tensors
from pipeline.serving.model import BadInputError, Model
from pipeline.serving.models import Models
from pipeline.serving.protocol import Request, RequestError, Target

_log = logging.getLogger(__name__)
_access = logging.getLogger(f"{__name__}.access")

_INLINE_BYTES = 64 * 1024  # bytes of JSON that the event loop handles in a millisecond

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Limits(NamedTuple):
    """The limits of one request."""

    images: int = 1024  # rows of the inputs, or of the outputs of `generate`
    draws: int = 65_536  # images times k of `iwae`
    body: int = 32 * 1024**2  # bytes of the body
    seconds: float = 30.0  # until the whole body has arrived


class App:
    """Answers the HTTP requests for models, their status and the server's health."""

    def __init__(self, models: Models, limits: Limits):
        self._models = models
        self._limits = limits
        self.is_stopping = False  # if True, /readyz fails; requests are answered

    def create_application(self, *middlewares: Any) -> web.Application:
        """Returns the aiohttp application.

        Args:
          middlewares: aiohttp middlewares to call before this application's own.
        """
        application = web.Application(
            client_max_size=self._limits.body,
            middlewares=[*middlewares, _answer_errors],
        )
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_route("*", "/{path:.*}", self._handle_v1)
        return application

    async def _healthz(self, request: web.Request) -> web.Response:
        return _create_response(200, {"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        if self.is_stopping:
            return _create_response(503, {"error": "stopping"})
        if not self._models.is_ready:
            return _create_response(503, {"error": "no model is loaded yet"})
        return _create_response(200, {"status": "ok"})

    async def _handle_v1(self, request: web.Request) -> web.Response:
        path = request.raw_path.partition("?")[0]
        if not path.lower().startswith("/v1/"):
            raise RequestError(404, f"Not found: {path}")
        target = protocol.parse_target(request.method, path)
        if target.action == "status":
            return _create_response(200, self._models.describe_status(target))
        if target.action == "metadata":
            return _create_response(200, self._models.describe_metadata(target))
        body = await self._read_body(request)
        with self._models.use_model(target) as model:
            if target.action != "predict":
                raise _create_method_error(target, model)
            text = await self._predict(model, body)
        return web.Response(text=text, content_type="application/json")

    async def _read_body(self, request: web.Request) -> bytes:
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
        """Returns the body of the answer; handles large JSON outside the event loop."""

        def parse() -> Request:
            return protocol.parse_request(body, model.inputs)

        is_large = len(body) > _INLINE_BYTES
        request = await asyncio.to_thread(parse) if is_large else parse()
        self._check_limits(request)
        outputs = await self._call(model, request)

        def format_answer() -> str:
            return protocol.format_answer(outputs, request.is_row_format)

        is_large = sum(output.nbytes for output in outputs.values()) > _INLINE_BYTES
        return await asyncio.to_thread(format_answer) if is_large else format_answer()

    async def _call(self, model: Model, request: Request) -> Tensors:
        try:
            batcher = model.find_batcher(request.signature)
            if batcher is not None:
                return await batcher(request.inputs)
            loop = asyncio.get_running_loop()
            signature = model.signatures[request.signature]
            return await loop.run_in_executor(
                self._models.executor, signature, request.inputs
            )
        except BadInputError as error:
            raise RequestError(400, _describe(error)) from error

    def _check_limits(self, request: Request) -> None:
        """Raises RequestError if a request exceeds the limits of images or draws."""
        rows = max((len(t) for t in request.inputs.values() if t.ndim), default=1)
        if request.signature == "generate" and "n" in request.inputs:
            rows = int(request.inputs["n"])
        if rows > self._limits.images:
            raise RequestError(
                400,
                f"a request may have at most {self._limits.images:,} images, this one "
                f"has {rows:,}",
            )
        draws = 0
        if request.signature == "iwae" and "k" in request.inputs:
            draws = rows * int(request.inputs["k"])
        if draws > self._limits.draws:
            raise RequestError(
                400,
                f"images times k may be at most {self._limits.draws:,}, this request "
                f"has {draws:,}",
            )


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers errors with a JSON body as TensorFlow Serving does, and logs requests."""
    started = asyncio.get_running_loop().time()
    try:
        response = await handler(request)
    except RequestError as error:
        response = _create_response(error.status, {"error": str(error)})
    except web.HTTPException as error:
        response = _create_response(error.status, {"error": error.reason})
    except Exception:
        _log.exception("%s %s", request.method, request.path)
        response = _create_response(
            500, {"error": "internal error: see the server's log"}
        )
    if response.status in (408, 413):  # the rest of the body was not read
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


def _create_response(status: int, content: dict[str, Any]) -> web.Response:
    return web.json_response(content, status=status)


def _describe(error: Exception) -> str:
    """Returns TensorFlow's error message without the position in the graph."""
    message = getattr(error, "message", str(error)).partition("\n\t [[{{node")[0]
    return message.rpartition("stack traces unavailable>\n")[2][:500]


def _create_method_error(target: Target, model: Model) -> RequestError:
    """Returns the error for `classify` and `regress`, which no signature supports."""
    kind = {"classify": "classification", "regress": "regression"}[target.action]
    method = model.signature_def[protocol.DEFAULT_SIGNATURE]["method_name"]
    return RequestError(
        400,
        f"Expected {kind} signature method_name to be tensorflow/serving/"
        f"{target.action}. Was: {method}",
    )
