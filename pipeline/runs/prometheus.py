"""Prometheus metrics of the last run: in a text file, and over HTTP."""

import contextlib
import datetime
import pathlib
from collections.abc import Callable, Iterator
from typing import get_args

import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from model.files import atomic_write, filesystems
from pipeline.config.addresses import format_address
from pipeline.config.loading import ConfigError
from pipeline.config.notifications import Event
from pipeline.runs import run_record
from pipeline.runs.run_record import RunRecord

_PREFIX = "vae_pipeline"
_GAUGES = {
    "last_run_seconds": ("Wall time of the last run.", "seconds"),
    "elbo_nats": (
        "The last candidate's evidence lower bound, nats per image, higher is better; "
        "its record says how it was estimated.",
        "elbo",
    ),
    "baseline_elbo_nats": (
        "The ELBO of the model that was served before, nats per image.",
        "baseline_elbo",
    ),
    "independent_pixels_nats": (
        "The log-likelihood of the test split under independent pixels, nats per "
        "image; a useful model's ELBO is above it.",
        "independent_pixels",
    ),
    "served_version": ("The version that is served.", "served_version"),
    "versions": ("Complete versions at the push destination.", "versions"),
}  # metric: (help, field of RunRecord)


def write_metrics(path: pathlib.Path, record: RunRecord) -> None:
    """Writes the metrics of a run that ended to a text file for node-exporter.

    The file is replaced atomically, and every user can read it.

    Raises:
      OSError: the file could not be written, or its folder is missing.
    """
    path.parent.stat()  # raises if it is missing: node-exporter reads no new folder
    text = prometheus_client.generate_latest(_registry(lambda: record)).decode()
    atomic_write.write(path, text, mode=filesystems.FILE)


@contextlib.contextmanager
def serve_metrics(root: pathlib.Path, *, host: str, port: int) -> Iterator[int]:
    """Serves the metrics of the last run that ended, over HTTP while the block runs.

    Args:
      root: the root of local runs.
      host: the address to listen on.
      port: the port to listen on; 0: any free port.

    Yields:
      The port that the server listens on.

    Raises:
      ConfigError: the server cannot listen on the address.
    """
    try:
        server, thread = prometheus_client.start_http_server(
            port, host, _registry(lambda: run_record.last_ended(root))
        )
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(
            f"--metrics-port and --metrics-host must be a free address, got "
            f"{format_address(host, port)}: {error}"
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _registry(read_record: Callable[[], RunRecord | None]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_RunCollector(read_record))
    return registry


class _RunCollector(Collector):
    """Reads the run record and makes the metrics again for each request."""

    def __init__(self, read_record: Callable[[], RunRecord | None]):
        self._read_record = read_record

    def describe(self) -> list[GaugeMetricFamily]:
        """Returns no metrics, so that `register` does not call `collect` for names."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields the metrics of the record; none before the first run has ended."""
        record = self._read_record()
        if record is None or record.ended is None:
            return
        ended = datetime.datetime.fromisoformat(record.ended).timestamp()
        help_ = "When the last run ended, seconds since 1970."
        name = "last_run_end_timestamp_seconds"
        yield _gauge(record, name, help_=help_, value=ended)
        verdict = GaugeMetricFamily(
            f"{_PREFIX}_last_run_verdict",
            "1 for the way in which the last run ended, 0 for the others.",
            labels=["model", "verdict"],
        )
        for status in get_args(Event):
            is_status = float(status == record.status.value)
            verdict.add_metric([record.model, status], is_status)
        yield verdict
        for name, (help_, field) in _GAUGES.items():
            value = getattr(record, field)
            if value is not None:
                yield _gauge(record, name, help_=help_, value=value)
        steps = GaugeMetricFamily(
            f"{_PREFIX}_step_seconds",
            "Wall time of each step of the last run that ended well.",
            labels=["model", "step", "cached"],
        )
        for step in record.steps:
            cached = "true" if step.cached else "false"
            steps.add_metric([record.model, step.name, cached], step.seconds)
        yield steps


def _gauge(
    record: RunRecord, name: str, *, help_: str, value: float
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", help_, labels=["model"])
    family.add_metric([record.model], value)
    return family
