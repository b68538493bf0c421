"""InfraCheck, on exports that can be served and on exports that can't."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.util import model_utils
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.infra_check import InfraCheck, probe
from model import serving
from model.config import ModelConfig
from model.vae import VAE

PROBE = pathlib.Path(__file__).parent.parent / "components" / "infra_probe.py"
SHAPE = [28, 28, 1]
IMAGES = tf.TensorSpec([None, *SHAPE], tf.float32)
EXAMPLES = tf.TensorSpec([None], tf.string)


def signature(**inputs):
    """Returns a decorator: a tf.function of these inputs."""
    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in inputs.items()
    ]
    return tf.function(input_signature=specs, autograph=False)


drawing = signature(n=tf.TensorSpec([], tf.int32), seed=tf.TensorSpec([], tf.int64))
of_images = signature(images=IMAGES)
of_examples = signature(examples=EXAMPLES)


# A model as small as can be, without a fault.


@drawing
def generate(n, seed):
    mean = tf.random.stateless_uniform([n, *SHAPE], tf.stack([seed, 0]))
    return {"mean": mean, "mode": tf.round(mean)}


@of_images
def encode(images):
    size = tf.shape(images)[0]
    return {"loc": tf.zeros([size, 2]), "scale_tril": tf.eye(2, batch_shape=[size])}


@signature(z=tf.TensorSpec([None, 2], tf.float32))
def decode(z):
    logits = tf.reduce_sum(z, axis=1)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    mean = tf.sigmoid(tf.tile(logits, [1, *SHAPE]))
    return {"mean": mean, "mode": tf.round(mean)}


@of_images
def reconstruct(images):
    return decode(encode(images)["loc"])


def terms(images):
    reconstruction = -tf.reduce_sum(images, axis=[1, 2, 3])
    kl = tf.ones_like(reconstruction)
    return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}


def parse(examples):
    spec = tf.io.FixedLenFeature(SHAPE, tf.int64)
    parsed = tf.io.parse_example(examples, {"binarized": spec})
    return tf.cast(parsed["binarized"], tf.float32)


@of_images
def elbo(images):
    tf.debugging.assert_positive(tf.shape(images)[0])
    return terms(images)


of_images_and_k = signature(images=IMAGES, k=tf.TensorSpec([], tf.int32))


@of_images_and_k
def iwae(images, k):
    return {"iwae": terms(images)["elbo"] + tf.math.log(tf.cast(k, tf.float32))}


@of_examples
def elbo_examples(examples):
    return terms(parse(examples))


GOOD = {
    "serving_default": reconstruct,
    "encode": encode,
    "decode": decode,
    "generate": generate,
    "elbo": elbo,
    "iwae": iwae,
    "elbo_examples": elbo_examples,
}


# What goes wrong, a fault each.

weights = tf.Module()
weights.bias = tf.Variable([0.0, np.nan])


@of_images
def with_a_nan_weight(images):
    answer = encode(images)
    return {**answer, "loc": answer["loc"] + weights.bias}


@of_images
def without_a_scale(images):
    return {"loc": encode(images)["loc"]}


@of_images
def with_a_flat_scale(images):
    answer = encode(images)
    return {**answer, "scale_tril": answer["scale_tril"][:, 0]}


@of_images_and_k
def iwae_of_each_sample(images, k):
    return {"iwae": tf.tile(terms(images)["elbo"][:, tf.newaxis], [1, k])}


@of_images
def of_another_shape(images):
    return {**reconstruct(images), "mode": images[:, :14]}


@of_images
def of_another_name(images):
    return {"mean": images, "output_1": images}


@signature(z=tf.TensorSpec([None, 2], tf.float32))
def another_decoder(z):
    return decode(z + 1)


@of_images
def random_each_time(images):
    return {**reconstruct(images), "mean": tf.random.uniform(tf.shape(images))}


@drawing
def without_the_seed(n, seed):
    return generate(n, 7 + 0 * seed)


@drawing
def above_one(n, seed):
    drawn = generate(n, seed)
    return {**drawn, "mean": 2 * drawn["mean"]}


@of_examples
def another_elbo(examples):
    scores = elbo_examples(examples)
    return {**scores, "elbo": scores["elbo"] + 1}


def with_neighbours(scores):
    return {**scores, "elbo": scores["elbo"] - tf.reduce_sum(scores["elbo"])}


elbo_with_neighbours = of_images(lambda images: with_neighbours(elbo(images)))
examples_with_neighbours = of_examples(
    lambda examples: with_neighbours(elbo_examples(examples))
)


@of_images
def refusing(images):
    check = tf.debugging.Assert(False, ["these images are not to my taste"])
    with tf.control_dependencies([check]):
        return {"mean": tf.identity(images), "mode": images}


WHOLE = (8, 28, 28, 1)
FAULTS = {
    "none": ({}, None),
    "missing": (
        {"elbo": None},
        "signature elbo is missing: has "
        "['decode', 'elbo_examples', 'encode', 'generate', 'iwae', 'serving_default']",
    ),
    "no iwae": (
        {"iwae": None},
        "signature iwae is missing: has "
        "['decode', 'elbo', 'elbo_examples', 'encode', 'generate', 'serving_default']",
    ),
    "no decode": (
        {"decode": None},
        "signature decode is missing: has "
        "['elbo', 'elbo_examples', 'encode', 'generate', 'iwae', 'serving_default']",
    ),
    "another decoder": (
        {"decode": another_decoder},
        "decode: at encode's loc it must give what reconstruct does",
    ),
    "an IAF": ({"encode": without_a_scale}, None),
    "scale": (
        {"encode": with_a_flat_scale},
        "encode: outputs must be {'loc': (8, 2), 'scale_tril': (8, 2, 2)}, "
        "got {'loc': (8, 2), 'scale_tril': (8, 2)}",
    ),
    "a bound of each sample": (
        {"iwae": iwae_of_each_sample},
        "iwae: outputs must be {'iwae': (8,)}, got {'iwae': (8, 3)}",
    ),
    "nan": (
        {"encode": with_a_nan_weight},
        "encode: loc must be finite, got NaN or infinity",
    ),
    "shape": (
        {"serving_default": of_another_shape},
        f"serving_default: outputs must be {{'mean': {WHOLE}, 'mode': {WHOLE}}}, "
        f"got {{'mean': {WHOLE}, 'mode': (8, 14, 28, 1)}}",
    ),
    "name": (
        {"serving_default": of_another_name},
        f"serving_default: outputs must be {{'mean': {WHOLE}, 'mode': {WHOLE}}}, "
        f"got {{'mean': {WHOLE}, 'output_1': {WHOLE}}}",
    ),
    "random": (
        {"serving_default": random_each_time},
        "serving_default: mean must be the same for the same input",
    ),
    "seedless": (
        {"generate": without_the_seed},
        "generate: two seeds must not give the same images",
    ),
    "improbable": (
        {"generate": above_one},
        "generate: mean must be a probability, in [0, 1]",
    ),
    "disagreement": (
        {"elbo_examples": another_elbo},
        "elbo and elbo_examples must agree on the same images",
    ),
    "neighbours": (
        {"elbo": elbo_with_neighbours, "elbo_examples": examples_with_neighbours},
        "elbo: an image's ELBO must not depend on its batch",
    ),
    "empty": (
        {"elbo": of_images(terms)},
        "elbo: an empty batch must be refused",
    ),
}

# Runs the probe's check on each of the folders argv[2:], in one process.
CHECK_ALL = """
import json, runpy, sys
check = runpy.run_path(sys.argv[1])["check"]
verdicts = []
for folder in sys.argv[2:]:
    try:
        verdicts.append(check(folder))
    except (OSError, ValueError) as error:
        verdicts.append(str(error))
for name in ("tensorflow_probability", "tf_keras", "tfx.v1", "model", "components"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        verdicts.append(str(error))
print(json.dumps(verdicts))
"""


def save(folder, faults):
    signatures = {**GOOD, **faults}
    given = {name: function for name, function in signatures.items() if function}
    tf.saved_model.save(weights, str(folder), signatures=given)
    return str(folder)


ABSENT = ["tensorflow_probability", "tf_keras", "tfx", "model", "components"]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    folders = [save(root / name, faults) for name, (faults, _) in FAULTS.items()]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS")
    command = [sys.executable, "-I", "-c", CHECK_ALL, str(PROBE), *folders, str(root)]
    result = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    verdicts = json.loads(result.stdout)
    return dict(zip([*FAULTS, "no model", *ABSENT], verdicts, strict=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(verdicts, fault):
    _, expected = FAULTS[fault]
    assert verdicts[fault] == expected


def test_what_is_no_saved_model(verdicts):
    assert verdicts["no model"].startswith("SavedModel file does not exist at: ")


@pytest.mark.parametrize("name", ABSENT)
def test_a_model_server_has_neither_tfp_nor_our_code(verdicts, name):
    assert verdicts[name] == f"a model server has no {name}"


# The whole step, each time with a process of its own.


@pytest.fixture
def model(tmp_path):
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    return model


@pytest.fixture
def blessing(tmp_path):
    blessing = standard_artifacts.InfraBlessing()
    blessing.uri = str(tmp_path / "blessing")
    os.mkdir(blessing.uri)
    return blessing


def test_a_real_export_is_blessed(model, blessing):
    vae = VAE(ModelConfig(hidden_units=8, latent_size=2))
    serving.export(vae, path_utils.serving_model_dir(model.uri), samples=2, seed=0)
    InfraCheck.test_call(model=model, blessing=blessing)
    assert model_utils.is_infra_validated(blessing)
    assert not blessing.has_custom_property("reason")
    assert os.listdir(blessing.uri) == ["INFRA_BLESSED"]


def test_why_an_export_is_not_blessed_stands_in_one_line(model, blessing):
    save(path_utils.serving_model_dir(model.uri), {"serving_default": refusing})
    InfraCheck.test_call(model=model, blessing=blessing)
    assert not model_utils.is_infra_validated(blessing)
    reason = blessing.get_string_custom_property("reason")
    assert reason.startswith("InvalidArgumentError: ")
    assert "\n" not in reason
    assert "these images are not to my taste" in reason
    [path] = pathlib.Path(blessing.uri).iterdir()
    assert path.name == "INFRA_NOT_BLESSED"
    assert path.read_text() == reason


def test_no_answer_in_time(tmp_path):
    reason = probe(str(tmp_path), timeout=0.01)
    assert reason == "no answer to every signature within 0.01 s"


def test_a_crash(tmp_path):
    """As when the memory is used up: a kill in the midst of an answer."""
    started = tmp_path / "started"

    @of_images
    def endless(images):
        with tf.control_dependencies([tf.io.write_file(str(started), "")]):
            i = tf.while_loop(lambda i: i >= 0, lambda i: 1 - i, [tf.constant(0)])[0]
        return {"mean": images, "mode": images + tf.cast(i, tf.float32)}

    def kill_the_probe():
        while not started.exists():
            time.sleep(0.05)
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().split(b"\0")
            except FileNotFoundError:  # it has ended
                continue
            if folder.encode() in command:
                os.kill(int(process.name), signal.SIGKILL)

    folder = save(tmp_path / "model", {"serving_default": endless})
    threading.Thread(target=kill_the_probe, daemon=True).start()
    assert probe(folder) == "the probe ended with -9"
