"""Exports of older releases: which of them need a conversion of examples, and how."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk

from components.evaluation import old_exports as converting
from model import export
from model.vae import VAE
from tests.support import old_exports, transformed
from tests.support.configs import demo_model


@pytest.mark.parametrize("likelihood", old_exports.FEATURES)
def test_an_export_of_an_older_release_needs_its_examples(tmp_path, likelihood):
    old_exports.unpack(tmp_path / "old", likelihood)
    signatures = tf.saved_model.load(str(tmp_path / "old")).signatures
    assert converting.needs_old_examples(signatures)


@pytest.mark.parametrize("likelihood", old_exports.FEATURES)
def test_an_export_of_today_needs_none(likelihood):
    tfk.utils.set_random_seed(1)
    vae = VAE(demo_model(latent_size=2, hidden_units=8, likelihood=likelihood))
    signatures = export.ServingModule(vae, samples=1, seed=0).signatures()
    assert not converting.needs_old_examples(signatures)


def test_an_export_that_understands_neither_is_left_alone():
    def refuse(examples):
        raise tf.errors.InvalidArgumentError(None, None, "neither")

    assert not converting.needs_old_examples({"elbo_examples": refuse})
    assert not converting.needs_old_examples({})


def test_a_fault_of_the_machine_is_no_answer():
    def fail(examples):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory")

    with pytest.raises(tf.errors.ResourceExhaustedError):
        converting.needs_old_examples({"elbo_examples": fail})


def test_a_converted_example_has_a_number_per_pixel(images, binary):
    serialized = transformed.example(images[0], binary[0], 7)
    found = tf.train.Example.FromString(converting.to_old_example(serialized))
    feature = found.features.feature
    np.testing.assert_array_equal(feature["image"].float_list.value, images[0].ravel())
    np.testing.assert_array_equal(
        feature["binarized"].int64_list.value, binary[0].ravel()
    )
    assert feature["label"].int64_list.value == [7]
    # This release's features stay in the example, because the candidate reads them.
    today = tf.train.Example.FromString(serialized).features.feature
    assert {name: feature[name] for name in today} == dict(today)
