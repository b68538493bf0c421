"""A run's record as Prometheus metrics: in a text file, and over HTTP."""

import contextlib
import datetime
import pathlib
from collections.abc import Callable, Iterator
from typing import get_args

import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from model.files import atomic_write, filesystems
from pipeline.config.loading import ConfigError
from pipeline.config.notifications import Event
from pipeline.runs import run_record as records
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
        "The same of the model that was served before.",
        "baseline_elbo",
    ),
    "served_version": ("The version that is served.", "served_version"),
    "versions": ("Complete versions at the push destination.", "versions"),
}  # name: (help, the record's field)


def write(path: pathlib.Path, record: RunRecord) -> None:
    """Writes the metrics of a run that ended, all at once, for every user to read.

    Raises:
      OSError: the file could not be written, or its folder is missing.
    """
    path.parent.stat()  # a folder made here is none that node-exporter looks into
    text = prometheus_client.generate_latest(_registry(lambda: record)).decode()
    atomic_write.write(path, text, mode=filesystems.FILE)


@contextlib.contextmanager
def served(root: pathlib.Path, host: str, port: int) -> Iterator[int]:
    """Serves the metrics of the newest run below a root that ended, over HTTP.

    Args:
      root: of local runs.
      host: the address to listen on.
      port: 0: any that is free.

    Yields:
      The port.

    Raises:
      ConfigError: the address can't be listened on.
    """
    try:
        server, thread = prometheus_client.start_http_server(
            port, host, _registry(lambda: records.last_ended(root))
        )
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--metrics-port and --metrics-host must be a free address, got "
            f"{host}:{port}: {error}"
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _registry(newest: Callable[[], RunRecord | None]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_OfRun(newest))
    return registry


class _OfRun(Collector):
    """The metrics of a record."""

    def __init__(self, newest: Callable[[], RunRecord | None]):
        self._newest = newest

    def describe(self) -> list[GaugeMetricFamily]:
        """Returns nothing: a registry would else collect to learn the names."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields them; none before the first run has ended."""
        record = self._newest()
        if record is None or record.ended is None:
            return
        ended = datetime.datetime.fromisoformat(record.ended).timestamp()
        help_ = "When the last run ended, seconds since 1970."
        yield _gauge(record, "last_run_end_timestamp_seconds", help_, ended)
        verdict = GaugeMetricFamily(
            f"{_PREFIX}_last_run_verdict",
            "1 for what came of the last run, 0 for all else.",
            labels=["model", "verdict"],
        )
        for word in get_args(Event):
            verdict.add_metric([record.model, word], float(word == record.verdict))
        yield verdict
        for name, (help_, field) in _GAUGES.items():
            value = getattr(record, field)
            if value is not None:
                yield _gauge(record, name, help_, value)
        steps = GaugeMetricFamily(
            f"{_PREFIX}_step_seconds",
            "Wall time of each step of the last run that ended well.",
            labels=["model", "step", "cached"],
        )
        for step in record.steps:
            cached = "true" if step.cached else "false"
            steps.add_metric([record.model, step.name, cached], step.seconds)
        yield steps


def _gauge(record: RunRecord, name: str, help_: str, value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", help_, labels=["model"])
    family.add_metric([record.model], value)
    return family
