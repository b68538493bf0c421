"""The conversion of JSON values to tensors and back, by TensorFlow Serving's tests.

Source: json_tensor_test.cc of github.com/tensorflow/serving.
"""

import json

import numpy as np
import pytest

from pipeline.serving import json_tensor
from pipeline.serving.json_tensor import BadValueError, Spec

FLOAT, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
INT, LONG, BYTE = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.uint8)
STRING, BOOL = np.dtype(object), np.dtype(bool)


def parse(value, dtype):
    return json_tensor.parse_tensor(value, Spec(dtype, None))


def refusal(value, dtype):
    with pytest.raises(BadValueError) as error:
        parse(value, dtype)
    return str(error.value)


# Inputs of signatures.


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (FLOAT, "float"),
        (DOUBLE, "double"),
        (STRING, "string"),
        (INT, "int32"),
        (BOOL, "bool"),
    ],
)
def test_a_type_has_tensorflows_name(dtype, name):
    assert Spec(dtype, None).dtype_name == name


def test_a_shape_takes_any_size_where_it_names_none():
    spec = Spec(FLOAT, (None, 28, 1))
    assert spec.accepts((7, 28, 1))
    assert spec.accepts((0, 28, 1))
    assert not spec.accepts((7, 28, 2))
    assert not spec.accepts((7, 28))
    assert not spec.accepts((7, 28, 1, 1))
    assert Spec(FLOAT, None).accepts((1, 2, 3))
    assert Spec(FLOAT, ()).accepts(())


@pytest.mark.parametrize(
    ("shape", "has_batch", "text"),
    [
        ((None, 28), True, "[?,28]"),
        ((3, None), False, "[3,?]"),
        ((), False, "[]"),
        (None, False, "[?]"),
    ],
)
def test_only_an_open_first_dimension_is_a_batch(shape, has_batch, text):
    spec = Spec(FLOAT, shape)
    assert (spec.has_batch, spec.format_shape()) == (has_batch, text)


# From JSON.


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, FLOAT),
        ([[1, 2.5], [-3, 4]], FLOAT),
        ([[[[0.1]]], [[[0.2]]]], DOUBLE),
        ([], FLOAT),
        ([[], []], INT),
        ([-(2**31), 2**31 - 1], INT),
        ([0, 255], BYTE),
        ([2**63 - 1, -(2**63)], LONG),
        ([True, False], BOOL),
    ],
)
def test_lists_become_what_numpy_makes_of_them(value, dtype):
    tensor = parse(value, dtype)
    expected = np.array(value, dtype)
    assert (tensor.dtype, tensor.shape) == (dtype, expected.shape)
    np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("a\u00e4", b"a\xc3\xa4"),
        ("\ud800", b"\xed\xa0\x80"),  # half of a surrogate pair, which is legal in JSON
        ({"b64": "aW1hZ2UgYnl0ZXM="}, b"image bytes"),  # the documentation's example
        ({"b64": "aW1hZ2UgYnl0ZXM"}, b"image bytes"),
        ({"b64": ""}, b""),
    ],
)
def test_bytes_are_text_or_base64(value, data):
    assert parse(value, STRING).item() == data
    assert parse([[value], [value]], STRING).tolist() == [[data], [data]]


@pytest.mark.parametrize(
    ("value", "is_bytes"),
    [
        ({"b64": "AA=="}, True),
        ({"b64": 1}, False),
        ({"b64": "AA==", "more": 1}, False),
        ({"b": "AA=="}, False),
        ({}, False),
        ("AA==", False),
    ],
)
def test_an_object_is_bytes_if_it_has_b64_alone(value, is_bytes):
    assert json_tensor.is_base64(value) is is_bytes


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2], [3]], "list at unexpected size: 1 at level: 1 expected size: 2"),
        (
            [[[1, 2]], [[1, 2], [3, 4]]],
            "list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        ([1, [2]], "list at unexpected level: 1 expected < 1"),
    ],
)
def test_ragged_lists_are_refused(value, message):
    assert refusal(value, FLOAT) == f"Encountered {message}"


def test_a_value_where_a_list_is_expected_is_refused():
    assert refusal([[1], 2], FLOAT) == (
        "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: "
        "2"
    )


@pytest.mark.parametrize(
    ("value", "dtype", "shown", "kind", "expected"),
    [
        ([1, True], FLOAT, "true", "True", "float"),
        ([False], INT, "false", "False", "int32"),
        ([None], INT, "null", "Null", "int32"),
        ({}, DOUBLE, "{}", "Object", "double"),
        ("1", INT, '"1"', "String", "int32"),
        (1.0, LONG, "1.0", "Number", "int64"),
        ([0, 1], BOOL, "0", "Number", "bool"),
        (["a", 1], STRING, "1", "Number", "string"),
    ],
)
def test_a_value_of_another_type_is_refused(value, dtype, shown, kind, expected):
    assert refusal(value, dtype) == (
        f"JSON Value: {shown} Type: {kind} is not of expected type: {expected}"
    )


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(2**31, INT), (-(2**31) - 1, INT), (256, BYTE), (-1, BYTE), (2**63, LONG)],
)
def test_an_integer_that_the_type_does_not_hold_is_refused(value, dtype):
    assert refusal([1, value], dtype) == (
        f"JSON Value: {value} Type: Number is not of expected type: {dtype.name}"
    )


@pytest.mark.parametrize(
    ("dtype", "exact"), [(FLOAT, 2**24 - 1), (DOUBLE, 2**53 - 1)], ids=str
)
def test_integers_are_floats_up_to_the_last_that_all_below_it_are(dtype, exact):
    assert parse([exact, -exact], dtype).tolist() == [exact, -exact]
    for value in (exact + 1, -exact - 1):
        assert refusal([0, value], dtype) == (
            f"Cannot convert JSON value: {value} to {Spec(dtype, None).dtype_name} "
            "without loss of precision."
        )


def test_a_float_outside_the_type_is_refused_but_infinity_is_accepted():
    largest = float(np.finfo(np.float32).max)
    assert parse([largest, 1e30], FLOAT)[0] == np.float32(largest)
    assert "3.5e+38 to float without loss" in refusal([3.5e38], FLOAT)
    assert "-3.5e+38 to float without loss" in refusal([-3.5e38], FLOAT)
    assert parse(3.5e38, DOUBLE) == 3.5e38
    special = parse([float("inf"), -float("inf"), float("nan")], FLOAT)
    np.testing.assert_array_equal(special, [np.inf, -np.inf, np.nan])


def test_invalid_base64_is_refused():
    assert refusal({"b64": "?"}, STRING) == "Unable to base64 decode"
    assert refusal({"b64": "A"}, STRING) == "Unable to base64 decode"
    assert refusal({"b64": "\u00e4"}, STRING) == "Unable to base64 decode"
    assert refusal({"b64": 1}, STRING) == (
        'JSON Value: {"b64": 1} not formatted correctly for base64 data'
    )


def test_a_long_value_is_cut_after_200_characters():
    value = "a" * 198
    assert json_tensor.shorten_json(value) == f'"{value}"'
    assert json_tensor.shorten_json(value + "b") == f'"{value}b...'


# To JSON.


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (np.array([1, 0.5, 0.1], np.float32), "[1.0, 0.5, 0.100000001]"),
        (np.array([0.1, 1e22, -2], np.float64), "[0.10000000000000001, 1e+22, -2.0]"),
        (np.array([np.nan, np.inf, -np.inf], FLOAT), "[NaN, Infinity, -Infinity]"),
        (np.array([3, np.inf], DOUBLE), "[3.0, Infinity]"),
        (np.array([[1, -2], [3, 4]], np.int32), "[[1, -2], [3, 4]]"),
        (np.array([True, False]), "[true, false]"),
        (np.array(2.0, np.float32), "2.0"),
        (np.array(7, np.int64), "7"),
        (np.zeros([2, 0], np.float32), "[[], []]"),
        (np.array([b"a\xc3\xa4", b"\xff"], object), '["a\\u00e4", "\\ufffd"]'),
        (np.array([b"a"]), '["a"]'),
    ],
)
def test_a_tensor_is_written_as_json(tensor, text):
    assert json_tensor.format_tensor("x", tensor) == text


def test_bytes_are_base64_where_the_name_says_so():
    tensor = np.array([[b"\xff"], [b"\x00\x01"]], object)
    assert json_tensor.format_tensor("png_bytes", tensor) == (
        '[[{"b64": "/w=="}], [{"b64": "AAE="}]]'
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_float_is_read_back_exactly(dtype):
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [
            rng.normal(size=100),
            10.0 ** rng.uniform(-30, 30, 100),
            [-0.0, np.finfo(dtype).max, np.finfo(dtype).tiny],
        ]
    ).astype(dtype)
    read = json.loads(json_tensor.format_tensor("x", values))
    assert all(type(value) is float for value in read)
    assert np.array(read, dtype).tobytes() == values.tobytes()


@pytest.mark.parametrize("shape", [[3], [3, 2], [3, 2, 4], [3, 0, 2], [1, 1]])
def test_each_row_is_a_json_document(shape):
    tensor = np.arange(np.prod(shape)).reshape(shape)
    rows = json_tensor.format_rows("x", tensor)
    assert rows == [json.dumps(row.tolist()) for row in tensor]
