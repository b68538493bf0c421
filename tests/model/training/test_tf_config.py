"""TF_CONFIG in the forms of TensorFlow's documentation, and in invalid forms."""

import json

import pytest

from model.training.tf_config import TFConfigError, count_workers

CLUSTER = {
    "chief": ["host1:1"],
    "worker": ["host2:1", "host3:1"],
    "ps": ["host4:1"],
}


@pytest.mark.parametrize("text", [None, ""])
def test_without_tf_config_there_are_no_workers(monkeypatch, text):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    assert count_workers() == 0


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ({}, 0),
        ({"cluster": CLUSTER}, 3),  # the parameter server does not train
        ({"cluster": CLUSTER, "task": {"type": "worker", "index": 1}}, 3),
        ({"cluster": CLUSTER, "task": {"type": "chief", "index": "0"}}, 3),
        ({"cluster": CLUSTER, "task": {"type": "evaluator", "index": 7}}, 3),
        ({"cluster": {"worker": {"1": "host:1"}}}, 1),
        ({"task": {"type": "worker", "index": 0}}, 0),
    ],
)
def test_workers_and_the_chief_are_counted(monkeypatch, value, count):
    monkeypatch.setenv("TF_CONFIG", json.dumps(value))
    assert count_workers() == count


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"cluster": {"worker": "host:1"}}',
        json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": 2}}),
        json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": -1}}),
        json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": "two"}}),
        json.dumps({"cluster": CLUSTER, "task": {"type": "worker"}}),
        json.dumps({"cluster": CLUSTER, "task": {"index": 0}}),
    ],
)
def test_another_form_is_refused_with_its_text(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(TFConfigError) as error:
        count_workers()
    assert str(error.value) == (
        'TF_CONFIG must be JSON such as {"cluster": {"worker": ["host:port"]}, "task": '
        f'{{"type": "worker", "index": 0}}}}, got {text!r}: unset it, unless this '
        "process is one of a cluster"
    )
