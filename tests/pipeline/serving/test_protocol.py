"""The REST protocol, by TensorFlow Serving's documentation and its own tests.

Source: https://www.tensorflow.org/tfx/serving/api_rest, and json_tensor_test.cc and
http_rest_api_handler_test.cc of github.com/tensorflow/serving.
"""

import json

import numpy as np
import pytest

from pipeline.serving import protocol
from pipeline.serving.json_tensor import Spec
from pipeline.serving.protocol import (
    RequestError,
    Target,
    format_answer,
    parse_request,
    parse_target,
)

FLOAT, INT = np.dtype(np.float32), np.dtype(np.int32)
STRING, LONG = np.dtype(object), np.dtype(np.int64)
SIGNATURES = {
    "serving_default": {"x": Spec(FLOAT, None)},
    "three": {
        "sensor": Spec(INT, (None, 2, 2)),
        "signal": Spec(INT, (None, 5)),
        "tag": Spec(STRING, (None,)),
    },
    "text": {"examples": Spec(STRING, (None,))},
    "generate": {"n": Spec(INT, ()), "seed": Spec(LONG, ())},
    "images": {"images": Spec(FLOAT, (None, 28, 28, 1))},
    "bool": {"on": Spec(np.dtype(bool), (None,))},
    "double": {"x": Spec(np.dtype(np.float64), (None,))},
}


def parsed(content):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return parse_request(body, SIGNATURES)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/models/vae:predict", ("predict", "vae", None, None)),
        ("POST", "/v1/models/vae/versions/7:predict", ("predict", "vae", 7, None)),
        ("POST", "/V1/Models/vae/labels/a:PREDICT", ("predict", "vae", None, "a")),
        ("POST", "/v1/models/vae:classify", ("classify", "vae", None, None)),
        ("POST", "/v1/models/a%2Fb:regress", ("regress", "a/b", None, None)),
        ("GET", "/v1/models/vae", ("status", "vae", None, None)),
        ("GET", "/v1/models/vae/versions/7", ("status", "vae", 7, None)),
        ("GET", "/v1/models/vae/metadata", ("metadata", "vae", None, None)),
        ("GET", "/v1/models/vae/versions/7/metadata", ("metadata", "vae", 7, None)),
        ("GET", "/v1/models/vae/labels/x", ("status", "vae", None, "x")),
    ],
)
def test_paths(method, path, expected):
    assert parse_target(method, path) == Target(*expected)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/foo"),
        ("POST", "/v1/foo"),
        ("GET", "/v1/models/debug/model_name"),
        ("POST", "/v1/models"),
        ("GET", "/v1/models/foo:predict"),
        ("GET", "/v1/models/foo/version/50:predict"),
        ("POST", "/v1/models/foo/versions/HELLO:regress"),
        ("POST", "/v1/models/foo/metadata"),
        ("POST", "/v1/models/foo/label/some_label:regress"),
        ("POST", "/v1/models/foo/versions/50/labels/some_label:regress"),
        ("DELETE", "/v1/models/foo"),
    ],
)
def test_invalid_paths_are_refused(method, path):
    with pytest.raises(RequestError) as error:
        parse_target(method, path)
    assert error.value.status == 400
    assert str(error.value) == f"Malformed request: {method} {path}"


def test_paths_with_too_little_or_too_much():
    with pytest.raises(RequestError, match=r"^Missing model name in request\.$"):
        parse_target("GET", "/v1/models")
    number = 2**64 - 1
    with pytest.raises(
        RequestError, match=f"^Failed to convert version: {number} to numeric"
    ):
        parse_target("POST", f"/v1/models/foo/versions/{number}:regress")


def test_rows_and_columns_give_the_same_inputs():
    """The two examples are the documentation's own."""
    rows = parsed(
        {
            "signature_name": "three",
            "instances": [
                {
                    "tag": "foo",
                    "signal": [1, 2, 3, 4, 5],
                    "sensor": [[1, 2], [3, 4]],
                },
                {
                    "tag": "bar",
                    "signal": [3, 4, 1, 2, 5],
                    "sensor": [[4, 5], [6, 8]],
                },
            ],
        }
    )
    columns = parsed(
        {
            "signature_name": "three",
            "inputs": {
                "tag": ["foo", "bar"],
                "signal": [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]],
                "sensor": [[[1, 2], [3, 4]], [[4, 5], [6, 8]]],
            },
        }
    )
    assert rows.is_row_format
    assert not columns.is_row_format
    for request in (rows, columns):
        assert request.inputs["tag"].tolist() == [b"foo", b"bar"]
        assert request.inputs["signal"].tolist() == [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]]
        sensor = request.inputs["sensor"]
        assert sensor.tolist() == [[[1, 2], [3, 4]], [[4, 5], [6, 8]]]
        assert sensor.dtype == np.int32


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"instances": [1.0, 2, 5e0]}, [1, 2, 5]),
        ({"instances": [[[1, 2]], [[3, 4]]]}, [[[1, 2]], [[3, 4]]]),
        ({"inputs": [3.0, 4.0]}, [3, 4]),
        ({"inputs": 3}, 3),
        ({"inputs": {"x": [[3]], "more": "is ignored"}}, [[3]]),
        ({"signature_name": "", "instances": [{"x": 1}]}, [1]),
        (b'{"instances": [NaN, Infinity, -Infinity]}', [np.nan, np.inf, -np.inf]),
        (b'\xef\xbb\xbf{"inputs": [1]}', [1]),
    ],
)
def test_floats(content, expected):
    got = parsed(content).inputs["x"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)


def test_scalars_of_another_type():
    content = {"signature_name": "generate", "inputs": {"n": 3, "seed": -(2**63)}}
    inputs = parsed(content).inputs
    assert (inputs["n"].dtype, inputs["seed"].dtype) == (np.int32, np.int64)
    assert (inputs["n"].shape, inputs["n"], inputs["seed"]) == ((), 3, -(2**63))


def test_bytes():
    aw = {"b64": "aW1hZ2UgYnl0ZXM="}  # the documentation's example
    for key in ("instances", "inputs"):
        content = {"signature_name": "text", key: [aw, "sea\u00e4", {"b64": "AAE"}]}
        got = parsed(content).inputs["examples"].tolist()
        assert got == [b"image bytes", "sea\u00e4".encode(), b"\x00\x01"]


LARGE = "1" + "0" * 40


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"instances": [1,', "JSON Parse error: Invalid value. at offset: 17"),
        (b"[" * 100_000, "JSON Parse error: nested too deeply"),
        (b'{"inputs": "\xff"}', "JSON Parse error: 'utf-8' codec can't decode"),
        (b"[1, 2]", "JSON Value: [1, 2] Is not object"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (
            {"signature_name": 100},
            'JSON Value: {"signature_name": 100} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        (
            {"signature_name": "no", "inputs": 1},
            'Serving signature name: "no" not found in signature def',
        ),
        (
            {"inputs": 1, "instances": [1]},
            'JSON Value: {"inputs": 1, "instances": [1]} Not formatted correctly '
            "expecting only one of 'inputs' or 'instances' keys to exist",
        ),
        (
            {"instances": 1},
            "JSON Value: {\"instances\": 1} Excepting 'instances' to be an list/array",
        ),
        (
            {"instances": []},
            "JSON Value: {\"instances\": []} No values in 'instances' array",
        ),
        (
            {"instances": ["x"]},
            "Failed to process element: 0 of 'instances' list. Error: "
            'INVALID_ARGUMENT: JSON Value: "x" Type: String is not of expected type: '
            "float",
        ),
        ({"inputs": [True]}, "JSON Value: true Type: True is not of expected type"),
        ({"inputs": [None]}, "JSON Value: null Type: Null is not of expected type"),
        ({"inputs": [{}]}, "JSON Value: {} Type: Object is not of expected type"),
        (
            {"inputs": [[1, 2], [3]]},
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            {"inputs": [[1], 2]},
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at "
            "level: 2",
        ),
        (
            {"inputs": [1, [2]]},
            "Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            {"instances": [[1, 2], [3]]},
            "Failed to process element: 1 of 'instances' list. Error: "
            "INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1",
        ),
        (
            {"instances": [[1, 2], [[3, 4]]]},
            "Failed to process element: 1 of 'instances' list. Error: "
            "INVALID_ARGUMENT: Expecting shape [2] but got: [1,2]",
        ),
        (
            {"instances": [1, {"x": 1}]},
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            {"instances": [{"x": 1}, 1]},
            "Expecting object but got list at item 1 of input list",
        ),
        (
            {"instances": [{"y": 1}]},
            "Failed to process element: 0 key: y of 'instances' list. Error: "
            "INVALID_ARGUMENT: JSON object: does not have named input: y",
        ),
        (
            {"signature_name": "three", "instances": [{"tag": "a"}]},
            "Failed to process element: 0 of 'instances' list. JSON object: "
            '{"tag": "a"} keys must be equal to: sensor,signal,tag',
        ),
        (
            {"signature_name": "three", "instances": [1]},
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map",
        ),
        (
            {"signature_name": "three", "inputs": [1]},
            "inputs is a plain value/list, but expecting an object as multiple input "
            "tensors required as per tensorinfo_map",
        ),
        (
            {"signature_name": "generate", "inputs": {"n": 1}},
            "Missing named input: seed in 'inputs' object.",
        ),
        (
            {"signature_name": "generate", "inputs": {"n": 1.0, "seed": 1}},
            "JSON Value: 1.0 Type: Number is not of expected type: int32",
        ),
        (
            {"signature_name": "generate", "inputs": {"n": 2**31, "seed": 1}},
            "JSON Value: 2147483648 Type: Number is not of expected type: int32",
        ),
        (
            {"signature_name": "generate", "instances": [{"n": 1, "seed": 1}]},
            "Input n of signature generate must have shape [], got [1]",
        ),
        (
            {"signature_name": "images", "instances": [[[0] * 28] * 28]},
            "Input images of signature images must have shape [?,28,28,1], got "
            "[1,28,28]",
        ),
        (
            {"signature_name": "images", "inputs": []},
            "Input images of signature images must have shape [?,28,28,1], got [0]",
        ),
        (
            {"signature_name": "text", "inputs": [{"b64": "?"}]},
            "Unable to base64 decode",
        ),
        (
            {"signature_name": "text", "inputs": [{"b64": 1}]},
            'JSON Value: {"b64": 1} not formatted correctly for base64 data',
        ),
        (
            {"signature_name": "text", "inputs": [1]},
            "JSON Value: 1 Type: Number is not of expected type: string",
        ),
        (
            {"signature_name": "bool", "inputs": [1]},
            "JSON Value: 1 Type: Number is not of expected type: bool",
        ),
        (
            {"inputs": [0, 1e39]},
            "Cannot convert JSON value: 1e+39 to float without loss of precision.",
        ),
        (
            {"inputs": 2**24},
            "Cannot convert JSON value: 16777216 to float without loss of precision.",
        ),
        (
            f'{{"signature_name": "double", "inputs": [{LARGE}]}}'.encode(),
            f"Cannot convert JSON value: {LARGE} to double without loss of precision.",
        ),
    ],
)
def test_bodies_that_are_refused(content, message):
    with pytest.raises(RequestError) as error:
        parsed(content)
    assert error.value.status == 400
    assert str(error.value).strip().startswith(message)


def test_a_long_value_is_cut_in_the_error():
    with pytest.raises(RequestError) as error:
        parsed({"instances": {"x": [0] * 10_000}})
    assert len(str(error.value)) < 300


X, Y = np.array([1, 0.5], np.float32), np.array([[1, 2], [3, 4]], np.int32)


@pytest.mark.parametrize(
    ("outputs", "is_row_format", "expected"),
    [
        ({"x": X}, True, {"predictions": [1.0, 0.5]}),
        ({"x": X}, False, {"outputs": [1.0, 0.5]}),
        ({"y": Y}, True, {"predictions": [[1, 2], [3, 4]]}),
        (
            {"x": X, "y": Y},
            True,
            {"predictions": [{"x": 1.0, "y": [1, 2]}, {"x": 0.5, "y": [3, 4]}]},
        ),
        (
            {"x": X, "y": Y},
            False,
            {"outputs": {"x": [1.0, 0.5], "y": [[1, 2], [3, 4]]}},
        ),
        ({"x": np.float32(2)}, False, {"outputs": 2.0}),
        ({"s": np.array([b"a"], object)}, True, {"predictions": ["a"]}),
        (
            {"s_bytes": np.array([b"\xff"], object)},
            True,
            {"predictions": [{"b64": "/w=="}]},
        ),
        ({"b": np.array([True])}, True, {"predictions": [True]}),
        ({"e": np.zeros([2, 0])}, True, {"predictions": [[], []]}),
    ],
)
def test_answers(outputs, is_row_format, expected):
    assert json.loads(
        format_answer({k: np.asarray(v) for k, v in outputs.items()}, is_row_format)
    ) == (expected)


def test_floats_are_exact_and_look_like_floats():
    values = np.array([0.1, 1 / 3, 3e38, 1e-45, 7, -0.0, 9e6], np.float32)
    text = format_answer({"x": values}, True)
    assert "7.0" in text
    assert "9000000.0" in text
    got = np.array(json.loads(text)["predictions"], np.float32)
    np.testing.assert_array_equal(got, values)


def test_values_that_json_cannot_contain():
    special = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert (
        format_answer({"x": special}, True)
        == '{"predictions": [NaN, Infinity, -Infinity]}'
    )


def test_outputs_that_have_no_rows():
    message = "^Tensor name: x has no shape information $"
    with pytest.raises(RequestError, match=message):
        format_answer({"x": np.float32(1)}, True)
    message = "^Tensor name: y has inconsistent batch size: 2 expecting: 1$"
    with pytest.raises(RequestError, match=message):
        format_answer({"x": X[:1], "y": Y}, True)


def test_the_message_for_a_model_that_is_not_served():
    """The first message is the documentation's own."""
    latest = protocol.create_not_found_error(Target("predict", "half", None, None))
    assert str(latest) == "Servable not found for request: Latest(half)"
    one = protocol.create_not_found_error(Target("predict", "half", 7, None))
    assert str(one) == "Servable not found for request: Specific(half, 7)"
    assert (latest.status, one.status) == (404, 404)
