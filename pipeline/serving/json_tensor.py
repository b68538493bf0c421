"""JSON values as tensors, and back, as TensorFlow Serving has it (json_tensor.cc)."""

import base64
import binascii
import itertools
import json
from typing import Any, NamedTuple

import numpy as np

from model.errors import PipelineError

_SHOWN = 200  # characters of a value that an error shows
_FLOAT_DIGITS = {np.dtype(np.float32): "%.9g", np.dtype(np.float64): "%.17g"}
_SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class BadValueError(PipelineError):
    """A JSON value is not the tensor that is expected."""


class Spec(NamedTuple):
    """What a signature takes as one of its inputs."""

    dtype: np.dtype  # object: bytes
    shape: tuple[int | None, ...] | None  # None: any

    @property
    def dtype_name(self) -> str:
        """As TensorFlow Serving's errors have it."""
        names = {"float32": "float", "float64": "double", "object": "string"}
        return names.get(self.dtype.name, self.dtype.name)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Returns whether a tensor may have this shape."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            want is None or size == want for size, want in zip(shape, self.shape)
        )

    def shape_text(self) -> str:
        """Returns the shape as errors show it."""
        return shape_text(self.shape)

    @property
    def by_row(self) -> bool:
        """Whether the first dimension may be any: that of the batch."""
        return self.shape is not None and self.shape[:1] == (None,)


def shape_text(shape: tuple[int | None, ...] | None) -> str:
    """Returns [2,28,28,1]."""
    if shape is None:
        return "[?]"
    return "[" + ",".join("?" if n is None else str(n) for n in shape) + "]"


def shown(value: Any) -> str:
    """Returns a value's JSON, cut short."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def is_base64(value: Any) -> bool:
    """Returns whether it is an object that stands for bytes."""
    return (
        isinstance(value, dict)
        and list(value) == ["b64"]
        and isinstance(value["b64"], str)
    )


def parse(value: Any, spec: Spec) -> np.ndarray:
    """Returns the tensor of a value: a scalar, or lists of one length at each level.

    Its shape is what the value has, which is not yet that of the signature.

    Raises:
      BadValueError: it is ragged, or not of the type.
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
                    f"JSON Value: {shown(item)} found at incorrect level: {level + 1} "
                    f"in the JSON DOM. Expected at level: {len(shape)}"
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
    return _typed(flat, spec).reshape(shape)


def _typed(flat: list, spec: Spec) -> np.ndarray:
    kind = spec.dtype.kind
    if kind == "O":
        strings = np.empty(len(flat), object)
        strings[:] = [_bytes(value, spec) for value in flat]
        return strings
    types: set[type] = {bool} if kind == "b" else {int}
    if kind == "f":
        types.add(float)
    if not set(map(type, flat)) <= types:
        bad = next(value for value in flat if type(value) not in types)
        raise _not_of_type(bad, spec)
    if kind in "iu":
        least, most = np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max
        for value in flat:
            if not least <= value <= most:
                raise _not_of_type(value, spec)
    if kind == "f":
        _check_lossless(flat, spec)
    return np.array(flat, spec.dtype)


def _check_lossless(flat: list, spec: Spec) -> None:
    info = np.finfo(spec.dtype)
    largest = {int: 2 ** (info.nmant + 1) - 1, float: float(info.max)}
    infinite = float("inf")
    # Most are small: those alone that are not are looked at one by one.
    for value in (v for v in flat if not -largest[int] <= v <= largest[int]):
        if abs(value) < infinite and abs(value) > largest[type(value)]:
            raise BadValueError(
                f"Cannot convert JSON value: {shown(value)} to {spec.dtype_name} "
                "without loss of precision."
            )


def _bytes(value: Any, spec: Spec) -> bytes:
    if isinstance(value, str):
        # A lone surrogate is legal JSON and no UTF-8.
        return value.encode("utf-8", "surrogatepass")
    if not isinstance(value, dict):
        raise _not_of_type(value, spec)
    if not is_base64(value):
        raise BadValueError(
            f"JSON Value: {shown(value)} not formatted correctly for base64 data"
        )
    text = value["b64"]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadValueError("Unable to base64 decode") from error


def _not_of_type(value: Any, spec: Spec) -> BadValueError:
    return BadValueError(
        f"JSON Value: {shown(value)} Type: {_json_type(value)} is not of expected "
        f"type: {spec.dtype_name}"
    )


def _json_type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    names: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def text(name: str, tensor: np.ndarray) -> str:
    """Returns a tensor as JSON; `name`, by its end, says whether strings are bytes."""
    return rows(name, tensor[np.newaxis])[0]


def rows(name: str, tensor: np.ndarray) -> list[str]:
    """Returns each row of a tensor as JSON."""
    if not tensor.size:
        return [json.dumps(row) for row in tensor.tolist()]
    flat = _texts(name, tensor)
    for size in reversed(tensor.shape[1:]):
        flat = [
            "[" + ", ".join(flat[start : start + size]) + "]"
            for start in range(0, len(flat), size)
        ]
    return flat


def _texts(name: str, tensor: np.ndarray) -> list[str]:
    values = tensor.ravel().tolist()
    if tensor.dtype in _FLOAT_DIGITS:
        # json.dumps would take twice as long, and write digits that a float has not.
        form = _FLOAT_DIGITS[tensor.dtype]
        texts = [form % value for value in values]
        if not np.isfinite(tensor).all():
            texts = [_SPECIAL.get(text, text) for text in texts]
        # A whole number has to look like a float, too.
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
