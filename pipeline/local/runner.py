"""The local runner: one process, metadata in SQLite, all state under one root."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from components.datasets import prepare_spans, span
from components.registry import listing
from model.errors import PipelineError
from model.training import devices, tf_config
from model.training.progress import log_if_slow
from pipeline import graph
from pipeline.config.loading import PipelineConfig
from pipeline.console import Console
from pipeline.local import cache_key, metadata_database, steps, summary, up_to_date
from pipeline.local.root import Root, schema_file
from pipeline.local.steps import BadDataError, RunError
from pipeline.runs.recorder import RunRecorder

if TYPE_CHECKING:
    from components.registry.signatures import Verifier

__all__ = ["BadDataError", "Root", "RunError", "RunOptions", "run"]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The options of a run that are not part of its configuration."""

    beam_args: Sequence[str] = ()  # Beam's options; empty: graph.BEAM_ARGS
    is_only_if_changed: bool = False  # whether to skip a repeated run


def run(
    config: PipelineConfig,
    root: Root,
    *,
    data_dir: str,
    recorder: RunRecorder,
    console: Console,
    options: RunOptions = RunOptions(),
) -> summary.RunSummary | None:
    """Runs the graph locally: prepares the data, then runs each step or its cache hit.

    Args:
      config: the settings.
      root: the root of the run's state.
      data_dir: the folder of prepared TFDS data sets.
      recorder: records the run's steps and results in its run record.
      console: shows the run's progress.
      options: how to run.

    Returns:
      The run's summary; None if `options.is_only_if_changed` and an earlier run had
      the same code, settings, data and baseline.

    Raises:
      DataError: the data cannot be used, or (DataAccessError) cannot be read.
      BadDataError: DataGate or ElboDrift stopped the run.
      RunError: a step failed, or a folder of the push destination cannot be read.
      MetadataError: the metadata file cannot be used.
      StorageError: the object store does not answer.
      NoSigningKeyError: push.verify is set, and the private key is missing.
      SigningKeyError: a key is of the wrong kind.
      SecretError: a key can't be read.
    """
    _check_metadata(root, console)
    _configure_devices(config)
    # This comes first, because it fails if the destination is unreadable.
    destination = root.destination(config)
    # So does this, before hours of training, if a key is missing or wrong.
    config.push.signing.load_signer(destination)
    verifier = config.push.signing.load_verifier(destination)
    current, damaged = _find_served_version(destination, verifier)
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
    # TFX's cache compares flags of executors but not code, so the digest is a flag.
    for component in pipeline.components:
        component.executor_spec.add_extra_flags([f"--code={code[component.id]}"])
    with _record_unreported_push(
        destination, recorder, before=current, verifier=verifier
    ):
        done = steps.run_until_cache_is_intact(
            pipeline,
            root,
            recorder=recorder,
            console=console,
            # Somebody may have removed the version that an earlier Pusher pushed. So
            # its result comes from the cache only if that version is served.
            uncached=() if is_repeated else ("Pusher",),
            disks=[str(root.path), tempfile.gettempdir(), destination],
        )
        served = _find_served_version(destination, verifier)[0]
        result = summary.read(config, done, served=served)
    summary.record_summary(recorder, result)
    recorder.record_version_count(_count_versions(destination))
    return result


def _check_metadata(root: Root, console: Console) -> None:
    with log_if_slow("checking the metadata"):
        metadata_database.check_metadata(
            root.metadata, root.artifacts, print_line=console.line
        )


def _configure_devices(config: PipelineConfig) -> None:
    """Configures train.replicas logical CPUs; raises RunError under TF_CONFIG."""
    if workers := tf_config.count_workers():
        raise RunError(
            f"TF_CONFIG names a cluster of {workers} workers, but TensorFlow can join "
            "a cluster only before any other use of it, and here Transform uses it "
            "before the Trainer: unset TF_CONFIG, or train on Kubeflow, where each "
            "step is a separate process"
        )
    if config.train.replicas:
        # Must precede Transform, which initializes TensorFlow in this process.
        devices.configure_logical_cpus(config.train.replicas)


def _prepare_data(
    config: PipelineConfig, data_dir: str, *, recorder: RunRecorder, console: Console
) -> prepare_spans.PreparedData:
    """Prepares the data set as the step `Data`, which precedes the graph."""
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
        recorder.record_step_completed("Data", line.print_result(str(data)))
    return data


def _find_served_version(
    destination: str, verifier: "Verifier | None"
) -> tuple[listing.Version | None, list[listing.DamagedVersion]]:
    """Returns the served version, and the damaged versions that are newer."""
    try:
        return listing.find_served_and_damaged(destination, verifier=verifier)
    except OSError as error:
        where = error.filename or destination
        raise RunError(f"can't read {where} ({error.strerror})") from error


def _baseline_fingerprint(
    current: listing.Version | None,
    damaged: Sequence[listing.DamagedVersion],
    *,
    is_repeated: bool,
) -> str:
    """Returns the text that identifies this run's baseline, such as `7 <digest>`.

    The baseline is the served version. But a model is not its own baseline: if an equal
    run made the served version (`is_repeated`), the baseline is the one of that run, so
    that all steps come from the cache.
    """
    if current is None:
        return f"none: {damaged[0].number} is damaged" if damaged else "none"
    if not is_repeated:
        return f"{current.number} {current.digest}"
    baseline = current.manifest.baseline
    return f"{baseline.version} {baseline.digest}" if baseline else "none"


@contextlib.contextmanager
def _record_unreported_push(
    destination: str,
    recorder: RunRecorder,
    *,
    before: listing.Version | None,
    verifier: "Verifier | None",
) -> Iterator[None]:
    """Records the version of a Pusher that failed after it had published the version.

    If the block raises in the Pusher, this looks for a version that is newer than
    `before` and has this run's key.
    """
    try:
        yield
    except BaseException:
        record = recorder.record
        if record.step == "Pusher" and record.version is None:
            with contextlib.suppress(PipelineError, OSError):
                now = listing.find_served_version(destination, verifier=verifier)
                is_new = now and (before is None or now.number > before.number)
                if now and is_new and now.manifest.run_key == record.run_key:
                    summary.record_pushed_version(
                        recorder, now.number, manifest=now.manifest
                    )
        raise


def _count_versions(destination: str) -> int | None:
    """Returns the number of versions with a manifest; None if the destination fails."""
    try:
        return listing.count_versions(destination)
    except (PipelineError, OSError):  # must not fail a run that is done
        return None
