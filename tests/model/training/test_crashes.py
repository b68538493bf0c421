"""Trainings that are interrupted, with real processes and real signals."""

import json
import shutil
import signal
import socket

import numpy as np
import pytest

from tests.support import forks, training
from tests.support.training import MODEL  # noqa: F401, chooses Keras 2 first

EPOCHS = 6  # each of 10 steps


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    training.write_digits(folder)
    return folder


def started(digits, name, checkpoints, epochs=EPOCHS, network="dense", **environment):
    arguments = (digits, name, network, epochs, str(checkpoints))
    return forks.Fork(training.fit, *arguments, environment=environment)


def wait_for(process, what):
    """Returns the lines up to the first line that contains the words."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if what in line:
            return "".join(lines)
    raise AssertionError(f"no line with {what!r} in:\n" + "".join(lines))


def weights(digits, name):
    with np.load(digits / f"weights-{name}.npz") as arrays:
        return [arrays[key] for key in arrays]


@pytest.fixture(scope="module")
def uninterrupted(digits, tmp_path_factory):
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    wait_for(started(digits, "whole", checkpoints), "trained")
    return weights(digits, "whole")


@pytest.mark.parametrize(
    ("how", "code"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, -signal.SIGTERM)],
)
def test_a_stopped_training_ends_with_the_same_weights(
    digits, tmp_path, uninterrupted, how, code
):
    """This covers averages, best weights, schedules and the position in the data."""
    name = how.name
    process = started(digits, name, tmp_path)
    wait_for(process, "epoch 3/6")
    process.send_signal(how)
    process.stdout.read()
    assert process.wait() == code
    assert not (digits / f"weights-{name}.npz").exists()

    said = wait_for(started(digits, name, tmp_path), "trained")

    assert "going on from step " in said
    assert "epoch 1/6" not in said
    assert "epoch 6/6" in said
    for ours, theirs in zip(weights(digits, name), uninterrupted):
        np.testing.assert_array_equal(ours, theirs)


def test_convolutions_in_half_precision_end_with_the_same_weights(digits, tmp_path):
    """The model has a flow too. All kernels used repeat the order of their sums."""

    def fit(name, folder):
        return started(digits, name, tmp_path / folder, 2, "conv_residual")

    wait_for(fit("conv", "whole"), "trained")
    process = fit("conv-killed", "killed")
    wait_for(process, "epoch 1/2")
    process.kill()
    process.stdout.read()
    process.wait()

    said = wait_for(fit("conv-killed", "killed"), "trained")

    assert "going on from step " in said
    for ours, theirs in zip(weights(digits, "conv-killed"), weights(digits, "conv")):
        np.testing.assert_array_equal(ours, theirs)


def test_with_a_uri_training_goes_on_where_there_is_no_disk(digits, s3, uninterrupted):
    """The process models a pod that is evicted and restarted on another machine."""
    uri = f"s3://{s3.name}/checkpoints"
    process = started(digits, "pod", uri)
    wait_for(process, "epoch 3/6")
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    assert process.wait() == -signal.SIGTERM
    shutil.rmtree(digits / "scratch-pod")

    said = wait_for(started(digits, "pod", uri), "trained")

    assert "going on from step " in said
    assert "epoch 1/6" not in said
    for ours, theirs in zip(weights(digits, "pod"), uninterrupted):
        np.testing.assert_array_equal(ours, theirs)


def test_a_damaged_checkpoint_is_passed_over(digits, tmp_path, uninterrupted):
    process = started(digits, "damaged", tmp_path)
    wait_for(process, "epoch 3/6")
    process.kill()
    process.stdout.read()
    process.wait()
    (folder,) = tmp_path.iterdir()
    last = max(folder.glob("*.data-*"), key=lambda path: int(path.name[5:7].strip(".")))
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 255
    last.write_bytes(content)

    said = wait_for(started(digits, "damaged", tmp_path), "trained")

    assert f"checkpoint {folder / last.stem} is damaged (" in said
    assert "going on from step " in said
    for ours, theirs in zip(weights(digits, "damaged"), uninterrupted):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def cluster():
    """Returns the TF_CONFIG of each of two workers on the loopback."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    workers = {"worker": [f"localhost:{port}" for port in ports]}
    return [
        json.dumps({"cluster": workers, "task": {"type": "worker", "index": index}})
        for index in range(2)
    ]


def test_two_workers_train_and_go_on_when_one_was_lost(
    digits, tmp_path, cluster, uninterrupted
):
    def start():
        return [
            started(digits, f"workers-{i}", tmp_path, TF_CONFIG=config)
            for i, config in enumerate(cluster)
        ]

    chief, other = start()
    wait_for(chief, "epoch 2/6")
    other.kill()
    assert (
        "DeviceError: another worker of TF_CONFIG's cluster is gone, or can't be "
        "reached: start all of them again, and they go on from the last checkpoint"
    ) in chief.stdout.read()
    assert chief.wait(timeout=60) == 1
    other.wait()

    chief, other = start()
    said = wait_for(chief, "trained")
    wait_for(other, "trained")

    assert "going on from step " in said
    assert not (digits / "weights-workers-1.npz").exists()  # only the chief writes
    for ours, theirs in zip(weights(digits, "workers-0"), uninterrupted):
        np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=2e-3)


def test_workers_that_see_different_checkpoints_say_so(digits, tmp_path, cluster):
    folders = [tmp_path / "one", tmp_path / "two"]
    alone = started(digits, "ahead", folders[0])
    wait_for(alone, "epoch 2/6")
    alone.kill()
    alone.wait()
    both = [
        started(digits, "apart", folder, TF_CONFIG=config)
        for folder, config in zip(folders, cluster)
    ]
    said = [process.stdout.read() for process in both]
    assert [process.wait(timeout=60) for process in both] == [1, 1]
    assert (
        "DeviceError: this worker begins with the step 0, but the mean over all is "
    ) in said[1]
    for each in said:
        assert (
            "workers must see the same checkpoints and the same served model, in a "
            "shared folder or at a URI"
        ) in each
