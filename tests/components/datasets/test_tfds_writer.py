"""TFDS data sets that are written from arrays and read by TFDS."""

import shutil
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from components.datasets import tfds_writer
from components.datasets.idx import DataAccessError, DataError
from components.datasets.tfds_writer import IdxDataset, check_features, write_arrays
from tests.support.span_folders import bars


@pytest.fixture
def arrays():
    return bars(0, 7, 3)


def read_back(path, split):
    builder = tfds.builder_from_directory(path)
    return [
        (image.tobytes(), int(label))
        for image, label in builder.as_dataset(
            split=split, as_supervised=True
        ).as_numpy_iterator()
    ]


def test_what_was_written_is_read_back_in_order(tmp_path, arrays):
    path = write_arrays(IdxDataset, "bars", arrays=arrays, work=tmp_path)
    assert path == tmp_path / "bars" / "1.0.0"
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        expected = [(i.tobytes(), int(n)) for i, n in zip(images, labels)]
        assert sorted(read_back(path, split)) == sorted(expected)


def test_the_labels_must_be_below_the_number_of_classes(tmp_path, arrays):
    arrays["test_labels"][1] = 10
    with pytest.raises(DataError) as error:
        write_arrays(IdxDataset, "bars", arrays=arrays, work=tmp_path)
    assert str(error.value) == (
        "the test labels go up to 10, expected 0 to 9 for bars; check the files"
    )
    arrays["test_labels"][1] = 9
    assert write_arrays(IdxDataset, "bars", arrays=arrays, work=tmp_path).is_dir()


def test_a_disk_without_room_is_named_before_anything_is_written(
    tmp_path, arrays, monkeypatch
):
    # 10 PNGs of about 150 bytes each, with 80 bytes of overhead.
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: types.SimpleNamespace(free=10 * 80)
    )
    with pytest.raises(DataAccessError):
        write_arrays(IdxDataset, "bars", arrays=arrays, work=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_tensorflow_datasets_prints_nothing(tmp_path, arrays, capfd):
    tfds.disable_progress_bar()
    write_arrays(IdxDataset, "bars", arrays=arrays, work=tmp_path)
    assert "Download" not in "".join(capfd.readouterr())


def builder_with(**features):
    info = types.SimpleNamespace(features=features)
    return types.SimpleNamespace(name="things", info=info)


IMAGE = tfds.features.Image(shape=(28, 28, 1))
LABEL = tfds.features.ClassLabel(num_classes=10)


def test_an_image_and_a_label_fit():
    check_features(builder_with(image=IMAGE, label=LABEL))
    check_features(builder_with(image=IMAGE, label=LABEL, more=LABEL))


@pytest.mark.parametrize(
    "features",
    [
        {"label": LABEL},
        {"image": IMAGE},
        {"image": tfds.features.Image(shape=(28, 28, 3)), "label": LABEL},
        {"image": tfds.features.Image(shape=(32, 32, 1)), "label": LABEL},
        {
            "image": tfds.features.Image(shape=(28, 28, 1), dtype=np.uint16),
            "label": LABEL,
        },
        {
            "image": tfds.features.Tensor(shape=(28, 28, 1), dtype=np.uint8),
            "label": LABEL,
        },
        {
            "image": IMAGE,
            "label": tfds.features.Tensor(shape=(2,), dtype=np.int64),
        },
        {
            "image": IMAGE,
            "label": tfds.features.Tensor(shape=(), dtype=np.float32),
        },
    ],
)
def test_other_features_do_not_fit(features):
    with pytest.raises(DataError) as error:
        check_features(builder_with(**features))
    assert str(error.value).startswith("things has the features {")
    assert str(error.value).endswith(
        "expected an image [28, 28, 1] of uint8 and an integer label; choose another "
        "dataset"
    )


class Failing(IdxDataset, skip_registration=True):
    """A TFDS builder whose preparation fails."""

    error: Exception = ValueError("no checksum")

    def _split_generators(self, dl_manager):
        raise self.error

    def _generate_examples(self):
        yield from ()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("no checksum"), DataError),
        (ConnectionError("reset"), DataAccessError),
        (MemoryError("Unable to allocate 5.8 GiB"), DataAccessError),
        (DataError("as it is"), DataError),
    ],
)
def test_a_failure_of_tfds_is_named(tmp_path, monkeypatch, error, kind):
    monkeypatch.setattr(Failing, "error", error)
    with pytest.raises(kind) as caught:
        tfds_writer.write_with_tfds(Failing, "failing", work=tmp_path, seconds=5.0)
    assert type(caught.value) is kind
    expected = f"TFDS cannot prepare failing: {error}"
    assert str(caught.value) == (str(error) if kind is type(error) else expected)
