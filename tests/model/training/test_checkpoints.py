"""The folders of checkpoints; test_crashes.py tests the rest with real processes."""

import logging

import numpy as np
import pytest

from model.files.filesystems import StorageError, open_filesystem
from model.training import loop
from model.training.checkpoints import Checkpoints
from model.training.state import State
from model.vae import VAE
from tests.support.configs import demo_train
from tests.support.training import MODEL


@pytest.fixture
def state():
    config = demo_train()
    return State(VAE(MODEL), loop.create_optimizer(config, 100), config=config)


@pytest.fixture(params=["folder", "store"])
def place(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "checkpoints")
    return f"s3://{request.getfixturevalue('s3').name}/checkpoints"


def names(place):
    with open_filesystem(place) as (files, folder):
        return sorted(path.rsplit("/", 1)[1] for path in files.ls(folder, detail=False))


def test_only_what_is_done_makes_room_for_the_next_training(state, place, tmp_path):
    def checkpoints(identity):
        return Checkpoints(
            state, place, identity=identity, scratch=str(tmp_path / "scratch")
        )

    for identity in ("ended", "given-up"):
        checkpoints(identity).save()
    checkpoints("ended").mark_done()
    checkpoints("ended").restore()  # keeps its own: the model may not be saved yet
    assert names(place) == ["ended", "given-up"]
    checkpoints("next").restore()
    assert "ended" not in names(place)
    assert "given-up" in names(place)


def test_no_value_of_a_damaged_checkpoint_is_used(state, tmp_path, caplog):
    place = tmp_path / "checkpoints"
    checkpoints = Checkpoints(state, str(place), identity="one", scratch=str(tmp_path))
    fresh = [weight.numpy() for weight in state.weights]
    for weight in state.weights:
        weight.assign(weight + 1)
    state.step.assign(3)
    checkpoints.save()
    (file,) = place.glob("one/*.data-*")
    content = bytearray(file.read_bytes())
    content[-len(content) // 3] ^= 255
    file.write_bytes(content)
    for weight, value in zip(state.weights, fresh):
        weight.assign(value)
    state.step.assign(0)

    Checkpoints(state, str(place), identity="one", scratch=str(tmp_path)).restore()

    assert "is damaged (" in caplog.text
    assert state.steps_done == 0
    for weight, value in zip(state.weights, fresh):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_a_store_that_is_down_ends_no_training(state, tmp_path, s3, caplog):
    place = f"s3://{s3.name}/checkpoints"
    checkpoints = Checkpoints(state, place, identity="one", scratch=str(tmp_path))
    s3.server.refused += [(method, "") for method in ("PUT", "POST")]
    with caplog.at_level(logging.WARNING):
        checkpoints.save()
    assert "is on this machine only: " in caplog.text
    with pytest.raises(StorageError):
        checkpoints.mark_done()
