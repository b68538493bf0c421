"""A served version: its signatures, its warm-up and its description."""

import concurrent.futures
import logging

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from components.registry import listing
from pipeline.serving.batching import Limits
from pipeline.serving.json_tensor import Spec
from pipeline.serving.model import BadInputError, Model
from tests.support.serving_http import place


class Counting(tf.Module):
    """A module with signatures of each kind; `draw` and `read` count their calls."""

    def __init__(self):
        super().__init__()
        self.drawn = tf.Variable(0)
        self.read = tf.Variable(0)

    def export(self, folder):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 2], tf.float32, name="x"),
                tf.TensorSpec([None], tf.int64, name="a"),
            ]
        )
        def rows(x, a):
            tf.debugging.Assert(tf.reduce_all(x >= 0), ["x must not be negative"])
            return {"sum": tf.reduce_sum(x, axis=1), "double": 2 * a}

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="n")])
        def draw(n):
            tf.debugging.Assert(n >= 1, ["n must be at least 1"])
            return {"calls": self.drawn.assign_add(1) + 0 * n}

        @tf.function(input_signature=[tf.TensorSpec(None, tf.string, name="text")])
        def read(text):
            with tf.control_dependencies([text]):
                return {"calls": self.read.assign_add(1)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def positive(x):
            tf.debugging.Assert(tf.reduce_all(x > 0), ["x must be above 0"])
            return {"y": tf.reduce_sum(x)}

        signatures = {"rows": rows, "draw": draw, "read": read, "positive": positive}
        tf.saved_model.save(self, str(folder), signatures)
        return str(folder)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("versions")
    return place(Counting().export(path / "model"), path / "vae", 7)


@pytest.fixture(scope="module")
def version(path):
    return listing.find_version(str(path.parent), 7)


@pytest.fixture
def model(version):
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        yield Model(version, executor, limits=Limits())


def test_a_model_has_the_number_and_the_digest_of_its_version(model, version):
    assert (model.number, model.digest, model.users) == (7, version.digest, 0)
    assert version.digest


def test_a_signatures_inputs_are_named_with_type_and_shape(model):
    assert model.inputs == {
        "rows": {
            "a": Spec(np.dtype(np.int64), (None,)),
            "x": Spec(np.dtype(np.float32), (None, 2)),
        },
        "draw": {"n": Spec(np.dtype(np.int32), ())},
        "read": {"text": Spec(np.dtype(object), None)},
        "positive": {"x": Spec(np.dtype(np.float32), (None,))},
    }
    assert list(model.inputs["rows"]) == ["a", "x"]


def test_a_signature_gives_numpy_arrays_in_the_order_of_their_names(model):
    x = np.array([[1, 2], [3, 4]], np.float32)
    outputs = model.signatures["rows"]({"x": x, "a": np.array([5, 6])})
    assert list(outputs) == ["double", "sum"]
    np.testing.assert_array_equal(outputs["sum"], [3, 7])
    np.testing.assert_array_equal(outputs["double"], [10, 12])


def test_values_that_a_signature_does_not_take_are_refused(model):
    with pytest.raises(BadInputError, match="x must not be negative"):
        model.signatures["rows"](
            {"x": np.full([1, 2], -1, np.float32), "a": np.array([5])}
        )


def test_each_signature_is_called_once_before_the_first_request(model):
    for name, value in (("draw", np.int32(1)), ("read", np.array(b"", object))):
        (key,) = model.inputs[name]
        assert model.signatures[name]({key: value})["calls"] == 2


def test_a_signature_that_refuses_zeros_is_loaded_too(version, caplog):
    caplog.set_level(logging.DEBUG, "pipeline.serving.model")
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        model = Model(version, executor, limits=Limits())
    (record,) = caplog.records
    assert record.getMessage().startswith("warming up positive: ")
    assert "x must be above 0" in record.getMessage()
    assert model.signatures["positive"]({"x": np.float32([2, 3])})["y"] == 5


def test_only_a_signature_of_rows_has_a_batcher_and_keeps_it(model):
    batcher = model.find_batcher("rows")
    assert batcher is not None
    assert model.find_batcher("rows") is batcher
    assert model.find_batcher("draw") is None
    assert model.find_batcher("read") is None
    assert model.find_batcher("positive") is None  # its output is of the whole batch


def test_the_description_is_protobufs_own_json(model, path):
    message = saved_model_pb2.SavedModel()
    message.ParseFromString((path / "saved_model.pb").read_bytes())
    expected = message.meta_graphs[0].signature_def
    assert list(model.signature_def) == sorted(expected)
    for name, content in model.signature_def.items():
        assert json_format.ParseDict(content, type(expected[name])()) == expected[name]
    assert model.signature_def["rows"]["inputs"]["x"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
        "unknown_rank": False,
    }
    assert list(model.signature_def["rows"]["inputs"]) == ["a", "x"]
    assert list(model.signature_def["rows"]["outputs"]) == ["double", "sum"]


def test_a_version_whose_files_are_not_those_that_were_pushed_is_not_loaded(
    path, tmp_path
):
    damaged = place(str(path), tmp_path / "vae", 8)
    version = listing.find_version(str(tmp_path / "vae"), 8)
    (damaged / "fingerprint.pb").write_bytes(b"another")
    with (
        concurrent.futures.ThreadPoolExecutor(1) as executor,
        pytest.raises(listing.VersionError, match=r"fingerprint.pb has SHA-256 "),
    ):
        Model(version, executor, limits=Limits())
