"""Estimates of the ELBO: their descriptions, and their sources."""

import dataclasses

import pytest

from components.evaluation.estimate import Bound, Estimate
from components.registry.manifest import Manifest
from model.config import ModelConfig

BINARY = ModelConfig()
GREY = ModelConfig(likelihood="continuous_bernoulli")
CONFIG = {"gate": {"samples": 4, "seed": 7}, "model": {"latent_size": 2}}


def test_an_estimate_of_a_split_is_in_words():
    estimate = Estimate.of_model(
        Bound.ELBO, BINARY, samples=1_000, seed=7, images=10_000
    )
    assert estimate.describe() == (
        "the evidence lower bound, 1,000 samples of z per image, fixed binarization, "
        "seed 7, 10,000 images of the test split"
    )


def test_an_estimate_of_one_image_names_no_split():
    estimate = Estimate.of_model(Bound.IWAE, GREY, samples=64, seed=0)
    assert estimate.describe() == (
        "the importance-weighted bound, 64 samples of z per image, grey pixels, seed 0"
    )


def test_estimates_are_compared_by_their_values():
    one = Estimate.of_model(Bound.ELBO, BINARY, samples=4, seed=7, images=10)
    same = Estimate.of_model(
        Bound.ELBO, ModelConfig(latent_size=3), samples=4, seed=7, images=10
    )
    assert one == same
    changes = [
        *({"bound": Bound.IWAE}, {"samples": 5}, {"seed": 8}, {"binarization": None}),
        *({"images": 11}, {"split": "eval"}),
    ]
    for change in changes:
        other = dataclasses.replace(one, **change)
        assert other != one
        assert other.describe() != one.describe()


def test_a_manifest_gives_the_gates_estimate():
    content = {"config": CONFIG, "elbo": {"elbo": -90.5, "images": 500}}
    assert Estimate.from_manifest(Manifest.from_content(content)) == Estimate(
        bound=Bound.ELBO, samples=4, seed=7, binarization="fixed", images=500
    )
    grey = {**CONFIG, "model": {"likelihood": "continuous_bernoulli"}}
    found = Estimate.from_manifest(Manifest.from_content({"config": grey}))
    assert (found.binarization, found.images) == (None, None)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"gate": CONFIG["gate"]},
        {"model": CONFIG["model"]},
        {**CONFIG, "gate": {"samples": 4}},
        {**CONFIG, "gate": {"seed": 7}},
        {**CONFIG, "model": {"a_setting_of_another_release": 1}},
        {**CONFIG, "model": {"latent_size": 0}},
    ],
)
def test_a_manifest_that_does_not_say_gives_none(config):
    assert Estimate.from_manifest(Manifest.from_content({"config": config})) is None
