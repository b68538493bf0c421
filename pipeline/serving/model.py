"""A pushed version as a loaded model with callable signatures."""

import concurrent.futures
import logging
import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from components.registry import listing
from pipeline.serving.batching import Batcher, Limits, Tensors
from pipeline.serving.json_tensor import Spec

_log = logging.getLogger(__name__)

# The exception of a SavedModel's signature for values that it does not accept.
BadInputError = tf.errors.InvalidArgumentError


class Signature:
    """A signature of a SavedModel, called with NumPy arrays."""

    def __init__(self, function: Callable[..., Any]):
        self._function = function
        _, inputs = function.structured_input_signature  # type: ignore[attr-defined]
        outputs = function.structured_outputs  # type: ignore[attr-defined]
        self.inputs = {name: _read_spec(inputs[name]) for name in sorted(inputs)}
        specs = [*self.inputs.values(), *map(_read_spec, outputs.values())]
        self.has_batch = all(spec.has_batch for spec in specs)

    def __call__(self, inputs: Tensors) -> Tensors:
        """Returns the outputs by name, sorted by name.

        Raises:
          BadInputError: the function does not accept the values.
        """
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = self._function(**tensors)
        return {name: outputs[name].numpy() for name in sorted(outputs)}


class Model:
    """A loaded version: its signatures, and the number of requests that use it."""

    def __init__(
        self,
        version: listing.Version,
        executor: concurrent.futures.Executor,
        *,
        limits: Limits,
    ):
        """Fetches the version, verifies its files, loads it and calls each signature.

        Raises:
          VersionError: the files do not match the manifest, or are no SavedModel.
          StorageError: the object store does not answer.
        """
        self.number = version.number
        self.digest = version.digest
        self.users = 0
        self._executor = executor
        self._limits = limits
        self._batchers: dict[str, Batcher] = {}
        with tempfile.TemporaryDirectory() as folder:
            listing.fetch_version(version, folder)
            try:
                self._loaded = tf.saved_model.load(folder)  # owns the variables
            except Exception as error:
                # Each try has a new temporary folder. With its name in the message, the
                # log would repeat the message.
                why = str(error).replace(folder, version.path)
                raise listing.VersionError(why) from error
            self.signature_def = _read_signature_def(folder)
        self.signatures = {
            name: Signature(function)
            for name, function in self._loaded.signatures.items()
        }
        self.inputs = {name: s.inputs for name, s in self.signatures.items()}
        self._warm_up()

    def find_batcher(self, name: str) -> Batcher | None:
        """Returns the batcher of a signature; None if it has no batch dimension."""
        signature = self.signatures[name]
        if not signature.has_batch:
            return None
        if name not in self._batchers:
            self._batchers[name] = Batcher(
                signature, self._executor, limits=self._limits, refused=BadInputError
            )
        return self._batchers[name]

    def _warm_up(self) -> None:
        """Calls each signature once, because the first call of a function is slow."""
        for name, signature in self.signatures.items():
            try:
                signature(
                    {key: _create_input(spec) for key, spec in signature.inputs.items()}
                )
            except BadInputError as error:  # some refuse zeros or empty bytes
                _log.debug("warming up %s: %s", name, error)


def _read_spec(tensor_spec: Any) -> Spec:
    dtype = tensor_spec.dtype
    shape = tensor_spec.shape
    return Spec(
        np.dtype(object) if dtype == tf.string else np.dtype(dtype.as_numpy_dtype),
        tuple(shape) if shape.rank is not None else None,
    )


def _create_input(spec: Spec) -> np.ndarray:
    """Returns a tensor that matches a spec, with 1 for each size that may vary."""
    shape = [1 if size is None else size for size in spec.shape or ()]
    if spec.dtype.kind == "O":
        return np.full(shape, b"", object)
    return np.full(shape, 1 if spec.dtype.kind in "iu" else 0, spec.dtype)


def _read_signature_def(folder: str) -> dict[str, Any]:
    """Reads a SavedModel's signatures, in the form of TensorFlow Serving's metadata."""
    message = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        message.ParseFromString(file.read())
    signatures = message.meta_graphs[0].signature_def
    return {
        name: {
            "inputs": {
                key: _describe_tensor(s.inputs[key]) for key in sorted(s.inputs)
            },
            "outputs": {
                key: _describe_tensor(s.outputs[key]) for key in sorted(s.outputs)
            },
            "method_name": s.method_name,
            "defaults": {},
        }
        for name, s in sorted(signatures.items())
    }


def _describe_tensor(info: Any) -> dict[str, Any]:
    shape = info.tensor_shape
    return {
        "dtype": types_pb2.DataType.Name(info.dtype),
        "tensor_shape": {
            "dim": [{"size": str(dim.size), "name": dim.name} for dim in shape.dim],
            "unknown_rank": shape.unknown_rank,
        },
        "name": info.name,
    }
