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

from components import infra_check
from components.infra_check import InfraCheck, ProbeError, probe
from model import export
from model.vae import VAE
from tests.support.configs import demo_model

PROBE = pathlib.Path(__file__).parents[2] / "components/evaluation/infra_probe.py"
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
    spec = tf.io.FixedLenFeature([], tf.string)
    parsed = tf.io.parse_example(examples, {"pixels": spec})
    pixels = tf.io.decode_raw(parsed["pixels"], tf.uint8, fixed_length=784)
    return tf.reshape(tf.cast(pixels, tf.float32) / 255.0, [-1, *SHAPE])


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

# Calls the probe's function on each of the folders argv[2:], in one process.
REFUSALS = """
import json, runpy, sys
refusal = runpy.run_path(sys.argv[1])["refusal"]
answers = []
for folder in sys.argv[2:]:
    try:
        answers.append(refusal(folder))
    except Exception as error:
        answers.append(f"raised {type(error).__name__}")
for name in ("tensorflow_probability", "tf_keras", "tfx.v1", "model", "components"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


def save(folder, faults):
    signatures = {**GOOD, **faults}
    given = {name: function for name, function in signatures.items() if function}
    tf.saved_model.save(weights, str(folder), signatures=given)
    return str(folder)


ABSENT = ["tensorflow_probability", "tf_keras", "tfx", "model", "components"]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    models = {name: faults for name, (faults, _) in FAULTS.items()} | OF_THE_MACHINE
    folders = [save(root / name, faults) for name, faults in models.items()]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS")
    command = [sys.executable, "-I", "-c", REFUSALS, str(PROBE), *folders, str(root)]
    result = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
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


# The whole step, each time with a process of its own.

TIMEOUT = 1_800  # seconds


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
    vae = VAE(demo_model(hidden_units=8, latent_size=2))
    export.export(vae, path_utils.serving_model_dir(model.uri), samples=2, seed=0)
    InfraCheck.test_call(model=model, blessing=blessing, timeout=TIMEOUT)
    assert model_utils.is_infra_validated(blessing)
    assert not blessing.has_custom_property("reason")
    assert os.listdir(blessing.uri) == ["INFRA_BLESSED"]


def test_why_an_export_is_not_blessed_stands_in_one_line(model, blessing):
    save(path_utils.serving_model_dir(model.uri), {"serving_default": refusing})
    InfraCheck.test_call(model=model, blessing=blessing, timeout=TIMEOUT)
    assert not model_utils.is_infra_validated(blessing)
    reason = blessing.get_string_custom_property("reason")
    assert reason.startswith("InvalidArgumentError: ")
    assert "\n" not in reason
    assert "these images are not to my taste" in reason
    [path] = pathlib.Path(blessing.uri).iterdir()
    assert path.name == "INFRA_NOT_BLESSED"
    assert path.read_text() == reason


def test_no_answer_in_time_decides_nothing(model, blessing):
    save(path_utils.serving_model_dir(model.uri), {})
    with pytest.raises(ProbeError) as error:
        InfraCheck.test_call(model=model, blessing=blessing, timeout=1)
    assert str(error.value) == (
        "the model must answer every signature within 1 s, and did not: that decides "
        "nothing about the model. Run again when the machine is less busy, or raise "
        "gate.infra_timeout"
    )
    assert not blessing.has_custom_property("blessed")
    assert os.listdir(blessing.uri) == []


def test_a_folder_that_is_not_there_decides_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        probe(str(tmp_path / "absent"), TIMEOUT)


def endless(started):
    """Returns a signature that says that it has started, and never answers."""

    @of_images
    def answer(images):
        with tf.control_dependencies([tf.io.write_file(str(started), "")]):
            i = tf.while_loop(lambda i: i >= 0, lambda i: 1 - i, [tf.constant(0)])[0]
        return {"mean": images, "mode": images + tf.cast(i, tf.float32)}

    return answer


def send_to_probes(folder, started, signals):
    """Sends a signal to each process that answers for a folder, one after another."""
    for signum in signals:
        while not started.exists():
            time.sleep(0.05)
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().split(b"\0")
            except FileNotFoundError:  # it has ended
                continue
            if folder.encode() in command:
                started.unlink()
                os.kill(int(process.name), signum)


def probed(tmp_path, signals):
    started = tmp_path / "started"
    folder = save(tmp_path / "model", {"serving_default": endless(started)})
    threading.Thread(
        target=send_to_probes, args=(folder, started, signals), daemon=True
    ).start()
    return probe(folder, TIMEOUT)


def test_sigkill_in_the_midst_of_an_answer_decides_nothing(tmp_path):
    """As when the memory is used up."""
    with pytest.raises(ProbeError) as error:
        probed(tmp_path, [signal.SIGKILL])
    assert str(error.value) == (
        "the process that calls every signature was ended by SIGKILL, as the kernel "
        "does when memory runs out: that decides nothing about the model. Mend the "
        "machine and run again"
    )


def test_a_model_in_which_two_processes_crash_is_refused(tmp_path):
    reason = probed(tmp_path, [signal.SIGSEGV, signal.SIGABRT])
    assert reason == "2 fresh processes crashed, with SIGSEGV and SIGABRT"


# What else may become of the process, with a script in the probe's place.


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Returns a function that probes with a script: a statement for each process."""

    def run(*statements):
        count = tmp_path / "count"
        count.write_text("0")
        path = tmp_path / "script.py"
        path.write_text(
            "import json, os, pathlib, signal, sys\n"
            f"count = pathlib.Path({str(count)!r})\n"
            "turn = int(count.read_text())\n"
            "count.write_text(str(turn + 1))\n"
            "def begin(): print('{}', flush=True)\n"
            "def answer(text): begin(); print(json.dumps({'refusal': text}))\n"
            f"exec({list(statements)!r}[turn])\n"
        )
        monkeypatch.setattr(infra_check, "_PROBE", path)
        reason = probe(str(tmp_path), TIMEOUT)
        assert count.read_text() == str(len(statements))
        return reason

    return run


def crash(signum, words=""):
    # What started the tests may have had the signal ignored.
    return (
        f"begin(); print({words!r}, file=sys.stderr); "
        f"signal.signal({signum}, signal.SIG_DFL); os.kill(os.getpid(), {signum})"
    )


def test_a_crash_and_then_a_good_answer_is_blessed(script, caplog):
    assert script(crash(signal.SIGSEGV), "answer(None)") is None
    assert "it crashed with SIGSEGV, and then answered" in caplog.text


def test_a_crash_and_then_a_fault_is_refused_for_the_fault(script):
    assert script(crash(signal.SIGFPE), "answer('no elbo')") == "no elbo"


@pytest.mark.parametrize(
    ("statements", "why"),
    [
        ([crash(signal.SIGTERM)], "was ended by SIGTERM"),
        ([crash(signal.SIGINT)], "was ended by SIGINT"),
        ([crash(signal.SIGBUS)], "was ended by SIGBUS"),
        ([crash(signal.SIGILL)], "was ended by SIGILL"),
        ([crash(40)], "was ended by signal 40"),
        ([crash(signal.SIGSEGV), crash(signal.SIGTERM)], "was ended by SIGTERM"),
        (
            [crash(signal.SIGABRT, "what():  std::bad_alloc")],
            "was ended by SIGABRT (bad_alloc)",
        ),
        (["os.kill(os.getpid(), 11)"], "was ended by SIGSEGV"),  # not by the model
        (["begin(); sys.exit('no space')"], "ended with exit code 1 (no space)"),
        (["begin()"], "ended with exit code 0 (it printed nothing)"),
        (["raise MemoryError"], "ended with exit code 1 (MemoryError)"),
    ],
)
def test_what_ends_the_process_otherwise_decides_nothing(script, statements, why):
    with pytest.raises(ProbeError) as error:
        script(*statements)
    assert str(error.value) == (
        f"the process that calls every signature {why}: that decides nothing about the "
        "model. Mend the machine and run again"
    )
