"""The writer of TFDS datasets, from arrays or with a builder of TFDS."""

import io
import pathlib
import shutil
import types
import urllib.parse
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from components.datasets import download, idx
from components.datasets.idx import DataAccessError, DataError
from model.files import disk_space

SPLITS = ("train", "test")

_DOWNLOAD_CONFIG = tfds.download.DownloadConfig(try_download_gcs=False)
_RECORD_OVERHEAD = 80  # bytes of a record in addition to its PNG, rounded up


class IdxDataset(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """The TFDS builder of data sets whose names TFDS does not know."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(*idx.IMAGE_SHAPE, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=("image", "label")
        )


def _make_builder(
    base: Any, dataset: str, *, work: pathlib.Path, **members: Any
) -> Any:
    """Returns a TFDS builder of `dataset` that prints nothing about downloads.

    Args:
      base: the builder class to derive from.
      dataset: name of the data set, with `/config` if it has one.
      work: the TFDS data folder to write to.
      **members: methods that replace those of `base`.
    """

    def print_no_line(self) -> None:
        pass

    name, _, config = dataset.partition("/")
    members |= {
        "name": name,
        "__module__": base.__module__,
        # TFDS has no option to switch these lines off, and they would interrupt the
        # progress lines of this program.
        "_log_download_bytes": print_no_line,
        "_log_download_done": print_no_line,
    }
    keywords = {"skip_registration": True}
    builder_cls = types.new_class(
        name, (base,), keywords, lambda ns: ns.update(members)
    )
    return builder_cls(data_dir=work, config=config or None)


def write_arrays(
    base: Any, dataset: str, *, arrays: idx.Arrays, work: pathlib.Path
) -> pathlib.Path:
    """Writes arrays as a TFDS dataset and returns the folder of its version.

    Args:
      base: the builder class to derive from: TFDS's for this name, or IdxDataset.
      dataset: name of the data set, with `/config` if it has one.
      arrays: images and labels of the splits train and test.
      work: the TFDS data folder to write to.

    Raises:
      DataAccessError: the disk has too little space.
      DataError: a label is higher than the data set's number of classes allows.
    """
    # TFDS would encode the PNGs with one TensorFlow session per image: this takes 25 s
    # longer for MNIST, and initializes TensorFlow's devices in this process.
    pngs = {
        split: [_encode_png(i) for i in arrays[f"{split}_images"]] for split in SPLITS
    }
    needed = sum(
        png.getbuffer().nbytes + _RECORD_OVERHEAD
        for split in SPLITS
        for png in pngs[split]
    )
    if shutil.disk_usage(work).free < needed:
        raise DataAccessError(disk_space.describe_full_disk(work.parent, needed))

    def generate_examples(self, split):
        labels = arrays[f"{split}_labels"].tolist()
        for key, (png, label) in enumerate(zip(pngs[split], labels, strict=True)):
            yield key, {"image": png, "label": label}

    def split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLITS}

    builder = _make_builder(
        base,
        dataset,
        work=work,
        _generate_examples=generate_examples,
        _split_generators=split_generators,
    )
    classes = builder.info.features["label"].num_classes
    for split in SPLITS:
        highest = arrays[f"{split}_labels"].max()
        if highest >= classes:
            raise DataError(
                f"the {split} labels go up to {highest}, expected 0 to {classes - 1} "
                f"for {dataset}; check the files"
            )
    builder.download_and_prepare(download_config=_DOWNLOAD_CONFIG)
    return pathlib.Path(builder.data_dir)


def write_with_tfds(
    builder_cls: Any, dataset: str, *, work: pathlib.Path, seconds: float
) -> pathlib.Path:
    """Prepares a data set with TFDS itself and returns the folder of its version.

    Args:
      builder_cls: TFDS's builder class of the data set.
      dataset: name of the data set, with `/config` if it has one.
      work: the TFDS data folder to write to.
      seconds: the longest time to wait for the answer of a host before the download.

    Raises:
      DataError: the features are wrong, or TFDS failed.
      DataAccessError: a host does not answer, or the disk or network failed.
    """
    try:
        builder = _make_builder(builder_cls, dataset, work=work)
        check_features(builder)
        urls = {urllib.parse.urlsplit(url)[:2]: url for url in builder.url_infos or ()}
        for (scheme, _), url in urls.items():
            if scheme in ("http", "https"):
                download.open_url(url, seconds).close()  # TFDS has no time-out
        builder.download_and_prepare(download_config=_DOWNLOAD_CONFIG)
    except DataError:
        raise
    except Exception as error:  # TFDS and its builders raise errors of any type
        # The errors of `requests` are OSErrors.
        is_fault = isinstance(error, (OSError, MemoryError))
        kind = DataAccessError if is_fault else DataError
        raise kind(f"TFDS cannot prepare {dataset}: {error}") from error
    return pathlib.Path(builder.data_dir)


def check_features(builder: Any) -> None:
    """Raises DataError unless a data set has an image [28, 28, 1] and a label."""
    features = dict(builder.info.features)
    image, label = features.get("image"), features.get("label")
    if not (
        isinstance(image, tfds.features.Image)
        and image.shape == (*idx.IMAGE_SHAPE, 1)
        and image.np_dtype == np.uint8
        and label is not None
        and label.shape == ()
        and np.issubdtype(label.np_dtype, np.integer)
    ):
        raise DataError(
            f"{builder.name} has the features {features}, expected an image "
            "[28, 28, 1] of uint8 and an integer label; choose another dataset"
        )


def _encode_png(image: np.ndarray) -> io.BytesIO:
    """Returns an image, uint8 [28, 28], as a PNG file in memory."""
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG")
    file.seek(0)
    return file
