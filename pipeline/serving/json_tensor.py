"""Conversions between JSON values and tensors, as in TensorFlow Serving.

The error messages are those of TensorFlow Serving.

Source: util/json_tensor.cc of github.com/tensorflow/serving.
"""

import base64
import binascii
import itertools
import json
from typing import Any, NamedTuple

import numpy as np

from model.errors import PipelineError

_MAX_SHOWN = 200  # characters of a value that an error shows
_FLOAT_DIGITS = {np.dtype(np.float32): "%.9g", np.dtype(np.float64): "%.17g"}
_SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class BadValueError(PipelineError):
    """A JSON value cannot be converted to the expected tensor."""


class Spec(NamedTuple):
    """The type and the shape of one input of a signature."""

    dtype: np.dtype  # object means bytes
    shape: tuple[int | None, ...] | None  # None: any shape or size

    @property
    def dtype_name(self) -> str:
        """Returns the type's name in the error messages of TensorFlow Serving."""
        names = {"float32": "float", "float64": "double", "object": "string"}
        return names.get(self.dtype.name, self.dtype.name)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Returns whether the input can have this shape."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            want is None or size == want for size, want in zip(shape, self.shape)
        )

    def format_shape(self) -> str:
        """Returns the shape as text, such as `[?,28,28,1]`."""
        return format_shape(self.shape)

    @property
    def has_batch(self) -> bool:
        """Returns whether the first dimension is that of the batch, of any size."""
        return self.shape is not None and self.shape[:1] == (None,)


def format_shape(shape: tuple[int | None, ...] | None) -> str:
    """Returns a shape as text, such as `[2,28,28,1]`; `?` is any size."""
    if shape is None:
        return "[?]"
    return "[" + ",".join("?" if n is None else str(n) for n in shape) + "]"


def shorten_json(value: Any) -> str:
    """Returns the JSON text of a value, cut after 200 characters."""
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def is_base64(value: Any) -> bool:
    """Returns whether a JSON value is `{"b64": text}`, the encoding of bytes."""
    return (
        isinstance(value, dict)
        and list(value) == ["b64"]
        and isinstance(value["b64"], str)
    )


def parse_tensor(value: Any, spec: Spec) -> np.ndarray:
    """Returns the tensor of a JSON value: of a scalar or of nested lists.

    The tensor has the type of the spec and the shape of the value. The caller checks
    the shape.

    Raises:
      BadValueError: the lists differ in length, or a value does not have the type.
    """
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    flat = [value]
    for level, size in enumerate(shape):
        for item in flat:
            if not isinstance(item, list):
                raise BadValueError(
                    f"JSON Value: {shorten_json(item)} found at incorrect level: "
                    f"{level + 1} in the JSON DOM. Expected at level: {len(shape)}"
                )
            if len(item) != size:
                raise BadValueError(
                    f"Encountered list at unexpected size: {len(item)} at level: "
                    f"{level} expected size: {size}"
                )
        flat = list(itertools.chain.from_iterable(flat))
    if list in set(map(type, flat)):
        raise BadValueError(
            f"Encountered list at unexpected level: {len(shape)} expected < "
            f"{len(shape)}"
        )
    return _convert_values(flat, spec).reshape(shape)


def _convert_values(flat: list, spec: Spec) -> np.ndarray:
    """Returns a flat list of JSON scalars as an array [N] of the spec's type."""
    kind = spec.dtype.kind
    if kind == "O":
        strings = np.empty(len(flat), object)
        strings[:] = [_decode_bytes(value, spec) for value in flat]
        return strings
    types: set[type] = {bool} if kind == "b" else {int}
    if kind == "f":
        types.add(float)
    if not set(map(type, flat)) <= types:
        bad = next(value for value in flat if type(value) not in types)
        raise _create_type_error(bad, spec)
    if kind in "iu":
        least, most = np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max
        for value in flat:
            if not least <= value <= most:
                raise _create_type_error(value, spec)
    if kind == "f":
        _check_lossless(flat, spec)
    return np.array(flat, spec.dtype)


def _check_lossless(flat: list, spec: Spec) -> None:
    """Raises BadValueError for a number that the float type cannot represent."""
    info = np.finfo(spec.dtype)
    largest = {int: 2 ** (info.nmant + 1) - 1, float: float(info.max)}
    infinite = float("inf")
    # This generator filters out the small numbers fast; most are small.
    for value in (v for v in flat if not -largest[int] <= v <= largest[int]):
        if abs(value) < infinite and abs(value) > largest[type(value)]:
            raise BadValueError(
                f"Cannot convert JSON value: {shorten_json(value)} to "
                f"{spec.dtype_name} without loss of precision."
            )


def _decode_bytes(value: Any, spec: Spec) -> bytes:
    """Returns the bytes of a JSON string, or of an object with base64."""
    if isinstance(value, str):
        # JSON allows a lone surrogate, which UTF-8 does not.
        return value.encode("utf-8", "surrogatepass")
    if not isinstance(value, dict):
        raise _create_type_error(value, spec)
    if not is_base64(value):
        raise BadValueError(
            f"JSON Value: {shorten_json(value)} not formatted correctly for base64 data"
        )
    text = value["b64"]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadValueError("Unable to base64 decode") from error


def _create_type_error(value: Any, spec: Spec) -> BadValueError:
    return BadValueError(
        f"JSON Value: {shorten_json(value)} Type: {_name_json_type(value)} is not of "
        f"expected type: {spec.dtype_name}"
    )


def _name_json_type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    names: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def format_tensor(name: str, tensor: np.ndarray) -> str:
    """Returns the JSON text of a tensor.

    Args:
      name: the name of the output; strings are encoded in base64 if it ends in _bytes.
      tensor: a tensor of any shape.
    """
    return format_rows(name, tensor[np.newaxis])[0]


def format_rows(name: str, tensor: np.ndarray) -> list[str]:
    """Returns the JSON text of each row of a tensor; see `format_tensor`."""
    if not tensor.size:
        return [json.dumps(row) for row in tensor.tolist()]
    flat = _format_values(name, tensor)
    for size in reversed(tensor.shape[1:]):
        flat = [
            "[" + ", ".join(flat[start : start + size]) + "]"
            for start in range(0, len(flat), size)
        ]
    return flat


def _format_values(name: str, tensor: np.ndarray) -> list[str]:
    """Returns the JSON text of each scalar of a tensor, in C order."""
    values = tensor.ravel().tolist()
    if tensor.dtype in _FLOAT_DIGITS:
        # json.dumps takes twice as long, and writes more digits than float32 has.
        form = _FLOAT_DIGITS[tensor.dtype]
        texts = [form % value for value in values]
        if not np.isfinite(tensor).all():
            texts = [_SPECIAL.get(text, text) for text in texts]
        # A whole number gets `.0`, to be read as a float again.
        return [
            text if "." in text or "e" in text or text[-1] in "yN" else f"{text}.0"
            for text in texts
        ]
    if tensor.dtype.kind in "OS":
        if name.endswith("_bytes"):
            encoded = (base64.b64encode(value).decode() for value in values)
            return [json.dumps({"b64": value}) for value in encoded]
        return [json.dumps(value.decode("utf-8", "replace")) for value in values]
    return [json.dumps(value) for value in values]
