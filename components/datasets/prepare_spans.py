"""The preparation of spans: each becomes a TFDS dataset, once for the same content."""

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
    """The prepared data of a source: one data set, or one data set for each span."""

    parts: Sequence[Prepared]  # the data sets; those of spans with the oldest first
    spans: tuple[Span, ...]  # empty if the source is one data set
    fingerprint: str  # the data set's, or `combine_fingerprints` of the spans

    def __str__(self) -> str:
        images = sum(sum(part.splits.values()) for part in self.parts)
        spans = f"{describe_spans(self.spans)} of " if self.spans else ""
        newest = self.parts[-1]
        return f"{images:,} images of {spans}{newest.name} at {newest.path}"


@dataclasses.dataclass(frozen=True)
class PreparedSpan:
    """A span with its prepared data set."""

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
    """Prepares the data of a source: one data set, or the newest spans of a pattern.

    Args:
      dataset: name of the data set.
      source: a source of `prepare.prepare`, or a pattern such as `digits/span-{SPAN}`.
      window: the largest number of spans to use.
      data_dir: the TFDS data folder, which is made if it is missing.
      print_line: function that is called with each progress line.

    Raises:
      DataError: the source does not work, or has other data than expected.
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
    """Returns the data sets of several spans as one `PreparedData`."""
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
    """Prepares a TFDS dataset for each of the newest spans and returns them.

    A data set with the same content that was prepared before is used again. The data
    sets are written for `tfds.load(dataset, data_dir=DATA_DIR/spans/DIGEST)`.

    Args:
      dataset: name for the data sets of the spans.
      pattern: the folders of the spans, such as `digits/span-{SPAN}`.
      window: the largest number of spans to use.
      data_dir: the TFDS data folder, which is made if it is missing.
      print_line: function that is called with each progress line.

    Returns:
      The spans, with the oldest first.

    Raises:
      DataError: there is no span, or the files of a span are missing or damaged.
      StorageError: the object store does not answer.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", dataset):
        raise DataError(
            "the dataset of spans must have a name of lower-case letters, digits and "
            f"_, got {dataset!r}"
        )
    tfds.disable_progress_bar()
    folder = pathlib.Path(data_dir).expanduser().absolute()
    with prepare.convert_machine_errors(folder):
        (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
        found = spans.find_newest(pattern, window, print_line=print_line)
        with prepare.lock_folder(folder, print_line):
            for leftover in (folder / _FOLDER).glob(f"{prepare.WORK_PREFIX}*"):
                shutil.rmtree(leftover)  # the lock shows that its process has ended
            return [
                _prepare_span(
                    span, dataset, folder=folder / _FOLDER, print_line=print_line
                )
                for span in found
            ]


def load_spans(
    dataset: str, spans_read: Sequence[Span], *, data_dir: str | os.PathLike
) -> list[PreparedSpan]:
    """Returns spans that were prepared before, with their data sets.

    Args:
      dataset: name of the data sets.
      spans_read: numbers and fingerprints of the spans, from `PreparedData.spans`.
      data_dir: the TFDS data folder.

    Raises:
      DataError: the data set of a span was removed or changed.
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
    """Reads a span and returns it with its data set, which is written if it is new.

    Args:
      span: the span's number and folder.
      dataset: name of the data set.
      folder: folder of all prepared spans.
      print_line: function that is called with each progress line.
    """
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
    """Returns the TFDS data folder for a span with this SHA-256."""
    return folder / digest[:32]


def _find_prepared(folder: pathlib.Path, dataset: str) -> Prepared | None:
    """Returns the prepared data set in a span's folder; None if there is none.

    A damaged data set is removed, because the caller can prepare it again.
    """
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
