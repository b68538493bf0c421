"""Runs the graph here: one process, metadata in SQLite, all state under one root."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence

from components.datasets import prepare_spans, span
from components.registry import listing, version_numbers
from components.registry.manifest import MANIFEST
from model.errors import PipelineError
from model.files import filesystems
from model.training import devices, tf_config
from model.training.progress import log_if_slow
from pipeline import graph
from pipeline.config.loading import PipelineConfig
from pipeline.console import Screen
from pipeline.local import cache_key, metadata_database, steps, summary, up_to_date
from pipeline.local.root import Root, schema_file
from pipeline.local.steps import BadDataError, RunError
from pipeline.runs.recorder import RunRecorder

__all__ = ["BadDataError", "Root", "RunError", "RunOptions", "run"]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How to run, whatever the settings are."""

    beam_args: Sequence[str] = ()  # Beam's options in place of graph.BEAM_ARGS
    is_only_if_changed: bool = False  # a run that repeats the last one does nothing


def run(
    config: PipelineConfig,
    root: Root,
    *,
    data_dir: str,
    recorder: RunRecorder,
    console: Screen,
    options: RunOptions = RunOptions(),
) -> summary.RunSummary | None:
    """Runs every step that is not in the cache, and returns the run's summary.

    Args:
      config: the settings.
      root: the root of the run's state.
      data_dir: the folder of prepared TFDS datasets.
      recorder: records the run.
      console: shows the run's progress.
      options: how to run.

    Returns:
      The summary; None if there was nothing to do.

    Raises:
      DataError: the data cannot be used, or (DataAccessError) cannot be had.
      BadDataError: DataGate stopped the run.
      RunError: a step failed, or a folder of the push destination cannot be read.
      MetadataError: the metadata file cannot be used.
      StorageError: the object store does not answer.
    """
    _check_metadata(root, console)
    _configure_devices(config)
    # Before any work, because the destination may turn out to be unreadable.
    destination = root.destination(config)
    current, damaged = _find_served_version(destination)
    for version in damaged:
        console.line(version.describe(current))
    recorder.record_served_version(current.number if current else None)
    data = _prepare_data(config, data_dir, recorder=recorder, console=console)
    code = cache_key.digest_code()
    key = cache_key.run_key(config, data.fingerprint, code=code)
    is_repeated = current is not None and current.manifest.run_key == key
    baseline = _baseline_fingerprint(current, damaged, is_repeated=is_repeated)
    recorder.record_inputs(fingerprint=data.fingerprint, run_key=key, baseline=baseline)
    if options.is_only_if_changed:
        why = up_to_date.explain_nothing_to_do(
            up_to_date.find_last_decided(root.path),
            run_key=key,
            baseline=baseline,
            served=current,
            spans=span.describe_spans(data.spans),
        )
        if why is not None:
            console.line(why)
            recorder.record_nothing_to_do()
            return None
    pipeline = graph.create_pipeline(
        config,
        graph.Paths(
            pipeline_root=str(root.artifacts),
            data_dir=data_dir,
            schema_file=str(schema_file()),
            destination=destination,
            checkpoints=str(root.checkpoints),
            data_fingerprint=data.fingerprint,
            spans=span.format_json(data.spans),
            served_fingerprint=baseline,
            run_key=key,
        ),
        beam_args=options.beam_args or graph.BEAM_ARGS,
    )
    # TFX's cache does not compare the steps' code: this makes it a part of their keys.
    for component in pipeline.components:
        component.executor_spec.add_extra_flags([f"--code={code[component.id]}"])
    with _records_unreported_push(destination, recorder, before=current):
        done = steps.run_until_cache_is_intact(
            pipeline,
            root,
            recorder=recorder,
            console=console,
            # Someone may have removed the version that the Pusher pushed. Its work
            # counts as done only while this run's own model is served.
            uncached=() if is_repeated else ("Pusher",),
            disks=[str(root.path), tempfile.gettempdir(), destination],
        )
        result = summary.read(config, done, served=_find_served_version(destination)[0])
    summary.fill(recorder, result)
    recorder.record_version_count(_count_versions(destination))
    return result


def _check_metadata(root: Root, console: Screen) -> None:
    with log_if_slow("checking the metadata"):
        metadata_database.check_metadata(
            root.metadata, root.artifacts, print_line=console.line
        )


def _configure_devices(config: PipelineConfig) -> None:
    if workers := tf_config.count_workers():
        raise RunError(
            f"TF_CONFIG names a cluster of {workers} workers, and TensorFlow "
            "joins one only as the first thing that it does, where here Transform uses "
            "it before: unset TF_CONFIG, or train on the cluster, where each step is a "
            "process of its own"
        )
    if config.train.replicas:
        # Before TensorFlow starts: Transform starts it, in this process.
        devices.configure_logical_cpus(config.train.replicas)


def _prepare_data(
    config: PipelineConfig, data_dir: str, *, recorder: RunRecorder, console: Screen
) -> prepare_spans.PreparedData:
    recorder.record_step_started("Data")
    settings = config.data
    with console.step("Data") as line:
        data = prepare_spans.prepare_data(
            settings.dataset,
            settings.source,
            window=settings.span_window,
            data_dir=data_dir,
            print_line=console.line,
        )
        recorder.record_step_completed("Data", line.done(str(data)))
    return data


def _find_served_version(
    destination: str,
) -> tuple[listing.Version | None, list[listing.DamagedVersion]]:
    """Returns the version that is served, and the damaged ones that are newer."""
    try:
        return listing.find_served_and_damaged(destination)
    except OSError as error:
        where = error.filename or destination
        raise RunError(f"can't read {where} ({error.strerror})") from error


def _baseline_fingerprint(
    current: listing.Version | None,
    damaged: Sequence[listing.DamagedVersion],
    *,
    is_repeated: bool,
) -> str:
    """Returns the text that identifies this run's baseline.

    A model is not its own baseline: if the served version was made from the inputs of
    this run, the baseline stays the one of then, and all steps come from the cache.
    """
    if current is None:
        return f"none: {damaged[0].number} is damaged" if damaged else "none"
    if not is_repeated:
        return f"{current.number} {current.digest}"
    baseline = current.manifest.baseline
    return f"{baseline.version} {baseline.digest}" if baseline else "none"


@contextlib.contextmanager
def _records_unreported_push(
    destination: str, recorder: RunRecorder, *, before: listing.Version | None
) -> Iterator[None]:
    """Records a version that was pushed by a Pusher that then could not report it."""
    try:
        yield
    except BaseException:
        record = recorder.record
        if record.step == "Pusher" and record.version is None:
            with contextlib.suppress(PipelineError, OSError):
                now = listing.find_served_version(destination)
                is_new = now and (before is None or now.number > before.number)
                if now and is_new and now.manifest.run_key == record.run_key:
                    summary.fill_pushed(recorder, now.number, manifest=now.manifest)
        raise


def _count_versions(destination: str) -> int | None:
    """Returns how many complete versions there are; None if it cannot be read now."""
    try:
        with filesystems.open_filesystem(destination) as (files, path):
            numbers = version_numbers.list_numbers(files, path)
            return sum(files.exists(f"{path}/{n}/{MANIFEST}") for n in numbers)
    except (filesystems.StorageError, OSError):  # the run has done its work
        return None
