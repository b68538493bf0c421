"""Devices and workers: which one writes, how they agree, and how they split a batch."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf

from model.training import devices

LOGICAL = 4  # logical CPUs, which tests/conftest.py configures


@pytest.fixture
def two_workers(monkeypatch):
    cluster = {"cluster": {"worker": ["host1:1", "host2:1"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))


def test_more_logical_devices_than_tensorflow_started_with_are_refused():
    assert len(tf.config.list_logical_devices("CPU")) == LOGICAL
    devices.configure_logical_cpus(LOGICAL)
    with pytest.raises(devices.DeviceError) as error:
        devices.configure_logical_cpus(LOGICAL + 1)
    assert str(error.value) == (
        "expected 5 logical CPU devices, but TensorFlow has started with 4: set them "
        "before anything else uses TensorFlow"
    )


@pytest.mark.parametrize(("replicas", "count"), [(0, 1), (1, 1), (3, 3)])
def test_there_are_as_many_replicas_as_are_wanted(replicas, count):
    strategy = devices.create_strategy(replicas)
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert strategy.num_replicas_in_sync == count


def test_every_gpu_is_trained_on(monkeypatch):
    find = tf.config.list_logical_devices
    # Two of the CPUs, on a machine without GPUs.
    monkeypatch.setattr(
        tf.config,
        "list_logical_devices",
        lambda kind: find("CPU")[1:3] if kind == "GPU" else find(kind),
    )
    used = devices.create_strategy(0).extended.worker_devices
    assert [device[-5:] for device in used] == ["CPU:1", "CPU:2"]


@pytest.mark.parametrize(
    ("kinds", "task", "expected"),
    [
        (["worker"], ("worker", 0), True),
        (["worker"], ("worker", 1), False),
        (["chief", "worker"], ("chief", 0), True),
        (["chief", "worker"], ("worker", 0), False),
        (["worker", "evaluator"], ("evaluator", 0), False),
        (["worker"], ("", 0), True),
    ],
)
def test_the_chief_or_else_the_first_worker_writes(kinds, task, expected):
    cluster = tf.train.ClusterSpec({kind: ["host1:1", "host2:1"] for kind in kinds})
    task_type, task_id = task
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type=task_type, task_id=task_id
    )
    strategy = types.SimpleNamespace(cluster_resolver=resolver)
    assert devices.is_chief(strategy) is expected


def test_a_process_alone_writes():
    assert devices.is_chief(devices.create_strategy(2))


def strategy_of(*values):
    """Returns a strategy whose replicas have the given values."""
    return types.SimpleNamespace(
        num_replicas_in_sync=len(values),
        run=lambda function: function(),
        reduce=lambda op, value, axis: tf.constant(sum(values), tf.float64),
    )


@pytest.mark.usefixtures("two_workers")
def test_workers_that_differ_are_an_error():
    devices.check_agreement(strategy_of(7.0, 7.0), "step", value=7.0)
    with pytest.raises(devices.DeviceError) as error:
        devices.check_agreement(strategy_of(7.0, 8.0), "step", value=7.0)
    assert str(error.value) == (
        "this worker begins with the step 7.0, but the mean over all is 7.5: workers "
        "must see the same checkpoints and the same served model, in a shared folder "
        "or at a URI"
    )


def test_a_process_alone_agrees_with_itself():
    devices.check_agreement(strategy_of(7.0, 8.0), "step", value=7.0)


def test_the_loss_of_a_worker_is_named(two_workers):
    with (
        pytest.raises(devices.DeviceError) as error,
        devices.convert_lost_worker_errors(),
    ):
        raise tf.errors.UnavailableError(None, None, "connection reset")
    assert str(error.value) == (
        "another worker of TF_CONFIG's cluster has ended or can't be reached: start "
        "all workers again, and they resume from the last checkpoint"
    )


def test_an_error_of_a_single_process_is_not_changed():
    with (
        pytest.raises(tf.errors.UnavailableError),
        devices.convert_lost_worker_errors(),
    ):
        raise tf.errors.UnavailableError(None, None, "connection reset")


def test_replicas_get_the_parts_of_a_batch_in_order():
    batches = tf.data.Dataset.from_tensors(
        (np.arange(12.0).reshape(6, 2), np.arange(6))
    ).repeat(2)
    strategy = devices.create_strategy(3)
    parts = [
        [strategy.experimental_local_results(value) for value in batch]
        for batch in devices.distribute_batches(strategy, batches)
    ]
    assert len(parts) == 2
    for rows, numbers in parts:
        assert [x.numpy().tolist() for x in numbers] == [[0, 1], [2, 3], [4, 5]]
        np.testing.assert_array_equal(
            np.concatenate(rows), np.arange(12.0).reshape(6, 2)
        )


def test_a_worker_takes_its_own_part_of_each_batch():
    """Of two workers with two replicas each, the second gets the second half."""
    captured = []
    strategy = types.SimpleNamespace(
        num_replicas_in_sync=4,
        distribute_datasets_from_function=captured.append,
    )
    batches = tf.data.Dataset.from_tensors((np.arange(8),))
    devices.distribute_batches(strategy, batches)
    context = tf.distribute.InputContext(2, 1, 4)
    parts = [part.tolist() for (part,) in captured[0](context).as_numpy_iterator()]
    assert parts == [[4, 5], [6, 7]]
