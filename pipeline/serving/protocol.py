"""TensorFlow Serving's REST protocol: paths, bodies and answers.

This module is independent of the HTTP server. The error messages are those of
TensorFlow Serving, if it has one for the error.

Source: https://www.tensorflow.org/tfx/serving/api_rest, and json_tensor.cc and
http_rest_api_util.cc of github.com/tensorflow/serving.
"""

import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from model.errors import PipelineError
from pipeline.serving import json_tensor
from pipeline.serving.json_tensor import BadValueError, Spec

DEFAULT_SIGNATURE = "serving_default"

_PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:"
    r"(classify|regress|predict)",
    re.IGNORECASE,
)
_STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?",
    re.IGNORECASE,
)


class RequestError(PipelineError):
    """A request that cannot be answered: its message and its HTTP status."""

    def __init__(self, status: int, message: str):
        super().__init__(status, message)
        self.status = status

    def __str__(self) -> str:
        return self.args[1]


class Target(NamedTuple):
    """The action and the model that a path names."""

    action: str  # predict, classify, regress, status or metadata
    model: str
    version: int | None
    label: str | None


class Request(NamedTuple):
    """The parsed body of a `predict` request."""

    signature: str
    inputs: dict[str, np.ndarray]
    is_row_format: bool  # True for `instances`, False for `inputs`


def parse_target(method: str, path: str) -> Target:
    """Parses the path of a request.

    Args:
      method: the HTTP method.
      path: the path as it was sent, still percent-encoded, without the query.

    Raises:
      RequestError: the protocol has no such path.
    """
    if method == "POST" and (found := _PREDICTION.fullmatch(path)):
        model, version, label, action = found.groups()
        action = action.lower()
    elif method == "GET" and (found := _STATUS.fullmatch(path)):
        model, version, label, subresource = found.groups()
        action = "metadata" if subresource else "status"
    else:
        raise RequestError(400, f"Malformed request: {method} {path}")
    if model is None:
        raise RequestError(400, "Missing model name in request.")
    if version is not None and int(version) >= 2**63:
        raise RequestError(400, f"Failed to convert version: {version} to numeric.")
    return Target(
        action,
        urllib.parse.unquote(model),
        None if version is None else int(version),
        None if label is None else urllib.parse.unquote(label),
    )


def parse_request(body: bytes, signatures: Mapping[str, Mapping[str, Spec]]) -> Request:
    """Parses the body of a `predict` request.

    Args:
      body: JSON, in which NaN and Infinity are allowed.
      signatures: the inputs by name, of each signature by name.

    Raises:
      RequestError: the body does not match the protocol or the signature.
    """
    document = _parse_object(body)
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise RequestError(
            400,
            f"JSON Value: {json_tensor.shorten_json(document)} not formatted "
            "correctly. 'signature_name' key must be a string value.",
        )
    name = name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise RequestError(
            400, f'Serving signature name: "{name}" not found in signature def'
        )
    specs = signatures[name]
    is_row_format = "instances" in document
    if is_row_format and "inputs" in document:
        raise RequestError(
            400,
            f"JSON Value: {json_tensor.shorten_json(document)} Not formatted correctly "
            "expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if not is_row_format and "inputs" not in document:
        raise RequestError(400, "Missing 'inputs' or 'instances' key")
    try:
        if is_row_format:
            inputs = _parse_rows(document["instances"], specs, document=document)
        else:
            inputs = _parse_columns(document["inputs"], specs)
    except BadValueError as error:
        raise RequestError(400, str(error)) from error
    for key, spec in specs.items():
        if not spec.accepts(inputs[key].shape):
            raise RequestError(
                400,
                f"Input {key} of signature {name} must have shape "
                f"{spec.format_shape()}, "
                f"got {json_tensor.format_shape(inputs[key].shape)}",
            )
    return Request(name, inputs, is_row_format)


def _parse_object(body: bytes) -> dict[str, Any]:
    """Returns the JSON object in a body; raises RequestError if it is none."""
    if not body:
        raise RequestError(400, "JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except json.JSONDecodeError as error:
        text = error.msg.replace("Expecting value", "Invalid value.")
        raise RequestError(
            400, f"JSON Parse error: {text} at offset: {error.pos}"
        ) from error
    except RecursionError as error:
        raise RequestError(400, "JSON Parse error: nested too deeply") from error
    except ValueError as error:  # no UTF-8, or an integer of thousands of digits
        raise RequestError(400, f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        shown = json_tensor.shorten_json(document)
        raise RequestError(400, f"JSON Value: {shown} Is not object")
    return document


def _parse_rows(
    rows: Any, specs: Mapping[str, Spec], *, document: Any
) -> dict[str, np.ndarray]:
    """Returns the inputs of `instances`, stacked: [B, ...] each, by name.

    Args:
      rows: a list of values, or of objects with a value for each input.
      specs: the signature's inputs by name.
      document: the whole body, for error messages.
    """
    if not isinstance(rows, list):
        shown = json_tensor.shorten_json(document)
        raise BadValueError(
            f"JSON Value: {shown} Excepting 'instances' to be an list/array"
        )
    if not rows:
        shown = json_tensor.shorten_json(document)
        raise BadValueError(f"JSON Value: {shown} No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(specs) > 1:
        raise BadValueError(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    objects = _is_object(rows[0])
    columns: dict[str, list[np.ndarray]] = {name: [] for name in specs}
    for number, row in enumerate(rows):
        if objects != _is_object(row):
            expected, got = ("object", "list") if objects else ("value/list", "object")
            raise BadValueError(
                f"Expecting {expected} but got {got} at item {number} of input list"
            )
        for name, value in (row if objects else {next(iter(specs)): row}).items():
            where = f"element: {number}" + (f" key: {name}" if objects else "")
            try:
                if name not in specs:
                    raise BadValueError(
                        f"JSON object: does not have named input: {name}"
                    )
                columns[name].append(_parse_row(columns[name], value, spec=specs[name]))
            except BadValueError as error:
                raise BadValueError(
                    f"Failed to process {where} of 'instances' list. Error: "
                    f"INVALID_ARGUMENT: {error}"
                ) from error
        if objects and set(row) != set(specs):
            raise BadValueError(
                f"Failed to process element: {number} of 'instances' list. JSON "
                f"object: {json_tensor.shorten_json(row)} keys must be equal to: "
                + ",".join(sorted(specs))
            )
    return {name: np.stack(values) for name, values in columns.items()}


def _parse_row(before: list[np.ndarray], value: Any, *, spec: Spec) -> np.ndarray:
    """Returns a row's tensor; raises BadValueError if the first row's shape differs."""
    tensor = json_tensor.parse_tensor(value, spec)
    if before and before[0].size != tensor.size:
        raise BadValueError(
            f"Expecting tensor size: {before[0].size} but got: {tensor.size}"
        )
    if before and before[0].shape != tensor.shape:
        raise BadValueError(
            f"Expecting shape {json_tensor.format_shape(before[0].shape)} but got: "
            f"{json_tensor.format_shape(tensor.shape)}"
        )
    return tensor


def _parse_columns(value: Any, specs: Mapping[str, Spec]) -> dict[str, np.ndarray]:
    """Returns the inputs of `inputs`, which is one value or an object by name."""
    if not _is_object(value):
        if len(specs) > 1:
            raise BadValueError(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        ((name, spec),) = specs.items()
        return {name: json_tensor.parse_tensor(value, spec)}
    inputs = {}
    for name, spec in specs.items():
        if name not in value:
            raise BadValueError(f"Missing named input: {name} in 'inputs' object.")
        inputs[name] = json_tensor.parse_tensor(value[name], spec)
    return inputs


def _is_object(value: Any) -> bool:
    """Returns whether a value is a JSON object that does not encode bytes."""
    return isinstance(value, dict) and not json_tensor.is_base64(value)


def format_answer(outputs: Mapping[str, np.ndarray], is_row_format: bool) -> str:
    """Returns the JSON body of the answer to a `predict` request.

    A signature's only output appears without its name.

    Args:
      outputs: the signature's outputs by name.
      is_row_format: whether to write `predictions`, a list of rows, in place of
        `outputs`.

    Raises:
      RequestError: `is_row_format`, but the outputs have no or different numbers of
        rows.
    """
    if not is_row_format:
        texts = {
            name: json_tensor.format_tensor(name, outputs[name]) for name in outputs
        }
        return '{"outputs": ' + _join_values(texts) + "}"
    rows = None
    for name, tensor in outputs.items():
        if not tensor.ndim:
            raise RequestError(400, f"Tensor name: {name} has no shape information ")
        if rows is not None and len(tensor) != rows:
            raise RequestError(
                400,
                f"Tensor name: {name} has inconsistent batch size: {len(tensor)} "
                f"expecting: {rows}",
            )
        rows = len(tensor)
    columns = [json_tensor.format_rows(name, outputs[name]) for name in outputs]
    predictions = [_join_values(dict(zip(outputs, row))) for row in zip(*columns)]
    return '{"predictions": [' + ", ".join(predictions) + "]}"


def _join_values(texts: Mapping[str, str]) -> str:
    """Returns a JSON object of JSON texts by name; a single text is returned alone."""
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "{" + ", ".join(f"{json.dumps(k)}: {v}" for k, v in texts.items()) + "}"


def create_not_found_error(target: Target) -> RequestError:
    """Returns the error for a model or a version that is not served."""
    which = "Latest" if target.version is None else "Specific"
    version = "" if target.version is None else f", {target.version}"
    return RequestError(
        404, f"Servable not found for request: {which}({target.model}{version})"
    )


def describe_status(
    number: int, state: str, *, code: str = "OK", message: str = ""
) -> dict:
    """Returns one version's entry in the JSON answer about a model's status."""
    return {
        "version": str(number),
        "state": state,
        "status": {"error_code": code, "error_message": message},
    }
