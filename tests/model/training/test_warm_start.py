"""A warm start uses the weights of a model that fits, and of no other model."""

import os

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk

from model.training import warm_start
from model.vae import VAE
from tests.support.configs import demo_model


def vae_of(seed=0, **changes):
    tfk.utils.set_random_seed(seed)
    return VAE(demo_model(**{"latent_size": 2, "hidden_units": 4, **changes}))


def save(folder, variables):
    """Writes a SavedModel whose variables have the names of an export's variables."""
    module = tf.Module()
    module.variables_ = [tf.Variable(value) for value in variables]
    tf.saved_model.save(module, str(folder))
    return str(folder)


def load_into(vae, folder):
    """Returns the message of the warm start, and whether a weight has changed."""
    before = vae.get_weights()
    message = warm_start.load_weights(vae, folder)
    pairs = zip(before, vae.get_weights(), strict=True)
    return message, not all(np.array_equal(old, new) for old, new in pairs)


def test_the_weights_of_the_same_networks_are_loaded(tmp_path):
    served, vae = vae_of(seed=1), vae_of(seed=2)
    folder = save(tmp_path / "served", served.variables)
    assert (
        warm_start.load_weights(vae, folder)
        == f"warm start: with the weights of {folder}"
    )
    for ours, theirs in zip(vae.variables, served.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_without_a_served_model_training_starts_cold(tmp_path):
    found = load_into(vae_of(), str(tmp_path / "absent"))
    assert found == ("cold start: nothing is served", False)


def test_a_variable_of_another_shape_is_named(tmp_path):
    folder = save(tmp_path / "served", vae_of(hidden_units=5).variables)
    message, has_changed = load_into(vae_of(), folder)
    assert message == (
        "cold start: the networks differ: variable 0 of the served one has shape "
        "[784, 5], this one's [784, 4]"
    )
    assert not has_changed


def test_another_number_of_variables_is_named(tmp_path):
    vae = vae_of()
    count = len(vae.variables)
    message, has_changed = load_into(vae, save(tmp_path / "served", vae.variables[:-1]))
    assert message == (
        f"cold start: the networks differ: the served model has {count - 1} variables, "
        f"this one {count}"
    )
    assert not has_changed


def test_another_kind_of_model_is_named(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "served"))
    message, has_changed = load_into(vae_of(), str(tmp_path / "served"))
    start = f"cold start: {tmp_path}/served is no model of this pipeline ("
    assert message.startswith(start)
    assert "variables_" in message
    assert not has_changed
    os.mkdir(tmp_path / "empty")  # TensorFlow's error has several lines
    message, has_changed = load_into(vae_of(), str(tmp_path / "empty"))
    assert message.startswith(
        f"cold start: {tmp_path}/empty is no model of this pipeline"
    )
    assert "\n" not in message
    assert not has_changed


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        warm_start.load_weights(vae_of(), str(tmp_path / "file" / "served"))


def test_a_fault_of_the_disk_is_an_error(tmp_path, monkeypatch):
    """Another run may succeed with a warm start, so a cold start would be wrong."""

    def fail(folder):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(tf.saved_model, "load", fail)
    with pytest.raises(OSError, match="Input/output error"):
        warm_start.load_weights(vae_of(), str(tmp_path))
