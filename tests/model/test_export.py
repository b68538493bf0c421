"""The signatures of an export, compared with the model in memory."""

import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk

from model import export, fixed_noise
from model.vae import VAE
from tests.support import transformed
from tests.support.configs import demo_model
from tests.support.densities import move

SAMPLES, SEED = 3, 11
# an example with a label alone
LABELLED = b"\n\x10\n\x0e\n\x05label\x12\x05\x1a\x03\n\x01\x07"
MANY = 2 * export._BLOCK + 5  # number of samples: two whole blocks and a part of one

# Runs where TFP, Keras and this project's packages cannot be imported. Calls the
# signatures with the inputs that it receives, and returns the outputs or errors.
CLIENT = """
import pickle, sys

class Absent:
    names = {"tensorflow_probability", "tf_keras", "model", "components", "pipeline"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
answers = []
for name, inputs in pickle.load(sys.stdin.buffer):
    tensors = {key: tf.constant(value, dtype) for key, (value, dtype) in inputs.items()}
    try:
        outputs = loaded.signatures[name](**tensors)
        answers.append({key: value.numpy() for key, value in outputs.items()})
    except Exception as error:
        answers.append((type(error).__name__, str(error)))
pickle.dump(answers, sys.stdout.buffer)
"""


def old_example(bits):
    """Returns an example in the format of an older release's Transform."""
    message = tf.train.Example()
    values = bits.ravel().astype(int)
    message.features.feature["binarized"].int64_list.value.extend(values)
    return message.SerializeToString()


@pytest.fixture(scope="module", params=["dense", "blog"])
def vae(request):
    tfk.utils.set_random_seed(1)
    return VAE(
        demo_model(network=request.param, latent_size=3, base_depth=2, hidden_units=16)
    )


@pytest.fixture(scope="module")
def answers(vae, tmp_path_factory):
    """Returns the outputs of the exported signatures, by a name for each request."""
    rng = np.random.default_rng(0)
    grey = (rng.integers(0, 256, [6, 28, 28, 1]) / 255).astype(np.float32)
    bits = fixed_noise.binarize(grey, SEED).numpy()
    z = rng.normal(size=[4, 3]).astype(np.float32)
    f, i, s = "float32", "int32", "string"
    requests = {
        "reconstruct": ("reconstruct", {"images": (bits, f)}),
        "serving_default": ("serving_default", {"images": (bits, f)}),
        "encode": ("encode", {"images": (bits, f)}),
        "generate": ("generate", {"n": (5, i), "seed": (9, "int64")}),
        "again": ("generate", {"n": (5, i), "seed": (9, "int64")}),
        "other": ("generate", {"n": (5, i), "seed": (10, "int64")}),
        "decode": ("decode", {"z": (z, f)}),
        "decode of none": ("decode", {"z": (z[:0], f)}),
        "decode of another length": ("decode", {"z": (z[:, :2], f)}),
        "decode of infinity": ("decode", {"z": (z * np.inf, f)}),
        "elbo": ("elbo", {"images": (grey, f)}),
        "iwae": ("iwae", {"images": (grey, f), "k": (5, i)}),
        "iwae of one": ("iwae", {"images": (grey, f), "k": (1, i)}),
        "iwae of many": ("iwae", {"images": (grey, f), "k": (MANY, i)}),
        "iwae alone": ("iwae", {"images": (grey[4:5], f), "k": (MANY, i)}),
        "iwae of none": ("iwae", {"images": (grey, f), "k": (0, i)}),
        "empty iwae": ("iwae", {"images": (np.zeros([0, 28, 28, 1]), f), "k": (1, i)}),
        "alone": ("elbo", {"images": (grey[4:5], f)}),
        "examples": (
            "elbo_examples",
            {"examples": ([transformed.example(b, b) for b in bits], s)},
        ),
        "old examples": (
            "elbo_examples",
            {"examples": ([old_example(b) for b in bits], s)},
        ),
        "both kinds of examples": (
            "elbo_examples",
            {
                "examples": (
                    [
                        old_example(b) if i % 2 else transformed.example(b, b)
                        for i, b in enumerate(bits)
                    ],
                    s,
                )
            },
        ),
        "an example without an image": (
            "elbo_examples",
            {"examples": ([old_example(bits[0]), LABELLED], s)},
        ),
        "empty": ("elbo", {"images": (np.zeros([0, 28, 28, 1]), f)}),
        "no examples": ("elbo_examples", {"examples": ([], s)}),
        "wrong shape": ("encode", {"images": (np.zeros([2, 27, 28, 1]), f)}),
        "wrong rank": ("encode", {"images": (np.zeros([2, 28, 28]), f)}),
        "garbage": ("elbo_examples", {"examples": ([b"garbage"], s)}),
        "nan": ("reconstruct", {"images": (bits * np.nan, f)}),
        "out of range": ("elbo", {"images": (bits + 1, f)}),
        "none": ("generate", {"n": (0, i), "seed": (9, "int64")}),
    }
    directory = str(tmp_path_factory.mktemp("export") / "model")
    export.export(vae, directory, samples=SAMPLES, seed=SEED)
    result = subprocess.run(
        [sys.executable, "-I", "-c", CLIENT, directory],
        input=pickle.dumps(list(requests.values())),
        capture_output=True,
        check=False,
        env={"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    got = dict(zip(requests, pickle.loads(result.stdout)))
    return {"grey": grey, "bits": bits, "z": z, **got}


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_reconstruct_is_the_model_in_memory(vae, answers):
    expected = vae.decode(vae.encode(answers["bits"]).mean())
    close(answers["reconstruct"]["mean"], expected.mean())
    close(answers["reconstruct"]["mode"], expected.mean().numpy() > 0.5)
    close(answers["serving_default"]["mean"], answers["reconstruct"]["mean"])


def test_encode_is_the_model_in_memory(vae, answers):
    posterior = vae.encode(answers["bits"])
    close(answers["encode"]["loc"], posterior.mean())
    tril = answers["encode"]["scale_tril"]
    close(tril @ np.swapaxes(tril, 1, 2), posterior.covariance())


def test_generate_repeats_exactly(vae, answers):
    for key in ("mean", "mode"):
        np.testing.assert_array_equal(answers["generate"][key], answers["again"][key])
    assert not np.array_equal(answers["generate"]["mean"], answers["other"]["mean"])
    z = tf.random.stateless_normal([5, 3], [9, 0], alg="philox")
    close(answers["generate"]["mean"], vae.decode(z).mean())


def test_decode_is_the_model_in_memory(vae, answers):
    expected = vae.decode(answers["z"])
    close(answers["decode"]["mean"], expected.mean())
    close(answers["decode"]["mode"], expected.mean().numpy() > 0.5)


def test_elbo_is_the_model_in_memory(vae, answers):
    bits = answers["bits"]
    noise = fixed_noise.normal(bits, SEED, samples=SAMPLES, latent_size=3)
    terms = vae.elbo_terms(bits, noise)
    close(answers["elbo"]["elbo"], terms.elbo())
    close(answers["elbo"]["reconstruction"], terms.reconstruction)
    close(answers["elbo"]["kl"], terms.kl)


def test_iwae_of_one_sample_is_its_log_weight(vae, answers):
    """It is log p(x|z) + log p(z) - log q(z|x), from the distributions alone."""
    bits = answers["bits"]
    posterior = vae.encode(bits)
    noise = fixed_noise.normal(bits, SEED, samples=1, latent_size=3)[:, 0]
    z = posterior.loc + tf.linalg.matvec(posterior.scale_tril, noise)
    log_joint = vae.decode(z).log_prob(bits) + vae.prior.log_prob(z)
    close(answers["iwae of one"]["iwae"], log_joint - posterior.log_prob(z))


@pytest.mark.parametrize(("name", "k"), [("iwae", 5), ("iwae of many", MANY)])
def test_iwae_is_the_log_of_the_mean_weight(vae, answers, name, k):
    bits = answers["bits"]
    log_weights = vae.log_weights(
        bits, fixed_noise.normal(bits, SEED, samples=k, latent_size=3)
    ).numpy()
    top = log_weights.max(axis=1, keepdims=True)
    expected = top[:, 0] + np.log(np.mean(np.exp(log_weights - top), axis=1))
    assert answers[name]["iwae"].shape == (6,)
    close(answers[name]["iwae"], expected)


def test_an_images_iwae_does_not_depend_on_its_batch(answers):
    close(answers["iwae alone"]["iwae"], answers["iwae of many"]["iwae"][4:5])


def test_an_images_elbo_does_not_depend_on_its_batch(answers):
    close(answers["alone"]["elbo"], answers["elbo"]["elbo"][4:5])


@pytest.mark.parametrize(
    "request_", ["examples", "old examples", "both kinds of examples"]
)
def test_examples_give_what_their_images_give(answers, request_):
    for key in ("elbo", "reconstruction", "kl"):
        close(answers[request_][key], answers["elbo"][key])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            "an example without an image",
            "every example must have the feature bits of 98 bytes, or binarized",
        ),
        ("empty", "expected a batch of at least 1, got an empty one"),
        ("no examples", "expected a batch of at least 1, got an empty one"),
        (
            "wrong shape",
            "[2,27,28,1] is not compatible with expected shape [?,28,28,1]",
        ),
        ("wrong rank", "[2,28,28] is not compatible with expected shape [?,28,28,1]"),
        ("garbage", "Could not parse example input"),
        ("nan", "every pixel must be a number in [0, 1]"),
        ("out of range", "every pixel must be a number in [0, 1]"),
        ("none", "n must be at least 1"),
        ("iwae of none", "k must be at least 1"),
        ("decode of none", "expected a batch of at least 1, got an empty one"),
        (
            "decode of another length",
            "[4,2] is not compatible with expected shape [?,3]",
        ),
        ("decode of infinity", "every latent must be a finite number"),
        ("empty iwae", "expected a batch of at least 1, got an empty one"),
    ],
)
def test_bad_input_is_refused_with_its_reason(answers, request_, message):
    kind, text = answers[request_]
    assert kind == "InvalidArgumentError"
    assert message in text


EMPTY = "expected a batch of at least 1, got an empty one"


@pytest.fixture(scope="module")
def blog():
    vae = VAE(demo_model(network="blog", latent_size=3, base_depth=2))
    return export.ServingModule(vae, samples=SAMPLES, seed=SEED).signatures()


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("elbo_examples", {"examples": tf.constant([], tf.string)}, EMPTY),
        ("elbo", {"images": tf.zeros([0, 28, 28, 1])}, EMPTY),
        ("encode", {"images": tf.zeros([0, 28, 28, 1])}, EMPTY),
        ("reconstruct", {"images": tf.zeros([0, 28, 28, 1])}, EMPTY),
        ("decode", {"z": tf.zeros([0, 3])}, EMPTY),
        (
            "generate",
            {"n": tf.constant(-1), "seed": tf.constant(9, tf.int64)},
            "n must be at least 1",
        ),
        (
            "iwae",
            {"images": tf.zeros([0, 28, 28, 1]), "k": tf.constant(0)},
            "k must be at least 1",
        ),
    ],
)
def test_each_call_with_bad_input_gets_the_checks_own_message(
    blog, name, inputs, message
):
    """The work waits for the check; otherwise both would run at the same time."""
    for _ in range(100):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            blog[name](**inputs)


@pytest.fixture(scope="module")
def dense():
    tfk.utils.set_random_seed(1)
    return VAE(demo_model(network="dense", latent_size=3, hidden_units=16))


def test_iwae_grows_with_k(dense, images):
    signature = export.ServingModule(dense, samples=SAMPLES, seed=SEED).signatures()[
        "iwae"
    ]
    many = tf.repeat(images, 25, axis=0).numpy()
    many[:, 0, 0, 0] = np.arange(len(many)) % 25 / 255  # 300 different images
    bounds = [signature(images=many, k=tf.constant(k))["iwae"] for k in (1, 4, 16, 64)]
    for fewer, more in itertools.pairwise(bounds):
        gain = more.numpy() - fewer.numpy()
        assert gain.mean() > 2 * gain.std() / np.sqrt(len(gain))


@pytest.mark.parametrize(
    ("posterior", "likelihood", "scale"),
    [("diagonal", "bernoulli", 1.5), ("iaf", "continuous_bernoulli", 3.0)],
)
def test_iwae_comes_near_log_p_and_the_elbo_is_below(
    images, posterior, likelihood, scale
):
    """The reference is p(x), integrated over a grid of the two latents."""
    tfk.utils.set_random_seed(1)
    config = demo_model(
        latent_size=2, hidden_units=8, posterior=posterior, likelihood=likelihood
    )
    vae = VAE(config)
    # The posterior is wider than p(z|x), so that the weights have a finite variance.
    bias = vae.encoder.layers[-2].bias
    bias.assign(tf.tensor_scatter_nd_update(bias, [[2], [3]], [scale, scale]))
    images = images[:3]
    axis = np.linspace(-5, 5, 81, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    pixels = fixed_noise.binarize(images, SEED) if config.is_binary else images
    decoded = vae.decode(grid)
    log_joint = np.stack(
        [
            np.float64(decoded.log_prob(image)) + np.float64(vae.prior.log_prob(grid))
            for image in pixels
        ]
    )
    top = log_joint.max(axis=1, keepdims=True)
    step = np.float64(axis[1] - axis[0])
    exact = top[:, 0] + np.log(np.sum(np.exp(log_joint - top), axis=1) * step**2)
    noise = fixed_noise.normal(pixels, SEED, samples=500, latent_size=2)
    elbo = vae.elbo_terms(pixels, noise).elbo().numpy()
    gap = exact - elbo  # KL(q(z|x) || p(z|x))
    assert np.all(gap > 0.2)
    signature = export.ServingModule(vae, samples=SAMPLES, seed=SEED).signatures()[
        "iwae"
    ]
    iwae = signature(images=images, k=tf.constant(2_000))["iwae"]
    assert np.all(np.abs(exact - iwae) < 0.1 * gap)


def test_a_model_trained_on_two_replicas_exports_the_same(dense, tmp_path, binary):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        mirrored = VAE(dense.config)
        mirrored.set_weights(dense.get_weights())
    export.export(mirrored, str(tmp_path / "model"), samples=SAMPLES, seed=SEED)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    posterior = loaded.signatures["encode"](images=tf.constant(binary))
    close(posterior["loc"], dense.encode(binary).mean())


def test_the_same_model_is_the_same_whatever_was_built_before(dense, tmp_path):
    """TensorFlow's own fingerprint, which Pusher compares, is the same."""
    singleprints = []
    for name in ("once", "again"):
        VAE(dense.config)  # increases Keras's counters of names
        export.export(dense, str(tmp_path / name), samples=SAMPLES, seed=SEED)
        fingerprint = tf.saved_model.experimental.read_fingerprint(str(tmp_path / name))
        singleprints.append(fingerprint.singleprint())
    assert singleprints[0] == singleprints[1]


@pytest.mark.parametrize(
    "choices",
    [
        {"network": "conv_residual", "posterior": "iaf", "prior": "realnvp"},
        {
            "network": "dense",
            "prior": "vampprior",
            "prior_components": 4,
            "likelihood": "continuous_bernoulli",
        },
    ],
    ids=["flows", "vampprior of grey images"],
)
def test_any_choice_is_served_as_it_is_in_memory(choices, tmp_path, images):
    tfk.utils.set_random_seed(1)
    sizes = {"latent_size": 3, "base_depth": 2, "hidden_units": 16, "flow_units": 8}
    layers = {"posterior_layers": 1, "prior_layers": 2}
    vae = VAE(demo_model(**sizes, **layers, **choices))
    move(vae.trainable_variables)
    export.export(vae, str(tmp_path / "model"), samples=SAMPLES, seed=SEED)
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures

    posterior = vae.encode(images)
    loc = posterior.bijector.forward(np.zeros([12, 3], np.float32))
    close(signatures["encode"](images=tf.constant(images))["loc"], loc)
    for name in ("reconstruct", "serving_default"):
        got = signatures[name](images=tf.constant(images))
        close(got["mean"], vae.decode(loc).mean())
        close(got["mode"], vae.decode(loc).mode())
    decoded = signatures["decode"](z=tf.constant(loc))
    close(decoded["mean"], vae.decode(loc).mean())
    close(decoded["mode"], vae.decode(loc).mode())
    pixels = fixed_noise.binarize(images, SEED) if vae.config.is_binary else images
    terms = vae.elbo_terms(
        pixels, fixed_noise.normal(pixels, SEED, samples=SAMPLES, latent_size=3)
    )
    examples = [
        transformed.example(image, bits)
        for image, bits in zip(images, np.asarray(fixed_noise.binarize(images, SEED)))
    ]
    old_examples = [old_example_of(vae, image) for image in np.asarray(pixels)]
    for got in (
        signatures["elbo"](images=tf.constant(images)),
        signatures["elbo_examples"](examples=tf.constant(examples)),
        signatures["elbo_examples"](examples=tf.constant(old_examples)),
    ):
        close(got["elbo"], terms.elbo())
        close(got["reconstruction"], terms.reconstruction)
        close(got["kl"], terms.kl)
    request = {"n": tf.constant(5), "seed": tf.constant(9, tf.int64)}
    first, again = signatures["generate"](**request), signatures["generate"](**request)
    np.testing.assert_array_equal(first["mean"], again["mean"])
    close(first["mean"], vae.decode(vae.prior.sample(5, seed=[9, 0])).mean())


def old_example_of(vae, pixels):
    if vae.config.is_binary:
        return old_example(pixels)
    message = tf.train.Example()
    message.features.feature["image"].float_list.value.extend(pixels.ravel())
    return message.SerializeToString()
