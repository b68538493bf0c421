"""Ingest: from a TFDS data set on disk to tf.Examples, with small data sets."""

import json
import pathlib
import struct

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.datasets import prepare_spans, span
from components.datasets.fingerprint import DamagedError
from components.datasets.idx import DataError, SplitError
from components.datasets.prepare import prepare
from components.datasets.tfds_writer import SPLITS
from components.ingest import Chunk, Ingest, assign_chunks, read_chunk
from tests.support.span_folders import bars, write_idx

# How many images of each part are read.


def test_chunks_of_mnist():
    splits = assign_chunks([{"train": 60_000, "test": 10_000}], 5_000, limit=None)[0]
    assert list(splits) == ["train", "eval", "test"]
    assert splits["train"] == [
        Chunk("train", start, start + 5_000) for start in range(0, 55_000, 5_000)
    ]
    assert splits["eval"] == [Chunk("train", 55_000, 60_000)]
    assert splits["test"] == [Chunk("test", 0, 5_000), Chunk("test", 5_000, 10_000)]


def test_a_last_chunk_is_as_short_as_need_be():
    assert assign_chunks([{"train": 12_345, "test": 1}], 6_000, limit=None)[0] == {
        "train": [Chunk("train", 0, 5_000), Chunk("train", 5_000, 6_345)],
        "eval": [Chunk("train", 6_345, 11_345), Chunk("train", 11_345, 12_345)],
        "test": [Chunk("test", 0, 1)],
    }


def test_a_limit_holds_for_each_split():
    assert assign_chunks([{"train": 60_000, "test": 100}], 200, limit=5_500)[0] == {
        "train": [Chunk("train", 0, 5_000), Chunk("train", 5_000, 5_300)],
        "eval": [Chunk("train", 5_300, 5_500)],
        "test": [Chunk("test", 0, 100)],
    }


def test_one_image_is_enough_to_train_on():
    splits = assign_chunks([{"train": 10, "test": 10}], 9, limit=None)[0]
    assert splits["train"] == [Chunk("train", 0, 1)]


@pytest.mark.parametrize(("limit", "images"), [(None, 10), (7, 7)])
def test_something_must_be_left_to_train_on(limit, images):
    with pytest.raises(SplitError, match="eval_images") as error:
        assign_chunks([{"train": 10, "test": 10}], images, limit=limit)[0]
    assert str(error.value) == (
        f"data.eval_images must be below the {images} images of the train split, "
        f"got {images}"
    )


def test_each_of_several_datasets_holds_out_its_share():
    sizes = [{"train": 100, "test": 5}, {"train": 300, "test": 7}]
    assert assign_chunks(sizes, 40, limit=None) == [
        {
            "train": [Chunk("train", 0, 90)],
            "eval": [Chunk("train", 90, 100)],
            "test": [Chunk("test", 0, 5)],
        },
        {
            "train": [Chunk("train", 0, 270)],
            "eval": [Chunk("train", 270, 300)],
            "test": [Chunk("test", 0, 7)],
        },
    ]


@pytest.mark.parametrize("eval_images", [1, 7, 50, 64])
def test_the_shares_are_what_is_to_be_held_out(eval_images):
    sizes = [{"train": size, "test": 1} for size in (10, 20, 40)]
    parts = assign_chunks(sizes, eval_images, limit=35)
    held_out = [chunk for part in parts for chunk in part["eval"]]
    assert sum(chunk.stop - chunk.start for chunk in held_out) == eval_images
    # The parts have 10, 20 and, because of the limit, 35 images.
    for part, size in zip(parts, (10, 20, 35)):
        assert sum(c.stop - c.start for c in part["train"] + part["eval"]) == size


# TFDS data sets from builders of this module.


def build(folder, shape, dtype, shards):
    """Writes a data set of 30 images in `shards` files; returns its folder."""

    class Thirty(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=shape, dtype=dtype)
            label = tfds.features.ClassLabel(num_classes=10)
            features = tfds.features.FeaturesDict({"image": image, "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(30):
                yield i, {"image": np.full(shape, i, dtype), "label": i % 10}

    builder = Thirty(data_dir=folder)
    config = tfds.download.DownloadConfig(num_shards=shards)
    builder.download_and_prepare(download_config=config)
    return str(builder.data_path)


def parsed(records):
    """Returns (pixels, label) of each example; asserts that it has no other feature."""
    pairs = []
    for record in records:
        feature = dict(tf.train.Example.FromString(record).features.feature)
        [image] = feature.pop("image").bytes_list.value
        [label] = feature.pop("label").int64_list.value
        assert not feature
        pairs.append((image, label))
    return pairs


def test_chunks_have_all_images_once_whatever_the_files(tmp_path):
    path = build(tmp_path, (28, 28, 1), np.uint8, shards=4)
    assert len(list(pathlib.Path(path).glob("*.tfrecord-*"))) == 4
    chunks = [Chunk("train", 0, 11), Chunk("train", 11, 29), Chunk("train", 29, 30)]
    read = [parsed(read_chunk(chunk, path)) for chunk in chunks]
    assert [len(pairs) for pairs in read] == [11, 18, 1]
    pairs = sorted(pair for chunk in read for pair in chunk)
    assert pairs == [(bytes([i]) * 784, i % 10) for i in range(30)]


@pytest.mark.parametrize(
    ("shape", "dtype", "got"),
    [
        ((28, 28, 3), np.uint8, "(28, 28, 3) uint8"),
        ((32, 32, 1), np.uint8, "(32, 32, 1) uint8"),
        ((28, 28, 1), np.uint16, "(28, 28, 1) uint16"),
    ],
)
def test_other_images_are_refused(tmp_path, shape, dtype, got):
    path = build(tmp_path, shape, dtype, shards=1)
    with pytest.raises(DataError, match="must be") as error:
        list(read_chunk(Chunk("train", 0, 30), path))
    assert str(error.value) == (
        f"images of {path} must be (28, 28, 1) uint8, got {got}"
    )


# The whole step, with a data set from IDX files.

COUNTS = {"train": 5_300, "test": 120}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return {
        split: (
            rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            rng.integers(0, 10, count, dtype=np.uint8),
        )
        for split, count in COUNTS.items()
    }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, arrays, data_dir):
    source = tmp_path_factory.mktemp("idx")
    for split, stem in (("train", "train"), ("test", "t10k")):
        images, labels = arrays[split]
        header = struct.pack(">4B3I", 0, 0, 8, 3, len(images), 28, 28)
        path = source / f"{stem}-images-idx3-ubyte"
        path.write_bytes(header + images.tobytes())
        header = struct.pack(">4BI", 0, 0, 8, 1, len(labels))
        path = source / f"{stem}-labels-idx1-ubyte"
        path.write_bytes(header + labels.tobytes())
    return prepare("ingest_digits", str(source), data_dir=data_dir)


def ingest(
    folder, data_dir, fingerprint, eval_images=200, limit=0, source="auto", **spans
):
    """Runs Ingest; returns its artifact, and the (pixels, label) pairs by split."""
    component = Ingest(
        dataset="ingest_digits",
        source=source,
        span_window=spans.get("span_window", 1),
        spans=spans.get("spans", ""),
        data_dir=data_dir,
        fingerprint=fingerprint,
        eval_images=eval_images,
        limit=limit,
    )
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    executor = component.executor_spec.executor_class()
    executor.Do({}, {"examples": [artifact]}, component.exec_properties)
    splits = {}
    for split in artifact_utils.decode_split_names(artifact.split_names):
        files = map(str, (folder / f"Split-{split}").iterdir())
        records = tf.data.TFRecordDataset(list(files), compression_type="GZIP")
        splits[split] = parsed(records.as_numpy_iterator())
    return artifact, splits


def pairs_of(images, labels):
    return sorted((i.tobytes(), int(label)) for i, label in zip(images, labels))


def test_every_image_is_in_one_split(tmp_path, prepared, data_dir, arrays):
    _, splits = ingest(tmp_path, data_dir, prepared.fingerprint)
    counts = {split: len(pairs) for split, pairs in splits.items()}
    assert counts == {"train": 5_100, "eval": 200, "test": 120}
    assert sorted(splits["train"] + splits["eval"]) == pairs_of(*arrays["train"])
    assert sorted(splits["test"]) == pairs_of(*arrays["test"])
    images = [image for pairs in splits.values() for image, _ in pairs]
    assert len(set(images)) == 5_420  # all are different, so no image is in two splits
    held_out = tfds.load(
        "ingest_digits", data_dir=data_dir, split="train[5100:]", download=False
    )
    rows = list(held_out.as_numpy_iterator())
    expected = pairs_of([row["image"] for row in rows], [row["label"] for row in rows])
    assert sorted(splits["eval"]) == expected


@pytest.fixture(scope="module")
def limited(tmp_path_factory, prepared, data_dir):
    folder = tmp_path_factory.mktemp("limited")
    return ingest(folder, data_dir, fingerprint="", eval_images=10, limit=50)


def test_a_limit_reads_the_first_images(limited, data_dir):
    _, splits = limited
    for names, split in ((["train", "eval"], "train"), (["test"], "test")):
        first = tfds.load(
            "ingest_digits", data_dir=data_dir, split=f"{split}[:50]", download=False
        )
        rows = list(first.as_numpy_iterator())
        read = sorted(pair for name in names for pair in splits[name])
        assert read == pairs_of(
            [row["image"] for row in rows], [row["label"] for row in rows]
        )
    assert len(splits["eval"]) == 10


def test_the_artifact_says_what_it_holds(limited, prepared):
    artifact, _ = limited
    assert json.loads(artifact.split_names) == ["train", "eval", "test"]
    assert (
        examples_utils.get_payload_format(artifact)
        == example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
    )
    assert artifact.get_string_custom_property("fingerprint") == prepared.fingerprint
    counts = json.loads(artifact.get_string_custom_property("counts"))
    assert counts == {"train": 40, "eval": 10, "test": 50}


@pytest.mark.parametrize("resolved", [False, True])
def test_a_window_of_spans_is_read(tmp_path, resolved):
    """Ingest finds the spans itself, as on a cluster, or the local runner does."""
    every = {number: bars(number, 30, 10) for number in (5, 6, 7)}
    for number, arrays in every.items():
        write_idx(tmp_path / "src" / f"span-{number}", arrays)
    source = str(tmp_path / "src" / "span-{SPAN}")
    data_dir = str(tmp_path / "data")
    data = prepare_spans.prepare_data(
        "ingest_digits", source, window=2, data_dir=data_dir
    )
    given = {"source": source, "span_window": 2}
    if resolved:
        # added after the local runner found the spans
        write_idx(tmp_path / "src" / "span-8", bars(8))
        given = {"spans": span.format_json(data.spans)}
    artifact, splits = ingest(
        tmp_path / "examples", data_dir, data.fingerprint, eval_images=6, **given
    )
    counts = {split: len(pairs) for split, pairs in splits.items()}
    assert counts == {"train": 54, "eval": 6, "test": 20}
    images = [np.concatenate([every[n][f"{s}_images"] for n in (6, 7)]) for s in SPLITS]
    labels = [np.concatenate([every[n][f"{s}_labels"] for n in (6, 7)]) for s in SPLITS]
    assert sorted(splits["train"] + splits["eval"]) == pairs_of(images[0], labels[0])
    assert sorted(splits["test"]) == pairs_of(images[1], labels[1])
    assert artifact.get_string_custom_property("fingerprint") == data.fingerprint
    found = span.parse_json(artifact.get_string_custom_property("spans"))
    assert found == data.spans
    assert [each.number for each in found] == [6, 7]


def test_data_that_changed_are_refused(tmp_path, prepared, data_dir):
    with pytest.raises(DamagedError, match="changed") as error:
        ingest(tmp_path / "examples", data_dir, "of before")
    assert str(error.value) == (
        f"the data in {prepared.path} changed since the run began: expected the "
        f"fingerprint of before, got {prepared.fingerprint}; run again"
    )
    assert not (tmp_path / "examples").exists()
