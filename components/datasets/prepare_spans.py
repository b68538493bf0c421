"""Makes a prepared TFDS dataset of each span, once for the same content."""

import dataclasses
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence

import tensorflow_datasets as tfds

from components.datasets import (
    fingerprint,
    idx,
    prepare,
    span_files,
    spans,
    tfds_writer,
)
from components.datasets.idx import DataError
from components.datasets.prepare import Prepared, print_nothing
from components.datasets.span import Span, combine_fingerprints, describe_spans
from components.datasets.tfds_writer import SPLITS
from model.files import machine_faults, safe_paths
from model.training.progress import log_if_slow

_FOLDER = "spans"  # below the TFDS data folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedData:
    """What a source holds, prepared."""

    parts: Sequence[Prepared]  # one dataset, or that of each span, the oldest first
    spans: tuple[Span, ...]  # empty if the source is one data set
    fingerprint: str  # of all parts; of spans, as `combine_fingerprints` writes it

    def __str__(self) -> str:
        images = sum(sum(part.splits.values()) for part in self.parts)
        spans = f"{describe_spans(self.spans)} of " if self.spans else ""
        newest = self.parts[-1]
        return f"{images:,} images of {spans}{newest.name} at {newest.path}"


@dataclasses.dataclass(frozen=True)
class PreparedSpan:
    """A span, prepared."""

    number: int
    data: Prepared


def prepare_data(
    dataset: str,
    source: str,
    *,
    window: int,
    data_dir: str | os.PathLike,
    print_line: Callable[[str], None] = print_nothing,
) -> PreparedData:
    """Prepares what a source holds: one data set, or its newest spans.

    Args:
      dataset, source, data_dir, print_line: those of `prepare.prepare`; the source may
        also be a pattern of spans.
      window: how many spans at the most.

    Raises:
      DataError: the data cannot be had or are not what they should be.
      StorageError: the object store does not answer.
    """
    source = safe_paths.expand_home(source)
    if spans.is_pattern(source):
        return combine_spans(
            prepare_newest_spans(
                dataset, source, window=window, data_dir=data_dir, print_line=print_line
            )
        )
    prepared = prepare.prepare(
        dataset, source, data_dir=data_dir, print_line=print_line
    )
    return PreparedData(parts=[prepared], spans=(), fingerprint=prepared.fingerprint)


def combine_spans(prepared: Sequence[PreparedSpan]) -> PreparedData:
    """Returns the data of several spans."""
    spans = tuple(Span(each.number, each.data.fingerprint) for each in prepared)
    parts = [each.data for each in prepared]
    return PreparedData(
        parts=parts, spans=spans, fingerprint=combine_fingerprints(spans)
    )


def prepare_newest_spans(
    dataset: str,
    pattern: str,
    *,
    window: int,
    data_dir: str | os.PathLike,
    print_line: Callable[[str], None] = print_nothing,
) -> list[PreparedSpan]:
    """Makes a TFDS dataset of each of the newest spans; returns them, oldest first.

    A data set that was prepared before of the same content is used again. Each is one
    that `tfds.load(dataset, data_dir=DATA_DIR/spans/DIGEST)` reads.

    Args:
      dataset: a name for what the spans hold.
      pattern: as `spans.find_newest` takes it.
      window: how many spans at the most.
      data_dir: the TFDS data folder; made if it is not there.
      print_line: is called with one-line progress messages.

    Raises:
      DataError: there is no such span, or its files are not what they should be.
      StorageError: the object store does not answer.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", dataset):
        raise DataError(
            "the dataset of spans must have a name of lower-case letters, digits and "
            f"_, got {dataset!r}"
        )
    tfds.disable_progress_bar()
    folder = pathlib.Path(data_dir).expanduser().absolute()
    with prepare.convert_disk_errors(folder):
        (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
        found = spans.find_newest(pattern, window, print_line=print_line)
        with prepare.lock_folder(folder, print_line):
            for leftover in (folder / _FOLDER).glob(f"{prepare.WORK_PREFIX}*"):
                shutil.rmtree(leftover)  # the lock tells that its process is dead
            return [
                _prepare_span(
                    span, dataset, folder=folder / _FOLDER, print_line=print_line
                )
                for span in found
            ]


def load_spans(
    dataset: str, spans_read: Sequence[Span], *, data_dir: str | os.PathLike
) -> list[PreparedSpan]:
    """Returns spans that were prepared before, such as those of `PreparedData.spans`.

    Raises:
      DataError: one is not there any more, or was changed.
    """
    folder = pathlib.Path(data_dir).expanduser().absolute() / _FOLDER
    result = []
    for span in spans_read:
        span_folder = _span_folder(folder, span.fingerprint)
        data = _find_prepared(span_folder, dataset)
        if data is None:
            raise DataError(
                f"span {span.number}, prepared in {span_folder}, was removed or "
                "changed after the run began; run again"
            )
        result.append(PreparedSpan(span.number, data))
    return result


def _prepare_span(
    span: spans.SpanFolder,
    dataset: str,
    *,
    folder: pathlib.Path,
    print_line: Callable[[str], None],
) -> PreparedSpan:
    with tempfile.TemporaryDirectory(prefix=prepare.WORK_PREFIX, dir=folder) as work:
        download = os.path.join(work, "download")
        os.mkdir(download)
        with log_if_slow(f"span {span.number}: copying and reading {span.uri}"):
            arrays = span_files.read(spans.fetch_files(span, download))
        shutil.rmtree(download)
        streams = idx.digest_streams(arrays)
        span_folder = _span_folder(folder, fingerprint.compute_fingerprint(streams))
        data = _find_prepared(span_folder, dataset)
        if data is None:
            print_line(f"span {span.number}: writing the TFDS dataset of {span.uri}")
            path = tfds_writer.write_arrays(
                tfds_writer.IdxDataset, dataset, arrays=arrays, work=pathlib.Path(work)
            )
            fingerprint.write_record(path, streams)
            target = span_folder / path.relative_to(work)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, target)
            data = _find_prepared(span_folder, dataset)
            if data is None:
                raise DataError(f"{target} cannot be read as it was written; run again")
    count = sum(data.splits.values())
    print_line(f"span {span.number}: {count:,} images are ready in {data.path}")
    return PreparedSpan(span.number, data)


def _span_folder(folder: pathlib.Path, digest: str) -> pathlib.Path:
    return folder / digest[:32]


def _find_prepared(folder: pathlib.Path, dataset: str) -> Prepared | None:
    """Returns what was prepared; a damaged one is removed, for it can be had anew."""
    path = folder / dataset / str(tfds_writer.IdxDataset.VERSION)
    if not path.exists():
        return None
    try:
        recorded = fingerprint.read_verified_fingerprint(path)
        builder = tfds.builder_from_directory(path)
        splits = {split: builder.info.splits[split].num_examples for split in SPLITS}
    except (DataError, OSError, KeyError, ValueError) as error:
        if not isinstance(error, DataError) and machine_faults.is_fault(error):
            raise
        shutil.rmtree(path)
        return None
    return Prepared(name=dataset, path=str(path), fingerprint=recorded, splits=splits)
