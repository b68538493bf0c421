"""The Ingest step: writes TFDS data sets as tf.Examples in three splits, by Beam."""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
import tensorflow as tf
import tensorflow_datasets as tfds
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.datasets import prepare_spans, span
from components.datasets.fingerprint import DamagedError
from components.datasets.idx import DataError, SplitError
from model.config import IMAGE_SHAPE

logger = logging.getLogger(__name__)

FINGERPRINT_PROPERTY = "fingerprint"  # of the data set that was read
COUNTS_PROPERTY = "counts"  # JSON: images of each split
SPANS_PROPERTY = "spans"  # JSON: the spans that were read, by span.format_json

_CHUNK = 5_000  # images that one worker reads at a time
_BATCH = 1_000  # images that are decoded at a time


class Chunk(NamedTuple):
    """A range of a TFDS split's images."""

    split: str
    start: int
    stop: int


def assign_chunks(
    sizes: Sequence[dict[str, int]], eval_images: int, *, limit: int | None
) -> list[dict[str, list[Chunk]]]:
    """Returns which images of each data set go to `train`, `eval` and `test`.

    `eval` gets the last images of TFDS's train split, which are held out of training.
    `train` gets the others, and `test` gets TFDS's test split. Each of several data
    sets holds out images in proportion to its size, so that `eval` is like `train`.

    Args:
      sizes: for each data set, the number of images in TFDS's `train` and `test`.
      eval_images: the number of images to hold out, over all data sets.
      limit: the most images to read of each TFDS split; None: all.

    Returns:
      For each data set, the chunks to read by the name of their split.

    Raises:
      SplitError: no images would remain to train on.
    """
    counts = [
        [min(size[s], limit or size[s]) for s in ("train", "test")] for size in sizes
    ]
    total = sum(train for train, _ in counts)
    if eval_images >= total:
        raise SplitError(
            f"data.eval_images must be below the {total} images of the train split, "
            f"got {eval_images}"
        )
    result, before = [], 0
    for train, test in counts:
        after = before + train
        held_out = eval_images * after // total - eval_images * before // total
        before = after
        result.append(
            {
                "train": list(_make_chunks("train", start=0, stop=train - held_out)),
                "eval": list(_make_chunks("train", start=train - held_out, stop=train)),
                "test": list(_make_chunks("test", start=0, stop=test)),
            }
        )
    return result


def _make_chunks(split: str, *, start: int, stop: int) -> Iterator[Chunk]:
    for first in range(start, stop, _CHUNK):
        yield Chunk(split, first, min(first + _CHUNK, stop))


def read_chunk(chunk: Chunk, dataset_path: str) -> Iterator[bytes]:
    """Reads a chunk and yields each image as a serialized tf.Example.

    The features are `image`, 784 bytes, and `label`, an integer.

    Args:
      chunk: the images to read.
      dataset_path: the folder of the TFDS data set.

    Raises:
      DataError: the images are not uint8 of shape 28x28x1.
    """
    # Batches decode several times faster than the single images that
    # tfds.beam.ReadFromTFDS reads.
    images = (
        tfds.builder_from_directory(dataset_path)
        .as_dataset(
            split=tfds.core.ReadInstruction(
                chunk.split, from_=chunk.start, to=chunk.stop, unit="abs"
            ),
            shuffle_files=False,
        )
        .batch(_BATCH)
    )
    for batch in images.as_numpy_iterator():
        shape, dtype = batch["image"].shape[1:], batch["image"].dtype
        if shape != IMAGE_SHAPE or dtype != "uint8":
            raise DataError(
                f"images of {dataset_path} must be {IMAGE_SHAPE} uint8, "
                f"got {shape} {dtype}"
            )
        for image, label in zip(batch["image"], batch["label"]):
            yield _make_example(image.tobytes(), int(label)).SerializeToString()


def _make_example(image: bytes, label: int) -> tf.train.Example:
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
        )
    )


@component(use_beam=True)
def Ingest(  # noqa: N802, a component
    examples: OutputArtifact[standard_artifacts.Examples],
    dataset: Parameter[str],
    source: Parameter[str],
    span_window: Parameter[int],
    spans: Parameter[str],
    data_dir: Parameter[str],
    fingerprint: Parameter[str],
    eval_images: Parameter[int],
    limit: Parameter[int],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes a data set as tf.Examples in the splits `train`, `eval` and `test`.

    Prepares the data set first if `data_dir` does not have it yet.

    Args:
      examples: the output: gzipped TFRecords with the features `image` and `label`.
      dataset: the TFDS data set's name.
      source: the folder or URI of the data set's files, or a pattern of spans.
      span_window: the most spans to read.
      spans: the spans that the runner prepared, in JSON by `span.format_json`; empty:
        the data set has no spans, or only this step has access to the data.
      data_dir: the folder of prepared data sets.
      fingerprint: the data set's fingerprint, a part of the step's cache key; empty:
        only this step has access to the data.
      eval_images: the number of images to hold out of TFDS's train split.
      limit: the most images to read of each TFDS split; 0: all.
      beam_pipeline: the Beam pipeline that TFX creates.

    Raises:
      DamagedError: the data set does not have the fingerprint that was expected.
    """
    spans_read = span.parse_json(spans)
    if not spans_read:
        data = prepare_spans.prepare_data(
            dataset,
            source,
            window=span_window,
            data_dir=data_dir,
            print_line=logger.info,
        )
    else:
        data = prepare_spans.combine_spans(
            prepare_spans.load_spans(dataset, spans_read, data_dir=data_dir)
        )
    if fingerprint not in ("", data.fingerprint):
        raise DamagedError(
            f"the data in {data.parts[0].path} changed since the run began: expected "
            f"the fingerprint {fingerprint}, got {data.fingerprint}; run again"
        )
    read = assign_chunks(
        [part.splits for part in data.parts], eval_images, limit=limit or None
    )
    splits = {
        name: [
            (chunk, part.path)
            for part, chunks in zip(data.parts, read)
            for chunk in chunks[name]
        ]
        for name in read[0]
    }
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    examples_utils.set_payload_format(
        examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
    )
    counts = {
        name: sum(chunk.stop - chunk.start for chunk, _ in chunks)
        for name, chunks in splits.items()
    }
    examples.set_string_custom_property(FINGERPRINT_PROPERTY, data.fingerprint)
    examples.set_string_custom_property(SPANS_PROPERTY, span.format_json(data.spans))
    examples.set_string_custom_property(COUNTS_PROPERTY, json.dumps(counts))
    with beam_pipeline as pipeline:
        for name, chunks in splits.items():
            path = artifact_utils.get_split_uri([examples], name)
            (
                pipeline
                | f"Chunks[{name}]" >> beam.Create(chunks)
                | f"Share[{name}]" >> beam.Reshuffle()
                | f"Read[{name}]" >> beam.FlatMapTuple(read_chunk)
                | f"Write[{name}]"
                >> beam.io.WriteToTFRecord(
                    os.path.join(path, "data_tfrecord"), file_name_suffix=".gz"
                )
            )
