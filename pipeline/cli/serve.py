"""The command `serve`: serves the pushed model over HTTP."""

import argparse
import logging
import math
import os
import signal
import socket
import sys
import urllib.parse
import warnings
from collections.abc import Callable

from pipeline.cli import options
from pipeline.config import loading
from pipeline.exit_codes import INTERRUPTED, OK

_DESCRIPTION = """\
Serves the model that was pushed over HTTP, as TensorFlow Serving does, for machines
that have none: its clients take another host and port, and nothing else.

  GET  /v1/models/NAME[/versions/N]            the versions and their states
  GET  /v1/models/NAME[/versions/N]/metadata   the signatures
  POST /v1/models/NAME[/versions/N]:predict    `instances` or `inputs`
  GET  /healthz, /readyz                       alive; a model is loaded

Requests that come at once are computed at once. A newly pushed version is verified,
loaded and served without a restart or a lost request; one that is damaged is not.
SIGTERM and Ctrl-C let what has begun end. There is no TLS and no access control: put
it behind what has both before strangers reach it."""


def _parse_positive(text: str) -> float:
    """Returns a number of the command line that must be above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


_Parse = Callable[[str], str | int | float]

# Each with its metavariable, type, default and help.
_OPTIONS: list[tuple[str, str, _Parse, str | int | float, str]] = [
    ("--host", "ADDRESS", str, "127.0.0.1", "where to listen; 0.0.0.0: everywhere"),
    ("--port", "PORT", int, 8501, "0: any that is free"),
    ("--poll", "SECONDS", _parse_positive, 10.0, "between two looks for a new version"),
    ("--max-batch", "IMAGES", int, 128, "that are computed at once; 1: no batching"),
    ("--max-delay", "MS", float, 0.0, "that a request waits for others"),
    ("--max-images", "IMAGES", int, 1024, "of one request"),
    ("--max-body", "MB", _parse_positive, 32.0, "of one request"),
    ("--grace", "SECONDS", _parse_positive, 30.0, "that the last answers may take"),
]


def add_command(commands: options.Commands) -> None:
    """Adds the command `serve` to the command line."""
    parser = commands.add_parser(
        "serve",
        help="serve the pushed model over HTTP, as TensorFlow Serving does",
        description=_DESCRIPTION,
        epilog="such as:\n"
        "  vae-pipeline serve\n"
        '  curl -d \'{"signature_name": "generate", "inputs": {"n": 1, "seed": 7}}\''
        " \\\n      http://127.0.0.1:8501/v1/models/vae:predict\n\n"
        f"{options.EXIT_CODES}; of this command, 0 after SIGTERM",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag, metavar, kind, default, text in _OPTIONS:
        shown = default if isinstance(default, str) else f"{default:g}"
        parser.add_argument(
            flag,
            metavar=metavar,
            type=kind,
            default=default,
            help=f"{text} (default: {shown})",
        )
    parser.add_argument(
        "--model-name",
        metavar="NAME",
        help="in the paths (default: the setting push.model_name)",
    )
    parser.add_argument(
        "--access-log", action="store_true", help="log a line for each request"
    )
    options.add_settings_options(parser)
    parser.set_defaults(command=serve)


def serve(args: argparse.Namespace) -> int:
    """Serves the pushed model until a signal; returns the exit code."""
    resolved = options.resolve(args)
    _check_options(args)
    destination = options.destination(args, resolved)
    listening = _bind(args.host, args.port)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s  %(message)s"
    )
    logging.getLogger("pipeline").setLevel(logging.INFO)
    access = logging.INFO if args.access_log else logging.WARNING
    logging.getLogger("pipeline.serving.app.access").setLevel(access)
    warnings.simplefilter("ignore", FutureWarning)  # of Google's libraries
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its own lines on each start
    _import_tensorflow()

    import asyncio

    from pipeline.serving import app, batching, models, server

    name = args.model_name or resolved.push.model_name
    batches = batching.Limits(args.max_batch, args.max_delay / 1e3)
    limits = app.Limits(images=args.max_images, body=int(args.max_body * 1e6))
    log = logging.getLogger("pipeline.serving")

    async def run() -> int:
        served = models.Models(
            name, destination, limits=batches, threads=os.cpu_count() or 1
        )
        host, port = listening.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        return await server.run(
            app.App(served, limits),
            served,
            sock=listening,
            poll=args.poll,
            grace=args.grace,
            started=lambda: log.info(
                "listening on http://%s:%d/v1/models/%s",
                host,
                port,
                urllib.parse.quote(name),
            ),
        )

    try:
        signum = asyncio.run(run())
    except KeyboardInterrupt:  # came before the server listened
        return INTERRUPTED
    log.info("stopped")
    return INTERRUPTED if signum == signal.SIGINT else OK


def _import_tensorflow() -> None:
    """Imports TensorFlow without the lines that no level of its log suppresses."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _check_options(args: argparse.Namespace) -> None:
    """Raises ConfigError for an option whose value can't be used."""
    for flag in ("max_batch", "max_images"):
        if getattr(args, flag) < 1:
            text = flag.replace("_", "-")
            raise loading.ConfigError(
                f"--{text} must be at least 1, got {getattr(args, flag)}"
            )
    if not 0 <= args.max_delay <= 1000:
        raise loading.ConfigError(
            f"--max-delay must be from 0 to 1000 ms, got {args.max_delay:g}"
        )
    if not 0 <= args.port <= 65535:
        raise loading.ConfigError(f"--port must be from 0 to 65535, got {args.port}")
    if args.model_name is not None and set(args.model_name) & set("/:") | (
        {args.model_name} & {""}
    ):
        raise loading.ConfigError(
            f"--model-name must be a name without / and :, got {args.model_name!r}"
        )


def _bind(host: str, port: int) -> socket.socket:
    """Returns a bound socket, so that a bad address fails before the imports."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, proto)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise loading.ConfigError(
            f"--host and --port must be an address of this machine that is free, got "
            f"{host}:{port}: {error.strerror}"
        ) from error
    return listening
