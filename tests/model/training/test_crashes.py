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


def stopped(digits, name, checkpoints, signum):
    """Starts a training, and stops it by a signal in its third epoch."""
    process = started(digits, name, checkpoints)
    wait_for(process, "epoch 3/6")
    process.send_signal(signum)
    process.stdout.read()
    assert process.wait() == -signum
    assert not (digits / f"weights-{name}.npz").exists()


@pytest.fixture(scope="module")
def of_killed(digits, tmp_path_factory):
    """Returns the checkpoints of a training that SIGKILL stopped, for all tests."""
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    stopped(digits, "killed", checkpoints, signal.SIGKILL)
    return checkpoints


@pytest.fixture
def killed(of_killed, tmp_path):
    """Returns a copy of the checkpoints of the killed training, for one test."""
    return shutil.copytree(of_killed, tmp_path / "killed")


def assert_resumes(digits, name, checkpoints, uninterrupted):
    """Resumes a training; asserts that its weights equal the uninterrupted ones."""
    output = wait_for(started(digits, name, checkpoints), "trained")
    assert "resuming from step " in output
    assert "epoch 6/6" in output
    for ours, theirs in zip(weights(digits, name), uninterrupted):
        np.testing.assert_array_equal(ours, theirs)
    return output


# A resumed training has the same weights, their average, the best weights, schedules
# and position in the data.


def test_a_killed_training_ends_with_the_same_weights(digits, killed, uninterrupted):
    assert "epoch 1/6" not in assert_resumes(digits, "killed", killed, uninterrupted)


def test_a_terminated_training_ends_with_the_same_weights(
    digits, tmp_path, uninterrupted
):
    stopped(digits, "terminated", tmp_path, signal.SIGTERM)
    output = assert_resumes(digits, "terminated", tmp_path, uninterrupted)
    assert "epoch 1/6" not in output


@pytest.mark.nightly
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

    output = wait_for(fit("conv-killed", "killed"), "trained")

    assert "resuming from step " in output
    for ours, theirs in zip(weights(digits, "conv-killed"), weights(digits, "conv")):
        np.testing.assert_array_equal(ours, theirs)


def test_with_a_uri_training_continues_on_another_disk(digits, s3, uninterrupted):
    """The process behaves like a pod that is evicted and restarted elsewhere."""
    uri = f"s3://{s3.name}/checkpoints"
    stopped(digits, "pod", uri, signal.SIGTERM)
    shutil.rmtree(digits / "scratch-pod")
    assert "epoch 1/6" not in assert_resumes(digits, "pod", uri, uninterrupted)


def test_a_damaged_checkpoint_is_passed_over(digits, killed, uninterrupted):
    (folder,) = killed.iterdir()
    last = max(folder.glob("*.data-*"), key=lambda path: int(path.name[5:7].strip(".")))
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 255
    last.write_bytes(content)
    output = assert_resumes(digits, "damaged", killed, uninterrupted)
    assert f"checkpoint {folder / last.stem} is damaged (" in output


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


def test_two_workers_train_and_continue_after_one_was_lost(
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
        "DeviceError: another worker of TF_CONFIG's cluster has ended or can't be "
        "reached: start all workers again, and they resume from the last checkpoint"
    ) in chief.stdout.read()
    assert chief.wait(timeout=60) == 1
    other.wait()

    chief, other = start()
    output = wait_for(chief, "trained")
    wait_for(other, "trained")

    assert "resuming from step " in output
    assert not (digits / "weights-workers-1.npz").exists()  # only the chief writes
    for ours, theirs in zip(weights(digits, "workers-0"), uninterrupted):
        np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=2e-3)


def test_workers_with_different_checkpoints_are_an_error(
    digits, killed, tmp_path, cluster
):
    folders = [killed, tmp_path / "none"]
    both = [
        started(digits, "apart", folder, TF_CONFIG=config)
        for folder, config in zip(folders, cluster)
    ]
    output = [process.stdout.read() for process in both]
    assert [process.wait(timeout=60) for process in both] == [1, 1]
    assert (
        "DeviceError: this worker begins with the step 0, but the mean over all is "
    ) in output[1]
    for each in output:
        assert (
            "workers must see the same checkpoints and the same served model, in a "
            "shared folder or at a URI"
        ) in each
