"""TensorBoard's files, as TensorBoard itself reads them."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.training import loop, tensorboard
from model.training.state import CURVES
from tests.support import training
from tests.support.configs import demo_train
from tests.support.training import MODEL

EPOCHS = 4


class Killed(Exception):
    """The error that `Killer` raises in place of a signal that ends the process."""


class Killer(logging.Handler):
    """Raises Killed at the end of an epoch, before its checkpoint is written."""

    def __init__(self, epoch):
        super().__init__(logging.INFO)
        self.epoch = epoch

    def emit(self, record):
        progress = getattr(record, "progress", None)
        if progress and progress.epoch == self.epoch:
            raise Killed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns the files of a training that was killed at the end of its third epoch."""
    place = tmp_path_factory.mktemp("training")
    training.write_digits(place)
    config = demo_train(
        epochs=EPOCHS, batch_size=20, learning_rate=1e-2, warmup_steps=2, replicas=1
    )
    logs = place / "tensorboard"
    files = training.files(place, place / "scratch", log_dir=str(logs))
    logger = logging.getLogger("model.training.progress")
    killer, level = Killer(epoch=3), logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(killer)
    try:
        with pytest.raises(Killed):
            loop.train(MODEL, config, files=files, evaluation_seed=0)
    finally:
        logger.removeHandler(killer)
        logger.setLevel(level)
    assert len(events(logs, "eval").Scalars("elbo")) == 3
    loop.train(MODEL, config, files=files, evaluation_seed=0)
    return logs


def events(folder, split):
    # 0: all events, not a sample of them.
    sizes = {"tensors": 0, "graph": 1, "images": 0, "scalars": 0}
    accumulator = EventAccumulator(str(folder / split), sizes)
    accumulator.Reload()
    accumulator.Scalars = lambda name: [
        (event.step, float(tf.make_ndarray(event.tensor_proto)))
        for event in accumulator.Tensors(name)
    ]
    return accumulator


@pytest.mark.parametrize(("split", "name"), CURVES)
def test_each_epoch_is_logged_once(folder, split, name):
    curve = events(folder, split).Scalars(name)
    assert [step for step, _ in curve] == [1, 2, 3, 4]
    assert np.isfinite([value for _, value in curve]).all()
    assert tensorboard.read_curves(str(folder))[split, name] == curve


def test_the_curves_are_those_of_the_training(folder):
    curves = {
        key: dict(curve) for key, curve in tensorboard.read_curves(str(folder)).items()
    }
    for split in ("train", "eval"):
        for epoch in range(1, EPOCHS + 1):
            terms = [
                curves[split, name][epoch] for name in ("elbo", "reconstruction", "kl")
            ]
            assert terms[0] == pytest.approx(terms[1] - terms[2], rel=1e-4)
        assert curves[split, "elbo"][4] > curves[split, "elbo"][1] + 100
    assert curves["train", "learning_rate"][1] > curves["train", "learning_rate"][4]
    assert curves["train", "images_per_second"][4] > 0


def test_the_digits_are_there_after_each_epoch_and_the_graph_once(folder):
    read = events(folder, "eval")
    assert len(read.Graph().node) > 20
    images = [t for t in read.Tags()["tensors"] if t.startswith(("images", "the dec"))]
    assert len(images) == 2
    for tag in images:
        # The events before the kill were lost with the process.
        assert [event.step for event in read.Tensors(tag)] == [3, 4]
        width, height, png = read.Tensors(tag)[-1].tensor_proto.string_val
        picture = tf.io.decode_png(png)
        assert (int(width), int(height)) == (10 * (28 * 3 + 2), 3 * (28 * 3 + 2))
        assert picture.shape == (int(height), int(width), 1)


def test_a_grid_has_its_images_where_they_belong():
    images = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1, 1) / 5
    images = np.broadcast_to(images, [2, 3, 28, 28, 1])
    picture = tensorboard.arrange_in_grid(images)
    assert picture.shape == (2 * 86, 3 * 86, 1)
    for row in range(2):
        for column in range(3):
            of_image = picture[row * 86 + 2 : (row + 1) * 86, column * 86 + 2 :][:, :84]
            assert set(of_image.ravel()) == {51 * (3 * row + column)}


def test_no_files_have_no_curves(tmp_path):
    assert tensorboard.read_curves(str(tmp_path / "missing")) == {}
