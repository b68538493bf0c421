"""A pushed model's estimate, by its manifest."""

import pytest

from components.evaluation.estimate import Bound, Estimate
from components.registry.listing import Version
from components.registry.manifest import Manifest
from pipeline.cli import pushed_model


def version(config):
    return Version(7, "/serving/vae/7", Manifest.from_content({"config": config}))


def test_the_estimate_is_that_of_the_manifest():
    config = {"gate": {"samples": 4, "seed": 9}, "model": {"latent_size": 2}}
    assert pushed_model.read_estimate(version(config)) == Estimate(
        Bound.ELBO, samples=4, seed=9, binarization="fixed"
    )


@pytest.mark.parametrize("config", [{}, {"gate": {"samples": 4, "seed": 9}}])
def test_a_manifest_without_settings_is_named(config):
    with pytest.raises(ValueError, match="manifest of version 7") as error:
        pushed_model.read_estimate(version(config))
    assert str(error.value) == (
        "the manifest of version 7 must have the settings gate and model of this "
        "release: another release pushed it, or another program; name another version"
    )
