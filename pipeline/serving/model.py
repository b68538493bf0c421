"""A version that was pushed, loaded and ready to answer."""

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

# What a SavedModel's signature raises for values that it does not take.
Refused = tf.errors.InvalidArgumentError


class Signature:
    """One of a model's functions."""

    def __init__(self, function: Callable[..., Any]):
        self._function = function
        _, inputs = function.structured_input_signature  # type: ignore[attr-defined]
        outputs = function.structured_outputs  # type: ignore[attr-defined]
        self.inputs = {name: _spec(inputs[name]) for name in sorted(inputs)}
        specs = [*self.inputs.values(), *map(_spec, outputs.values())]
        self.by_row = all(spec.by_row for spec in specs)

    def __call__(self, inputs: Tensors) -> Tensors:
        """Returns the outputs by name, in the order of their names.

        Raises:
          Refused: the values are none that it takes.
        """
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = self._function(**tensors)
        return {name: outputs[name].numpy() for name in sorted(outputs)}


class Model:
    """One version: its signatures, and who still uses it."""

    def __init__(
        self,
        version: listing.Version,
        executor: concurrent.futures.Executor,
        *,
        limits: Limits,
    ):
        """Fetches the version, verifies the copy, loads it and warms it up.

        Raises:
          VersionError: its files are not those that were pushed, or no SavedModel.
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
                # The copy's name is another one at each try: the log would repeat it.
                why = str(error).replace(folder, version.path)
                raise listing.VersionError(why) from error
            self.signature_def = _signature_def(folder)
        self.signatures = {
            name: Signature(function)
            for name, function in self._loaded.signatures.items()
        }
        self.inputs = {name: s.inputs for name, s in self.signatures.items()}
        self._warm_up()

    def batcher(self, name: str) -> Batcher | None:
        """Returns what merges calls of a signature; None if it is none of rows."""
        signature = self.signatures[name]
        if not signature.by_row:
            return None
        if name not in self._batchers:
            self._batchers[name] = Batcher(
                signature, self._executor, limits=self._limits, refused=Refused
            )
        return self._batchers[name]

    def _warm_up(self) -> None:
        """Calls each signature once: a function's first call takes longer."""
        for name, signature in self.signatures.items():
            try:
                signature({key: _any(spec) for key, spec in signature.inputs.items()})
            except Refused as error:  # zeros, or no bytes, are no input for some
                _log.debug("warming up %s: %s", name, error)


def _spec(tensor_spec: Any) -> Spec:
    dtype = tensor_spec.dtype
    shape = tensor_spec.shape
    return Spec(
        np.dtype(object) if dtype == tf.string else np.dtype(dtype.as_numpy_dtype),
        tuple(shape) if shape.rank is not None else None,
    )


def _any(spec: Spec) -> np.ndarray:
    shape = [1 if size is None else size for size in spec.shape or ()]
    if spec.dtype.kind == "O":
        return np.full(shape, b"", object)
    return np.full(shape, 1 if spec.dtype.kind in "iu" else 0, spec.dtype)


def _signature_def(folder: str) -> dict[str, Any]:
    """Returns a SavedModel's signatures as TensorFlow Serving's metadata has them."""
    message = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        message.ParseFromString(file.read())
    signatures = message.meta_graphs[0].signature_def
    return {
        name: {
            "inputs": {key: _info(s.inputs[key]) for key in sorted(s.inputs)},
            "outputs": {key: _info(s.outputs[key]) for key in sorted(s.outputs)},
            "method_name": s.method_name,
            "defaults": {},
        }
        for name, s in sorted(signatures.items())
    }


def _info(info: Any) -> dict[str, Any]:
    shape = info.tensor_shape
    return {
        "dtype": types_pb2.DataType.Name(info.dtype),
        "tensor_shape": {
            "dim": [{"size": str(dim.size), "name": dim.name} for dim in shape.dim],
            "unknown_rank": shape.unknown_rank,
        },
        "name": info.name,
    }
