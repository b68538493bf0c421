"""The IDX reader, tested with files that are packed by hand."""

import functools
import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from components.datasets import idx

IMAGES = struct.pack(">4B3I", 0, 0, 8, 3, 2, 28, 28) + bytes(range(196)) * 8
LABELS = struct.pack(">4B1I", 0, 0, 8, 1, 2) + b"\x07\x03"
# Without the time in the file: a test's name has the bytes of its parameters, and
# processes that run tests in parallel must find the same names.
compress = functools.partial(gzip.compress, mtime=0)
FILES = {
    "train-images-idx3-ubyte": IMAGES,
    "train-labels-idx1-ubyte": LABELS,
    "t10k-images-idx3-ubyte": IMAGES,
    "t10k-labels-idx1-ubyte": LABELS,
}


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_reads_images_and_labels(folder):
    arrays = idx.read_folder(folder)
    assert set(arrays) == {"train_images", "train_labels", "test_images", "test_labels"}
    images = arrays["train_images"]
    assert (images.shape, images.dtype) == ((2, 28, 28), np.uint8)
    # Row-major: pixel (1, 2, 3) is byte 784 + 2 * 28 + 3 of the data.
    assert images[1, 2, 3] == (784 + 2 * 28 + 3) % 196
    assert arrays["train_labels"].tolist() == [7, 3]


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("separator", ["-", "."])
def test_finds_either_naming_plain_or_gzipped(tmp_path, separator, ending):
    for name, data in FILES.items():
        name = name.replace("-idx", f"{separator}idx") + ending
        (tmp_path / name).write_bytes(gzip.compress(data) if ending else data)
    arrays = idx.read_folder(tmp_path)
    assert arrays["test_labels"].tolist() == [7, 3]


def test_reads_gzip_that_lost_its_ending(folder):
    (folder / "t10k-labels-idx1-ubyte").write_bytes(gzip.compress(LABELS))
    assert idx.read_folder(folder)["test_labels"].tolist() == [7, 3]


def test_writes_what_was_read():
    for stream, data in (("train_images", IMAGES), ("test_labels", LABELS)):
        assert idx.to_bytes(idx.parse(stream, "name", data=data)) == data


def test_writes_a_view_in_row_major_order():
    images = np.frombuffer(IMAGES, np.uint8, offset=16).reshape(2, 28, 28)
    assert idx.to_bytes(np.asfortranarray(images)) == IMAGES


def test_refuses_to_write_other_than_bytes():
    with pytest.raises(ValueError, match="array must be uint8, got int64"):
        idx.to_bytes(np.zeros(3, np.int64))


def test_names_every_missing_file(folder):
    (folder / "train-images-idx3-ubyte").unlink()
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(idx.DataError) as error:
        idx.read_folder(folder)
    assert f"{folder} lacks train-images-idx3-ubyte, t10k-labels-idx1-ubyte (" in str(
        error.value
    )


def test_refuses_what_is_not_a_folder(tmp_path):
    with pytest.raises(idx.DataError, match="nowhere is not a folder; give one with"):
        idx.read_folder(tmp_path / "nowhere")


def test_names_a_file_that_cannot_be_read(folder, monkeypatch):
    # Root can read every file, so the test cannot make a real file unreadable.
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("model.files.regular_files.read_bytes", refuse)
    with pytest.raises(
        idx.DataError, match="train-images-idx3-ubyte cannot be read: Permission denied"
    ):
        idx.read_folder(folder)


def test_images_and_labels_must_be_equally_many(folder):
    three = struct.pack(">4B1I", 0, 0, 8, 1, 3) + b"\x01\x02\x03"
    (folder / "t10k-labels-idx1-ubyte").write_bytes(three)
    with pytest.raises(
        idx.DataError,
        match="t10k-images-idx3-ubyte holds 2 images but .*t10k-labels-idx1-ubyte holds"
        " 3 labels; expected as many",
    ):
        idx.read_folder(folder)


@pytest.mark.parametrize(
    ("stream", "name", "data", "message"),
    [
        (
            "train_images",
            "a.gz",
            IMAGES,
            "a.gz is not gzip: it begins with 0x0000, expected 0x1f8b; rename it",
        ),
        (
            "train_images",
            "a.gz",
            compress(IMAGES)[:-20],
            "a.gz is damaged or truncated gzip (",
        ),
        (
            "train_images",
            "a.gz",
            compress(IMAGES)[:-8] + bytes(8),
            "a.gz is damaged or truncated gzip (CRC check failed",
        ),
        (
            "train_images",
            "a",
            LABELS,
            "a has the magic number 0x00000801, expected 0x00000803 (train images)",
        ),
        (
            "test_labels",
            "a",
            b"<html>",
            "a has the magic number 0x3c68746d, expected 0x00000801 (test labels)",
        ),
        (
            "train_images",
            "a",
            b"",
            "a is truncated: it holds 0 bytes, expected at least the 16 of its header",
        ),
        (
            "train_images",
            "a",
            IMAGES[:9],
            "a is truncated: it holds 9 bytes, expected at least the 16 of its header",
        ),
        (
            "train_images",
            "a",
            IMAGES[:-1],
            "a is truncated: it holds 1583 bytes, expected 1584 for the 2 that",
        ),
        (
            "train_labels",
            "a",
            LABELS + b"\x00",
            "a has trailing bytes: it holds 11 bytes, expected 10 for the 2 that",
        ),
        (
            "train_images",
            "a",
            struct.pack(">4B3I", 0, 0, 8, 3, 1, 32, 30) + bytes(960),
            "a holds images of 32 x 30 pixels, expected 28 x 28",
        ),
        (
            "train_labels",
            "a",
            struct.pack(">4B1I", 0, 0, 8, 1, 0),
            "a holds nothing, expected at least 1",
        ),
        # What the header states is not allocated: -1, and a product of 2^64 + 2^16.
        (
            "train_images",
            "a",
            struct.pack(">4B3i", 0, 0, 8, 3, -1, 28, 28) + bytes(784),
            "a states 4,294,967,295 images or labels in its header, expected at most "
            "1,000,000; get the file again, or give fewer",
        ),
        (
            "train_images",
            "a.gz",
            compress(struct.pack(">4B3I", 0, 0, 8, 3, 1_000_001, 28, 28)),
            "a.gz states 1,000,001 images or labels in its header, expected at most",
        ),
        (
            "test_labels",
            "a.gz",
            compress(struct.pack(">4B1I", 0, 0, 8, 1, 2**31) + b"\x01"),
            "a.gz states 2,147,483,648 images or labels in its header, expected at",
        ),
        (
            "train_images",
            "a.gz",
            compress(struct.pack(">4B3I", 0, 0, 8, 3, 65_537, 2**24, 2**24)),
            "a.gz holds images of 16777216 x 16777216 pixels, expected 28 x 28",
        ),
        (
            "train_images",
            "a.gz",
            compress(struct.pack(">4B3i", 0, 0, 8, 3, 1, -28, -28) + bytes(784)),
            "a.gz holds images of 4294967268 x 4294967268 pixels, expected 28 x 28",
        ),
        (
            "train_images",
            "a.gz",
            compress(IMAGES[:9]),
            "a.gz is truncated: it holds 9 bytes, expected at least the 16 of its",
        ),
        (
            "train_images",
            "a.gz",
            compress(IMAGES[:-1]),
            "a.gz is truncated: it holds 1583 bytes, expected 1584 for the 2 that",
        ),
        (
            "train_images",
            "a.gz",
            compress(IMAGES) + compress(IMAGES),
            "a.gz has trailing bytes: it holds 1585 bytes or more, expected 1584 for",
        ),
    ],
)
def test_names_what_is_wrong_with_a_file(stream, name, data, message):
    with pytest.raises(idx.DataError) as error:
        idx.parse(stream, name, data=data)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", ["/etc/out", "../../out"])
def test_the_name_inside_gzip_does_not_matter(folder, name):
    """The name of the gzip member may be anything, as no file gets this name."""
    expected = idx.read_folder(folder)
    plain = folder / "train-labels-idx1-ubyte"
    plain.unlink()
    header = b"\x1f\x8b\x08\x08" + bytes(6) + name.encode() + b"\0"  # RFC 1952: FNAME
    (folder / f"{plain.name}.gz").write_bytes(header + gzip.compress(LABELS)[10:])
    found = idx.read_folder(folder)
    assert all((found[key] == expected[key]).all() for key in expected)
    assert {path.name for path in folder.iterdir()} == {
        *(set(FILES) - {plain.name}),
        f"{plain.name}.gz",
    }


def test_a_bomb_is_decompressed_only_to_what_its_header_states():
    """Its 97 KB become 100 MB, but the header states 2 images."""
    bomb = gzip.compress(IMAGES + bytes(100_000_000), 9)
    tracemalloc.start()
    try:
        with pytest.raises(idx.DataError) as error:
            idx.parse("train_images", "a.gz", data=bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(error.value) == (
        "a.gz has trailing bytes: it holds 1585 bytes or more, expected 1584 for the 2 "
        "that its header states; get the file again"
    )
    assert peak < 1_000_000


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_file_that_is_too_large_is_not_read(folder, ending):
    """The file has a hole, so that it needs no space."""
    (folder / "t10k-images-idx3-ubyte").unlink()
    path = folder / f"t10k-images-idx3-ubyte{ending}"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(idx.DataError) as error:
        idx.read_folder(folder)
    assert str(error.value) == (
        f"{path} has 1,000,000,000,000 bytes, expected at most 784,785,024 for "
        "1,000,000 images or labels; give fewer"
    )


def test_gzip_of_several_members_is_read():
    """RFC 1952, 2.2: their contents are one file."""
    data = gzip.compress(IMAGES[:500]) + gzip.compress(IMAGES[500:])
    found = idx.parse("train_images", "a.gz", data=data)
    assert idx.to_bytes(found) == IMAGES
