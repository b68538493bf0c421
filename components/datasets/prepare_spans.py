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
class Data:
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
    say: Callable[[str], None] = print_nothing,
) -> Data:
    """Prepares what a source holds: one data set, or its newest spans.

    Args:
      dataset, source, data_dir, say: those of `prepare.prepare`; the source may also be
        a pattern of spans.
      window: how many spans at the most.

    Raises:
      DataError: the data cannot be had or are not what they should be.
      StorageError: the object store does not answer.
    """
    source = safe_paths.expand_home(source)
    if spans.is_pattern(source):
        return combine_spans(
            prepare_newest(dataset, source, window=window, data_dir=data_dir, say=say)
        )
    prepared = prepare.prepare(dataset, source, data_dir=data_dir, say=say)
    return Data(parts=[prepared], spans=(), fingerprint=prepared.fingerprint)


def combine_spans(prepared: Sequence[PreparedSpan]) -> Data:
    """Returns the data of several spans."""
    spans = tuple(Span(each.number, each.data.fingerprint) for each in prepared)
    parts = [each.data for each in prepared]
    return Data(parts=parts, spans=spans, fingerprint=combine_fingerprints(spans))


def prepare_newest(
    dataset: str,
    pattern: str,
    *,
    window: int,
    data_dir: str | os.PathLike,
    say: Callable[[str], None] = print_nothing,
) -> list[PreparedSpan]:
    """Makes a TFDS dataset of each of the newest spans; returns them, oldest first.

    A data set that was prepared before of the same content is used again. Each is one
    that `tfds.load(dataset, data_dir=DATA_DIR/spans/DIGEST)` reads.

    Args:
      dataset: a name for what the spans hold.
      pattern: as `spans.newest` takes it.
      window: how many spans at the most.
      data_dir: the TFDS data folder; made if it is not there.
      say: is called with one-line progress messages.

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
    with prepare.usable(folder):
        (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
        found = spans.newest(pattern, window, say=say)
        with prepare.locked(folder, say):
            for leftover in (folder / _FOLDER).glob(f"{prepare.WORK_PREFIX}*"):
                shutil.rmtree(leftover)  # the lock tells that its process is dead
            return [
                _prepare(span, dataset, folder=folder / _FOLDER, say=say)
                for span in found
            ]


def load(
    dataset: str, spans_read: Sequence[Span], *, data_dir: str | os.PathLike
) -> list[PreparedSpan]:
    """Returns spans that were prepared before, such as those of `Data.spans`.

    Raises:
      DataError: one is not there any more, or was changed.
    """
    folder = pathlib.Path(data_dir).expanduser().absolute() / _FOLDER
    result = []
    for span in spans_read:
        place = _place(folder, span.fingerprint)
        data = _find(place, dataset)
        if data is None:
            raise DataError(
                f"span {span.number}, prepared in {place}, is gone or was changed "
                "since the run began; run again"
            )
        result.append(PreparedSpan(span.number, data))
    return result


def _prepare(
    span: spans.SpanFolder,
    dataset: str,
    *,
    folder: pathlib.Path,
    say: Callable[[str], None],
) -> PreparedSpan:
    with tempfile.TemporaryDirectory(prefix=prepare.WORK_PREFIX, dir=folder) as work:
        download = os.path.join(work, "download")
        os.mkdir(download)
        with log_if_slow(f"span {span.number}: copying and reading {span.uri}"):
            arrays = span_files.read(spans.fetch(span, download))
        shutil.rmtree(download)
        streams = idx.digest_streams(arrays)
        place = _place(folder, fingerprint.fingerprint_of(streams))
        data = _find(place, dataset)
        if data is None:
            say(f"span {span.number}: writing the TFDS dataset of {span.uri}")
            path = tfds_writer.write_arrays(
                tfds_writer.IdxDataset, dataset, arrays=arrays, work=pathlib.Path(work)
            )
            fingerprint.write(path, streams)
            target = place / path.relative_to(work)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, target)
            data = _find(place, dataset)
            if data is None:
                raise DataError(f"{target} cannot be read as it was written; run again")
    count = sum(data.splits.values())
    say(f"span {span.number}: {count:,} images are ready in {data.path}")
    return PreparedSpan(span.number, data)


def _place(folder: pathlib.Path, digest: str) -> pathlib.Path:
    return folder / digest[:32]


def _find(folder: pathlib.Path, dataset: str) -> Prepared | None:
    """Returns what was prepared; a damaged one is removed, for it can be had anew."""
    path = folder / dataset / str(tfds_writer.IdxDataset.VERSION)
    if not path.exists():
        return None
    try:
        recorded = fingerprint.checked_fingerprint(path)
        builder = tfds.builder_from_directory(path)
        splits = {split: builder.info.splits[split].num_examples for split in SPLITS}
    except (DataError, OSError, KeyError, ValueError) as error:
        if not isinstance(error, DataError) and machine_faults.is_fault(error):
            raise
        shutil.rmtree(path)
        return None
    return Prepared(name=dataset, path=str(path), fingerprint=recorded, splits=splits)
