"""The choice of the precision, and the ELBO of one model in both precisions."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk

from model.networks import precision
from model.vae import VAE
from tests.support.configs import demo_model, demo_train

AVX2 = "processor\t: {}\nmodel name\t: EPYC\nflags\t\t: fpu fma avx2\n\n"
AVX512_BF16 = "processor\t: {}\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\n"
AMX_BF16 = "processor\t: {}\nflags\t\t: fpu amx_bf16 amx_tile\n\n"
ARM = "processor\t: {}\nFeatures\t: fp asimd bf16\n\n"


@pytest.mark.parametrize(
    ("processors", "able"),
    [
        ([AVX2, AVX2], False),
        ([AVX512_BF16, AVX512_BF16], True),
        ([AMX_BF16], True),
        ([AVX512_BF16, AVX2], False),
        ([ARM], False),  # oneDNN has other kernels for Arm, which were not measured
        ([], False),
    ],
)
def test_a_cpus_flags_decide(processors, able):
    cpuinfo = "".join(text.format(i) for i, text in enumerate(processors))
    assert precision.cpu_multiplies_bfloat16(cpuinfo) == able


@pytest.mark.parametrize(
    ("details", "able"),
    [
        ({"compute_capability": (7, 5), "device_name": "Tesla T4"}, False),
        ({"compute_capability": (8, 0), "device_name": "NVIDIA A100"}, True),
        ({"compute_capability": (10, 0)}, True),
        ({"device_name": "of another maker"}, False),
    ],
)
def test_a_gpus_compute_capability_decides(details, able):
    assert precision.gpu_multiplies_bfloat16(details) == able


def test_the_policy_is_what_the_config_says():
    policies = [
        precision.choose_policy(demo_train(precision=p))
        for p in ("float32", "bfloat16")
    ]
    assert policies == ["float32", "mixed_bfloat16"]


@pytest.mark.parametrize(
    ("text", "policy"), [(AVX2, "float32"), (AMX_BF16, "mixed_bfloat16")]
)
def test_auto_is_what_the_processors_have(text, policy, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    monkeypatch.setattr(precision, "_CPUINFO", path)
    # Logical CPUs, so that a machine with a GPU gives the same.
    assert precision.choose_policy(demo_train(replicas=1)) == policy


def test_auto_without_a_cpuinfo_is_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "_CPUINFO", tmp_path / "none")
    assert precision.choose_policy(demo_train(replicas=1)) == "float32"


def strokes(count):
    """Returns binary images, float32 [N, 28, 28, 1], with two strokes and noise."""
    rng = np.random.default_rng(0)
    images = np.zeros([count, 28, 28, 1], np.float32)
    for image in images:
        top, left = rng.integers(2, 20, 2)
        image[top : top + 3, 4:24] = 1
        image[4:24, left : left + 3] = 1
    noise = rng.uniform(size=images.shape) < 0.01
    return np.abs(images - noise).astype(np.float32)


def trained(config, images, steps):
    """Returns a float32 VAE, trained until its logits are far from 0."""
    tfk.utils.set_random_seed(0)
    vae = VAE(config)
    # The rate falls to 0, so that the ELBO is flat around the weights, as at the end of
    # a training.
    rate = tfk.optimizers.schedules.CosineDecay(5e-3, steps)
    optimizer = tfk.optimizers.Adam(rate)
    optimizer.build(vae.trainable_variables)

    @tf.function(autograph=False)
    def step(images, noise):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(vae.elbo_terms(images, noise).elbo())
        gradients = tape.gradient(loss, vae.trainable_variables)
        optimizer.apply_gradients(zip(gradients, vae.trainable_variables))

    rng = np.random.default_rng(1)
    for _ in range(steps):
        noise = rng.normal(size=[32, 1, config.latent_size])
        step(tf.constant(rng.choice(images, 32)), tf.constant(noise, tf.float32))
    return vae


# On CPUs without bfloat16, TensorFlow's emulation truncates matrix products that
# hardware rounds. For dense layers this is a shift of 0.2%, which hardware does not
# have.
@pytest.mark.parametrize(
    ("network", "steps"),
    [
        pytest.param("dense", 800, marks=pytest.mark.nightly),
        pytest.param("blog", 120, marks=pytest.mark.nightly),
        ("conv_residual", 120),
    ],
)
def test_both_precisions_have_the_elbo_of_the_same_weights(network, steps):
    config = demo_model(network=network, latent_size=8, base_depth=8, hidden_units=256)
    images = strokes(500)
    vae = trained(config, images, steps)
    half = VAE(config, "mixed_bfloat16")
    half.set_weights(vae.get_weights())
    noise = np.random.default_rng(2).normal(size=[500, 1, 8]).astype(np.float32)

    terms, halfs = vae.elbo_terms(images, noise), half.elbo_terms(images, noise)

    logits = vae.decode(noise[:, 0]).distribution.logits_parameter()
    assert np.abs(logits).mean() > 2
    assert [term.dtype for term in halfs] == [tf.float32, tf.float32]
    # the two precisions do differ
    assert not np.array_equal(terms.elbo(), halfs.elbo())
    assert np.mean(halfs.elbo()) == pytest.approx(np.mean(terms.elbo()), abs=0.1)
