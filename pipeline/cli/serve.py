"""The command `serve`: serves the pushed model over HTTP."""

import dataclasses
import logging
import os
import signal
import socket
import sys
import urllib.parse
import warnings

import click

from pipeline.cli import options
from pipeline.cli.command import command, literal
from pipeline.cli.option_types import FILE, Number
from pipeline.config import loading
from pipeline.config.addresses import format_address
from pipeline.exit_codes import INTERRUPTED, OK

_DESCRIPTION = """\
Serves the pushed model over HTTP, as TensorFlow Serving does, on machines without
TensorFlow Serving. Its clients need another host and port, and no other change.

\b
  GET  /v1/models/NAME[/versions/N]            the versions and their states
  GET  /v1/models/NAME[/versions/N]/metadata   the signatures
  POST /v1/models/NAME[/versions/N]:predict    `instances` or `inputs`
  GET  /healthz                                whether the server is alive
  GET  /readyz                                 whether a model is loaded

Requests that arrive together are computed together. The server verifies each newly
pushed version, and loads and serves it without a restart and without a lost request; it
does not serve a damaged version. After SIGTERM or Ctrl-C, the server finishes the
requests that have begun. It has no TLS and no access control: put it behind a proxy
that has both before strangers can reach it."""

_EXAMPLES = """\
Examples:
  vae-pipeline serve
  curl -d '{"signature_name": "generate", "inputs": {"n": 1, "seed": 7}}' \\
      http://127.0.0.1:8501/v1/models/vae:predict"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeOptions(options.Settings):
    """The options of `serve`."""

    host: str
    port: int
    poll: float  # seconds
    max_batch: int
    max_delay: float  # milliseconds
    max_images: int
    max_body: float  # MB
    grace: float  # seconds
    model_name: str | None
    access_log: bool
    verify: str | None
    signed_destination: str | None

    def overrides(self) -> dict[str, loading.Value]:
        """Returns the settings for which an option was given: name -> given value."""
        given = {
            "push.verify": self.verify,
            "push.signed_destination": self.signed_destination,
        }
        result = super().overrides()
        result.update({key: value for key, value in given.items() if value is not None})
        return result


@command(
    description=_DESCRIPTION,
    epilog=literal(_EXAMPLES) + "\n\nThe exit code of this command is 0 after SIGTERM.",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    help="Address to listen on; 0.0.0.0 listens on every network interface.",
)
@click.option(
    "--port",
    type=Number(int, least=0, most=65535),
    metavar="PORT",
    default=8501,
    help="Port to listen on; 0 chooses a free port.",
)
@click.option(
    "--poll",
    type=Number(float, is_positive=True),
    metavar="SECONDS",
    default=10.0,
    help="Time between two checks for a new version, in seconds.",
)
@click.option(
    "--max-batch",
    type=Number(int, least=1),
    metavar="IMAGES",
    default=128,
    help="Largest batch, in images, that is computed together; 1 disables batching.",
)
@click.option(
    "--max-delay",
    type=Number(float, least=0, most=1000, unit=" ms"),
    metavar="MS",
    default=0.0,
    help="Longest time, in milliseconds, that a request waits for others in its batch.",
)
@click.option(
    "--max-images",
    type=Number(int, least=1),
    metavar="IMAGES",
    default=1024,
    help="Largest number of images in one request.",
)
@click.option(
    "--max-body",
    type=Number(float, is_positive=True),
    metavar="MB",
    default=32.0,
    help="Largest size of the body of one request, in megabytes.",
)
@click.option(
    "--grace",
    type=Number(float, is_positive=True),
    metavar="SECONDS",
    default=30.0,
    help="Longest time, in seconds, that the server takes to finish the last requests "
    "after SIGTERM or Ctrl-C.",
)
@click.option(
    "--model-name",
    metavar="NAME",
    show_default="the setting push.model_name",
    help="Name of the model in the URL paths.",
)
@click.option(
    "--verify",
    type=FILE,
    metavar="KEY",
    show_default="the setting push.verify",
    help="File with the public key; only versions that its private key signed are "
    "served.",
)
@click.option(
    "--signed-destination",
    metavar="NAME",
    show_default="the setting push.signed_destination",
    help="Name of the destination in the signatures, if the server sees the versions "
    "at another path than the pipeline.",
)
@click.option("--access-log", is_flag=True, help="Log a line for each request.")
@options.settings_options
def serve(args: ServeOptions) -> int:
    """Serves the pushed model over HTTP until a signal; returns the exit code."""
    resolved = options.resolve(args)
    _check_model_name(args.model_name)
    destination = options.destination(args, resolved)
    verifier = resolved.push.signing.load_verifier(destination)
    listening = _bind(args.host, args.port)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s  %(message)s"
    )
    logging.getLogger("pipeline").setLevel(logging.INFO)
    access = logging.INFO if args.access_log else logging.WARNING
    logging.getLogger("pipeline.serving.app.access").setLevel(access)
    warnings.simplefilter("ignore", FutureWarning)  # Google's libraries give them
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no log lines at each start
    _import_tensorflow()

    import asyncio

    from pipeline.serving import app, batching, models, server

    name = args.model_name or resolved.push.model_name
    batches = batching.Limits(args.max_batch, args.max_delay / 1e3)
    limits = app.Limits(images=args.max_images, body=int(args.max_body * 1e6))
    log = logging.getLogger("pipeline.serving")

    async def run() -> int:
        served = models.Models(
            name,
            destination,
            limits=batches,
            threads=os.cpu_count() or 1,
            verifier=verifier,
        )
        address = format_address(*listening.getsockname()[:2])
        return await server.run(
            app.App(served, limits),
            served,
            sock=listening,
            poll=args.poll,
            grace=args.grace,
            started=lambda: log.info(
                "listening on http://%s/v1/models/%s",
                address,
                urllib.parse.quote(name),
            ),
        )

    try:
        signum = asyncio.run(run())
    except KeyboardInterrupt:  # before the server listened
        return INTERRUPTED
    log.info("stopped")
    return INTERRUPTED if signum == signal.SIGINT else OK


def _import_tensorflow() -> None:
    """Imports TensorFlow and discards what it writes to standard error meanwhile.

    No log level suppresses all of these lines.
    """
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _check_model_name(name: str | None) -> None:
    """Checks that a model's name can be a part of the server's URL paths.

    Raises:
      ConfigError: the name is empty, or contains / or a colon.
    """
    if name is not None and (not name or set(name) & set("/:")):
        raise loading.ConfigError(
            f"--model-name must be a name without / and :, got {name!r}"
        )


def _bind(host: str, port: int) -> socket.socket:
    """Returns a socket that is bound to an address.

    It is bound before TensorFlow is imported, so that a bad address fails at once.

    Raises:
      ConfigError: the address is not one of this machine, or is in use.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, proto)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    # UnicodeError is that of a host name with a label that is too long.
    except (OSError, UnicodeError) as error:
        raise loading.ConfigError(
            f"--host and --port must be an address of this machine that is free, got "
            f"{format_address(host, port)}: {getattr(error, 'strerror', error)}"
        ) from error
    return listening
