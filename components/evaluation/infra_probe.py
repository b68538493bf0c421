"""A script that calls every signature of a SavedModel; InfraCheck runs it.

The script imports only TensorFlow and NumPy, as a model server would, and blocks the
import of this project's packages and of the libraries that a model server lacks.

It prints two lines of JSON: one before it loads the model; then one with the reason to
refuse the model, or null. If it ends earlier, the model is neither blessed nor refused.
"""

import gc
import json
import os
import pathlib
import runpy
import sys


class _ImportBlocker:
    """Blocks the import of packages that a model server does not have."""

    NAMES = frozenset(
        ["tensorflow_probability", "tf_keras", "tfx", "model", "components", "pipeline"]
    )

    def find_spec(self, name, *_):
        if name.partition(".")[0] in self.NAMES:
            raise ModuleNotFoundError(f"a model server has no {name}", name=name)


sys.meta_path.insert(0, _ImportBlocker())

gc.disable()  # looking for garbage takes a quarter of the time of these imports
import numpy as np  # noqa: E402, after the imports are blocked
import tensorflow as tf  # noqa: E402

gc.enable()

N, SHAPE = 8, (28, 28, 1)

# Loaded by its path, because the import of its package is blocked here.
_MACHINE_FAULTS = pathlib.Path(__file__).parents[2] / "model/files/machine_faults.py"
_is_machine_fault = runpy.run_path(str(_MACHINE_FAULTS))["is_fault"]


def check_signatures(model_dir: str) -> None:
    """Calls every signature of a SavedModel and checks the outputs.

    Args:
      model_dir: the SavedModel's folder.

    Raises:
      ValueError: a signature is missing, or an output is wrong.
    """
    loaded = tf.saved_model.load(model_dir)
    signatures = loaded.signatures
    expected = ("serving_default", "encode", "generate", "decode", "elbo", "iwae")
    for name in (*expected, "elbo_examples"):
        if name not in signatures:
            raise ValueError(f"signature {name} is missing: has {sorted(signatures)}")
    drawn = _call_twice(signatures, "generate", n=tf.constant(N), seed=_make_seed(1))
    _check_shapes("generate", drawn, shapes={"mean": (N, *SHAPE), "mode": (N, *SHAPE)})
    other = _call_twice(signatures, "generate", n=tf.constant(N), seed=_make_seed(2))
    if np.array_equal(drawn["mean"], other["mean"]):
        raise ValueError("generate: two seeds must not give the same images")
    if drawn["mean"].min() < 0 or drawn["mean"].max() > 1:
        raise ValueError("generate: mean must be a probability, in [0, 1]")

    images = tf.constant(drawn["mode"])
    rebuilt = _call_twice(signatures, "serving_default", images=images)
    _check_shapes(
        "serving_default", rebuilt, shapes={"mean": (N, *SHAPE), "mode": (N, *SHAPE)}
    )
    posterior = _call_twice(signatures, "encode", images=images)
    latent_size = posterior["loc"].shape[-1]
    posterior_shapes: dict[str, tuple[int, ...]] = {"loc": (N, latent_size)}
    if "scale_tril" in posterior:  # an IAF posterior has none
        posterior_shapes["scale_tril"] = (N, latent_size, latent_size)
    _check_shapes("encode", posterior, shapes=posterior_shapes)
    decoded = _call_twice(signatures, "decode", z=tf.constant(posterior["loc"]))
    _check_shapes("decode", decoded, shapes={"mean": (N, *SHAPE), "mode": (N, *SHAPE)})
    if not np.allclose(decoded["mean"], rebuilt["mean"], atol=1e-4):
        raise ValueError("decode: at encode's loc it must give what reconstruct does")
    per_image = {"elbo": (N,), "reconstruction": (N,), "kl": (N,)}
    scores = _call_twice(signatures, "elbo", images=images)
    _check_shapes("elbo", scores, shapes=per_image)
    _check_shapes(
        "iwae",
        _call_twice(signatures, "iwae", images=images, k=tf.constant(3)),
        shapes={"iwae": (N,)},
    )
    examples = tf.constant([_make_example(image) for image in drawn["mode"]])
    example_scores = _call_twice(signatures, "elbo_examples", examples=examples)
    _check_shapes("elbo_examples", example_scores, shapes=per_image)
    if not np.allclose(scores["elbo"], example_scores["elbo"], rtol=1e-4):
        raise ValueError("elbo and elbo_examples must agree on the same images")
    alone = _call_twice(signatures, "elbo", images=images[-1:])
    if not np.allclose(scores["elbo"][-1:], alone["elbo"], rtol=1e-4):
        raise ValueError("elbo: an image's ELBO must not depend on its batch")
    try:
        _call_twice(signatures, "elbo", images=images[:0])
    except tf.errors.InvalidArgumentError:
        pass
    else:
        raise ValueError("elbo: an empty batch must be refused")


def _call_twice(signatures, name, **inputs) -> dict[str, np.ndarray]:
    """Calls a signature twice and returns its outputs.

    Raises:
      ValueError: an output is not finite, or the two calls differ.
    """
    once, again = (
        {key: value.numpy() for key, value in signatures[name](**inputs).items()}
        for _ in range(2)
    )
    for key, value in once.items():
        if not np.isfinite(value).all():
            raise ValueError(f"{name}: {key} must be finite, got NaN or infinity")
        if not np.array_equal(value, again[key]):
            raise ValueError(f"{name}: {key} must be the same for the same input")
    return once


def _check_shapes(name: str, outputs: dict[str, np.ndarray], *, shapes: dict) -> None:
    got = {key: outputs[key].shape for key in sorted(outputs)}  # in any order
    if got != shapes:
        raise ValueError(f"{name}: outputs must be {shapes}, got {got}")


def _make_example(image: np.ndarray) -> bytes:
    """Returns an image as a serialized tf.Example with the features of Transform.

    Args:
      image: a binary image, float32 [28, 28, 1] of 0 and 1.
    """
    bits = image.astype(np.uint8).ravel()
    example = tf.train.Example()
    feature = example.features.feature
    feature["pixels"].bytes_list.value.append((bits * np.uint8(255)).tobytes())
    feature["bits"].bytes_list.value.append(np.packbits(bits).tobytes())
    return example.SerializeToString()


def _make_seed(value: int) -> tf.Tensor:
    return tf.constant(value, tf.int64)


def find_refusal(model_dir: str) -> str | None:
    """Returns why the model can't be served, in one line; None if it can.

    Args:
      model_dir: the SavedModel's folder.

    Raises:
      Exception: an error that the machine caused, not the model.
    """
    try:
        check_signatures(model_dir)
    except Exception as error:
        absent = (
            isinstance(error, ModuleNotFoundError)
            and error.name in _ImportBlocker.NAMES
        )
        if _is_machine_fault(error) and not absent:
            raise
        # TensorFlow's messages have several lines.
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


if __name__ == "__main__":
    print(json.dumps({"model": sys.argv[1]}), flush=True)
    print(json.dumps({"refusal": find_refusal(sys.argv[1])}), flush=True)
    os._exit(0)  # without TensorFlow's clean-up, which takes seconds and may crash
