"""Which spans are found, what is read of them, and what is made of it."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from components.datasets import prepare_spans, span_files, spans
from components.datasets.idx import DataError
from model.files import filesystems
from pipeline.config.loading import ConfigError, resolve
from tests.support.s3 import SECRET
from tests.support.span_folders import bars, example, write_idx, write_records


def find(pattern, window=1):
    """Returns the numbers that are found, and what is said."""
    said = []
    found = spans.newest(str(pattern), window, said.append)
    return [span.number for span in found], said


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    return folder


def make(folder, *names):
    for name in names:
        (folder / name).mkdir()


# Which spans are found.


def test_the_newest_is_the_highest_number_padded_or_not(folder):
    make(folder, "span-9", "span-0010", "span-2")
    assert find(folder / "span-{SPAN}") == ([10], [])
    assert find(folder / "span-{SPAN}", 2) == ([9, 10], [])
    assert spans.newest(f"{folder}/span-{{SPAN}}", 1, print)[0].uri == (
        f"{folder}/span-0010"
    )


def test_a_number_may_stand_alone_or_in_the_middle(folder):
    make(folder, "3", "4", "d5.idx", "d.idx")
    assert find(f"{folder}/{{SPAN}}/") == (
        [4],
        [
            f"{folder}/d.idx is skipped: 'd.idx' is no span's number",
            f"{folder}/d5.idx is skipped: 'd5.idx' is no span's number",
        ],
    )
    assert find(folder / "d{SPAN}.idx") == ([5], [])


def test_gaps_and_what_is_no_number_are_skipped_and_said(folder):
    make(folder, "span-1", "span-5", "span-7", "span-tmp", "span-٣", "other")
    (folder / "span-8").write_text("a file")
    assert find(folder / "span-{SPAN}", 9) == (
        [1, 5, 7],
        [
            f"{folder}/span-tmp is skipped: 'tmp' is no span's number",
            f"{folder}/span-٣ is skipped: '٣' is no span's number",
            "spans 2 to 4 are not there, and skipped",
            "span 6 is not there, and skipped",
        ],
    )


def test_a_relative_pattern_is_of_this_folder(folder, monkeypatch):
    make(folder, "span-1")
    monkeypatch.chdir(folder)
    assert find("span-{SPAN}") == ([1], [])
    assert find("../src/span-{SPAN}") == ([1], [])


@pytest.mark.parametrize(
    ("names", "there"), [((), "nothing"), (("b", "span-x"), "b, span-x")]
)
def test_without_a_match_the_pattern_and_what_is_there_are_named(folder, names, there):
    make(folder, *names)
    with pytest.raises(DataError) as error:
        find(folder / "span-{SPAN}")
    assert str(error.value) == (
        f"no span matches {folder}/span-{{SPAN}}: looked in {folder} for folders named "
        f"span-<digits>, and found {there}; put a span there or correct --source"
    )


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError) as error:
        find(tmp_path / "nowhere" / "{SPAN}")
    assert str(error.value) == (
        f"{tmp_path}/nowhere is not a folder: expected one with a folder for each "
        "span; correct --source"
    )


def test_the_same_number_twice_is_refused(folder):
    make(folder, "span-7", "span-07")
    with pytest.raises(DataError) as error:
        find(folder / "span-{SPAN}")
    assert str(error.value) == (
        f"{folder} has span 7 twice, as span-07 and span-7: remove one of them"
    )


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    make(folder, "span-1")
    (tmp_path / "src-2").mkdir()
    (folder / "span-2").symlink_to(tmp_path / "src-2")
    with pytest.raises(DataError) as error:
        find(folder / "span-{SPAN}")
    assert str(error.value) == (
        f"{folder}/span-2 is a link to {tmp_path}/src-2: expected one that stays in "
        f"{folder}; copy the files there"
    )
    (folder / "span-2").unlink()
    (folder / "span-3").symlink_to("span-1")
    assert find(folder / "span-{SPAN}")[0] == [3]


def test_a_file_that_is_a_link_out_of_its_span_is_refused(folder, tmp_path):
    write_idx(folder / "span-1", bars(0, 10, 10))
    secret = tmp_path / "secret"
    secret.write_text("x")
    (folder / "span-1" / "train-images-idx3-ubyte").unlink()
    (folder / "span-1" / "train-images-idx3-ubyte").symlink_to(secret)
    with pytest.raises(DataError, match=f"is a link to {secret}: expected one that"):
        prepare(folder / "span-{SPAN}", tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "a-{SPAN}/b",
            "source must have {SPAN} once, in its last part, such as "
            "digits/span-{SPAN}, got 'a-{SPAN}/b'",
        ),
        ("{SPAN}-{SPAN}", "source must have {SPAN} once, in its last part"),
        (
            "s3://bucket/digits",
            "source must be a folder, or a URI of spans such as "
            "s3://bucket/digits/span-{SPAN}, got 's3://bucket/digits'",
        ),
        (
            "s3://bucket/../other/{SPAN}",
            "source must be a URI without . or .., got 's3://bucket/../other/{SPAN}'",
        ),
        (
            "s3://b/./span-{SPAN}",
            "source must be a URI without . or .., got 's3://b/./span-{SPAN}'",
        ),
        *(
            (
                source,
                "source must be a folder, or a URI of spans that begins with file://, "
                "minio://, s3://, gs:// and names a bucket or a folder, such as "
                f"s3://bucket/digits/span-{{SPAN}}, got '{source}'",
            )
            for source in (
                "http://x/y/span-{SPAN}",
                "s3://span-{SPAN}",
                "s3:///span-{SPAN}",
            )
        ),
    ],
)
def test_bad_sources_are_named_before_anything_runs(source, message):
    with pytest.raises(ConfigError) as error:
        resolve("smoke", None, [f"data.source='{source}'"])
    assert message in str(error.value)


def test_a_window_is_for_spans():
    with pytest.raises(ConfigError, match="span_window must be 1 without {SPAN} in"):
        resolve("smoke", None, ["data.span_window=2"])
    with pytest.raises(ConfigError, match="span_window must be at least 1, got 0"):
        resolve("smoke", None, ["data.span_window=0"])


# What is made of them.


def prepare(pattern, tmp_path, window=1, say=prepare_spans.print_nothing):
    return prepare_spans.prepare_data("bars", str(pattern), window, tmp_path / "d", say)


def read_back(part, split):
    rows = list(
        tfds.builder_from_directory(part.path)
        .as_dataset(split=split)
        .as_numpy_iterator()
    )
    return sorted((row["image"].tobytes(), int(row["label"])) for row in rows)


def pairs(arrays, split):
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels))


@pytest.mark.parametrize("kind", ["idx", "tfrecord", "tfrecord.gz"])
def test_each_span_becomes_a_tfds_dataset(folder, tmp_path, kind):
    for number in (6, 7):
        place = folder / f"span-{number}"
        if kind == "idx":
            write_idx(place, bars(number, 40, 20))
        else:
            write_records(place, bars(number, 40, 20), suffix=kind[len("tfrecord") :])
    data = prepare(folder / "span-{SPAN}", tmp_path, window=2)
    described = json.loads(data.spans)
    assert [span["span"] for span in described] == [6, 7]
    assert data.fingerprint == ",".join(
        f"{span['span']}:{span['fingerprint']}" for span in described
    )
    assert str(data).startswith("120 images of spans 6, 7 of bars at ")
    for number, part in zip((6, 7), data.parts):
        for split in ("train", "test"):
            assert read_back(part, split) == pairs(bars(number, 40, 20), split)
    loaded = prepare_spans.load("bars", data.spans, tmp_path / "d")
    assert prepare_spans.data_of(loaded) == data
    home = pathlib.Path(data.parts[0].path).parents[1]
    assert len(tfds.load("bars", data_dir=home, split="train", download=False)) == 40


def test_the_same_content_is_prepared_once(folder, tmp_path):
    write_idx(folder / "span-1", bars(1, 40, 20))
    write_records(folder / "span-2", bars(1, 40, 20))
    said = []
    first = prepare(folder / "span-{SPAN}", tmp_path, 2, said.append)
    assert sum("writing" in line for line in said) == 1
    assert first.parts[0] == first.parts[1]
    written = os.stat(first.parts[0].path).st_mtime_ns
    again = prepare(folder / "span-{SPAN}", tmp_path, 2)
    assert again == first
    assert os.stat(again.parts[0].path).st_mtime_ns == written
    assert not list((tmp_path / "d" / "spans").glob(".preparing-*"))


def test_other_content_is_another_fingerprint(folder, tmp_path):
    write_idx(folder / "span-1", bars(1, 40, 20))
    before = prepare(folder / "span-{SPAN}", tmp_path)
    write_idx(folder / "span-1", bars(2, 40, 20))
    assert prepare(folder / "span-{SPAN}", tmp_path).fingerprint != before.fingerprint


def test_what_was_damaged_is_prepared_anew(folder, tmp_path):
    write_idx(folder / "span-1", bars(1, 40, 20))
    data = prepare(folder / "span-{SPAN}", tmp_path)
    (shard, *_) = pathlib.Path(data.parts[0].path).glob("*train*")
    shard.write_bytes(b"")
    with pytest.raises(DataError) as error:
        prepare_spans.load("bars", data.spans, tmp_path / "d")
    assert str(error.value) == (
        f"span 1, prepared in {pathlib.Path(data.parts[0].path).parents[1]}, is gone "
        "or was changed since the run began; run again"
    )
    assert prepare(folder / "span-{SPAN}", tmp_path) == data
    assert read_back(data.parts[0], "train") == pairs(bars(1, 40, 20), "train")


def test_what_a_killed_process_left_is_removed(folder, tmp_path):
    write_idx(folder / "span-1", bars(1, 40, 20))
    left = tmp_path / "d" / "spans" / ".preparing-x"
    left.mkdir(parents=True)
    prepare(folder / "span-{SPAN}", tmp_path)
    assert not left.exists()


def test_a_bad_name_is_named(folder, tmp_path):
    with pytest.raises(DataError, match="must have a name of lower-case letters"):
        prepare_spans.prepare_newest("emnist/digits", f"{folder}/{{SPAN}}", 1, tmp_path)


def test_a_data_folder_that_cannot_be_made_is_named(folder, tmp_path):
    (tmp_path / "d").write_text("a file")
    with pytest.raises(DataError, match="make it usable or choose another data folder"):
        prepare(folder / "span-{SPAN}", tmp_path)


# Their files.


def test_a_span_without_files_is_named(folder, tmp_path):
    make(folder, "span-1")
    with pytest.raises(DataError, match="span-1 lacks train-images-idx3-ubyte"):
        prepare(folder / "span-{SPAN}", tmp_path)


def test_records_of_one_split_alone_are_refused(folder):
    write_records(folder, bars(0, 10, 10))
    for file in folder.glob("test*"):
        file.unlink()
    with pytest.raises(DataError) as error:
        span_files.read(str(folder))
    assert str(error.value) == (
        f"{folder} has no test*tfrecord* file, expected at least one beside those of "
        "the other split; put it there"
    )


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_shard_that_is_not_there_is_named(tmp_path, suffix, lost):
    """A span that is still being uploaded, or that lost a file."""
    write_records(tmp_path, bars(0, 30, 30), files=3, suffix=suffix)
    name = f"train-{lost:05}-of-00003.tfrecord{suffix}"
    (tmp_path / name).unlink()
    with pytest.raises(DataError) as error:
        span_files.read(str(tmp_path))
    assert str(error.value) == (
        f"{tmp_path} lacks {name}, expected all 3 shards: the span is not complete; "
        "wait until it is, or put the file there"
    )


def test_one_of_very_many_shards_is_not_all(tmp_path):
    write_records(tmp_path, bars(0, 10, 10), files=1)
    file = tmp_path / "test-00000-of-00001.tfrecord.gz"
    file.rename(tmp_path / "test-00000-of-999999999999.tfrecord.gz")
    with pytest.raises(DataError, match="lacks test-00001-of-999999999999.tfrecord.gz"):
        span_files.read(str(tmp_path))


def test_all_shards_are_read_however_they_are_numbered(tmp_path):
    """As `write_records` names them, and as TFDS and Beam do."""
    arrays = bars(0, 30, 30)
    write_records(tmp_path, arrays, files=3)
    expected = span_files.read(str(tmp_path))
    np.testing.assert_array_equal(expected["train_images"], arrays["train_images"])
    for file in tmp_path.glob("train*"):
        number = file.name[len("train-") :][: len("00000-of-00003")]
        file.rename(tmp_path / f"train.tfrecord-{number}.gz")
    read = span_files.read(str(tmp_path))
    np.testing.assert_array_equal(read["train_images"], arrays["train_images"])


@pytest.mark.parametrize("end", [".part", ".tmp", ".gz.part", "~"])
def test_what_is_still_being_written_is_no_shard(tmp_path, end):
    write_records(tmp_path, bars(0, 10, 10), files=1, suffix="")
    half = tmp_path / f"train-00001-of-00002.tfrecord{end}"
    half.write_bytes(b"")
    with pytest.raises(DataError) as error:
        span_files.read(str(tmp_path))
    assert str(error.value) == (
        f"{half} is no file of TFRecords by its name: expected one that ends in "
        "tfrecord or tfrecord-NNNNN-of-NNNNN, with or without .gz; wait until the span "
        "is complete, or take the file away"
    )


def overwrite(folder, *records):
    import tensorflow as tf

    path = folder / "train.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"\xff", "record 1 of {} is no tf.Example; write image and label as"),
        (
            example(bytes(783), 1),
            "record 1 of {} has an image of [783] bytes, expected [784]: 28 x 28",
        ),
        (b"", "record 1 of {} has an image of no bytes, expected [784]"),
        (example(bytes(784)), "record 1 of {} has the label [], expected one of 0 to"),
        (example(bytes(784), 256), "record 1 of {} has the label [256], expected one"),
        (example(bytes(784), -1), "record 1 of {} has the label [-1], expected one"),
    ],
)
def test_bad_records_are_named(tmp_path, record, message):
    write_records(tmp_path, bars(0, 10, 10))
    path = overwrite(tmp_path, example(bytes(784), 3), record)
    with pytest.raises(DataError) as error:
        span_files.read(str(tmp_path))
    assert message.format(path) in str(error.value)


def test_damaged_record_files_are_named(tmp_path):
    write_records(tmp_path, bars(0, 10, 10), files=1, suffix="")
    path = tmp_path / "train-00000-of-00001.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(DataError, match=f"{path} cannot be read after 9 records: "):
        span_files.read(str(tmp_path))
    path.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    with pytest.raises(DataError, match=f"{path} cannot be read after 1 records: "):
        span_files.read(str(tmp_path))
    path.write_bytes(b"")
    with pytest.raises(DataError) as error:
        span_files.read(str(tmp_path))
    assert str(error.value) == (
        f"{path} holds nothing, expected at least 1; get it again"
    )


def test_labels_that_are_too_high_are_named(folder, tmp_path):
    arrays = bars(0, 10, 10)
    arrays["train_labels"] = np.full(10, 12, np.uint8)
    write_idx(folder / "span-1", arrays)
    with pytest.raises(DataError, match="train labels go up to 12, expected 0 to 9"):
        prepare(folder / "span-{SPAN}", tmp_path)


# In an object store.


@pytest.mark.parametrize("scheme", ["s3", "minio"])
def test_spans_come_from_an_object_store(s3, folder, tmp_path, scheme):
    for number in (6, 7):
        write_idx(folder / f"span-{number:03}", bars(number, 40, 20))
    s3.files.put(str(folder), f"{s3.name}/digits", recursive=True)
    s3.files.pipe_file(f"{s3.name}/digits/span-008", b"an object, no span")
    s3.files.pipe_file(f"{s3.name}/digits/span-x/file", b"")
    said = []
    pattern = f"{scheme}://{s3.name}/digits/span-{{SPAN}}"
    data = prepare(pattern, tmp_path, 2, said.append)
    assert said[0].endswith("digits/span-x is skipped: 'x' is no span's number")
    assert [span["span"] for span in json.loads(data.spans)] == [6, 7]
    shutil.rmtree(tmp_path / "d")
    assert prepare(folder / "span-{SPAN}", tmp_path, 2) == data  # the same content


def test_an_object_store_without_a_match_is_named(s3, tmp_path):
    s3.files.pipe_file(f"{s3.name}/digits/span-x/file", b"")
    pattern = f"s3://{s3.name}/digits/span-{{SPAN}}"
    with pytest.raises(DataError) as error:
        prepare(pattern, tmp_path)
    assert str(error.value) == (
        f"no span matches {pattern}: looked in s3://{s3.name}/digits for folders named "
        "span-<digits>, and found span-x; put a span there or correct --source"
    )


def test_an_object_store_that_cannot_be_read_is_named(s3, tmp_path):
    with pytest.raises(
        filesystems.StorageError, match="can't use s3://no-such"
    ) as error:
        prepare("s3://no-such-bucket/span-{SPAN}", tmp_path)
    assert SECRET not in str(error.value)
