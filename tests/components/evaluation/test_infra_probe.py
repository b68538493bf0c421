"""The probe of an export, which reports faults of the model, not of the machine."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.support.probed_models import (
    SHAPE,
    decode,
    drawing,
    elbo,
    elbo_examples,
    encode,
    generate,
    of_examples,
    of_images,
    of_images_and_k,
    reconstruct,
    save_model,
    signature,
    terms,
)

PROBE = pathlib.Path(__file__).parents[3] / "components/evaluation/infra_probe.py"

# Each of these functions and variables has one fault.

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


@of_examples
def elbo_of_bits(examples):
    """Returns the ELBO terms of examples whose `bits` pack 8 pixels a byte."""
    spec = tf.io.FixedLenFeature([], tf.string)
    packed = tf.io.parse_example(examples, {"bits": spec})["bits"]
    packed = tf.io.decode_raw(packed, tf.uint8, fixed_length=98)[..., tf.newaxis]
    places = tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8)
    bits = tf.bitwise.bitwise_and(tf.bitwise.right_shift(packed, places), 1)
    return terms(tf.reshape(tf.cast(bits, tf.float32), [-1, *SHAPE]))


@of_images
def beyond_all_memory(images):
    size = 1_000_000 * tf.shape(images)[0]
    return {"mean": images + tf.reduce_sum(tf.fill([size, size], 1.0)), "mode": images}


@of_images
def on_a_full_disk(images):
    with tf.control_dependencies([tf.io.write_file("/dev/full", "text")]):
        return {"mean": tf.identity(images), "mode": images}


WHOLE = (8, 28, 28, 1)
OF_THE_MACHINE = {
    "memory": {"serving_default": beyond_all_memory},
    "disk": {"serving_default": on_a_full_disk},
}
FAULTS = {
    "none": ({}, None),
    "the bits are read": ({"elbo_examples": elbo_of_bits}, None),
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

# Calls the probe's function on each of the folders argv[3:] in one process, and then
# imports the modules argv[1].
REFUSALS = """
import json, runpy, sys
refusal = runpy.run_path(sys.argv[2])["find_refusal"]
answers = []
for folder in sys.argv[3:]:
    try:
        answers.append(refusal(folder))
    except Exception as error:
        answers.append(f"raised {type(error).__name__}")
for name in sys.argv[1].split():
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


ABSENT = [
    *("tensorflow_probability", "tf_keras", "tfx"),
    *("model", "components", "pipeline"),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    models = {name: faults for name, (faults, _) in FAULTS.items()} | OF_THE_MACHINE
    folders = [
        save_model(root / name, faults, weights) for name, faults in models.items()
    ]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS")
    modules = " ".join(ABSENT).replace("tfx", "tfx.v1")
    result = subprocess.run(
        [
            *(sys.executable, "-I", "-c", REFUSALS, modules, str(PROBE)),
            *(*folders, str(root)),
        ],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    answers = json.loads(result.stdout)
    return dict(zip([*models, "no model", *ABSENT], answers, strict=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(refusals, fault):
    _, expected = FAULTS[fault]
    assert refusals[fault] == (f"ValueError: {expected}" if expected else None)


@pytest.mark.parametrize("fault", OF_THE_MACHINE)
def test_what_the_machine_lacks_refuses_no_model(refusals, fault):
    assert refusals[fault] == "raised ResourceExhaustedError"


def test_what_is_no_saved_model(refusals):
    assert refusals["no model"].startswith("OSError: SavedModel file does not exist at")


@pytest.mark.parametrize("name", ABSENT)
def test_a_model_server_has_neither_tfp_nor_our_code(refusals, name):
    assert refusals[name] == f"a model server has no {name}"


def run_as_script(folder):
    """Runs the probe on a folder; returns the exit code and its JSON lines, parsed."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS")
    result = subprocess.run(
        [sys.executable, "-I", str(PROBE), folder],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return result.returncode, [json.loads(line) for line in result.stdout.splitlines()]


def test_the_script_prints_the_model_and_then_why_it_is_refused(tmp_path):
    folder = save_model(tmp_path / "model", {"iwae": None})
    code, (before, after) = run_as_script(folder)
    assert (code, before) == (0, {"model": folder})
    assert after["refusal"].startswith("ValueError: signature iwae is missing: has ")


def test_the_script_prints_one_line_and_fails_when_the_machine_lacks_something(
    tmp_path,
):
    folder = save_model(tmp_path / "model", OF_THE_MACHINE["disk"])
    code, lines = run_as_script(folder)
    assert (code, lines) == (1, [{"model": folder}])
