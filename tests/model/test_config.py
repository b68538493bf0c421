"""The model's and the training's configuration: which values are refused."""

import pydantic
import pytest

from model.config import ModelConfig, TrainConfig


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        (ModelConfig, {"latent_size": 0}),
        (ModelConfig, {"latent_size": 16.0}),
        (ModelConfig, {"latent_size": "16"}),
        (ModelConfig, {"latent_sise": 16}),
        (ModelConfig, {"network": "cnn"}),
        (TrainConfig, {"learning_rate": float("nan")}),
        (TrainConfig, {"warm_start": 1}),
    ],
)
def test_no_section_is_made_of_a_value_that_its_field_does_not_allow(section, settings):
    (name,) = settings
    with pytest.raises(pydantic.ValidationError) as caught:
        section(**settings)
    (error,) = caught.value.errors()
    assert error["loc"] == (name,)
    assert str(error["input"]) == str(settings[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"prior": "vampprior", "posterior": "iaf"},
            "posterior must be diagonal or full with prior vampprior, got iaf",
        ),
        (
            {"prior": "realnvp", "latent_size": 1},
            "latent_size must be at least 2 with prior realnvp, got 1",
        ),
        (
            {"prior": "standard", "posterior": "iaf", "latent_size": 1},
            "latent_size must be at least 2 with posterior iaf, got 1",
        ),
    ],
)
def test_choices_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        ModelConfig(**settings)


def test_a_batch_that_replicas_cannot_share_evenly_is_refused():
    message = r"batch_size must be a multiple of replicas \(3\), got 256"
    with pytest.raises(pydantic.ValidationError, match=message):
        TrainConfig(batch_size=256, replicas=3)
    assert TrainConfig(batch_size=255, replicas=3).replicas == 3


@pytest.mark.parametrize(
    ("likelihood", "binary"), [("bernoulli", True), ("continuous_bernoulli", False)]
)
def test_the_likelihood_states_whether_pixels_are_binary(likelihood, binary):
    assert ModelConfig(likelihood=likelihood).is_binary is binary


def test_no_clipping_is_allowed():
    assert TrainConfig(clip_norm=None).clip_norm is None
