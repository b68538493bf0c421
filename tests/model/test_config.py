import pytest

from model.config import ModelConfig, TrainConfig


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        (ModelConfig, "latent_size", 0, "latent_size must be at least 1, got 0"),
        (ModelConfig, "base_depth", 0, "base_depth must be at least 1, got 0"),
        (ModelConfig, "hidden_units", -1, "hidden_units must be at least 1, got -1"),
        (ModelConfig, "posterior_layers", 0, "posterior_layers must be at least 1"),
        (ModelConfig, "prior_components", 0, "prior_components must be at least 1"),
        (ModelConfig, "prior_layers", 0, "prior_layers must be at least 1, got 0"),
        (ModelConfig, "flow_units", 0, "flow_units must be at least 1, got 0"),
        (ModelConfig, "free_bits", -1.0, "free_bits must be at least 0.0, got -1.0"),
        (ModelConfig, "free_bits", float("nan"), "free_bits must be at least 0.0"),
        (ModelConfig, "beta", -0.5, "beta must be at least 0.0, got -0.5"),
        (ModelConfig, "beta", float("nan"), "beta must be at least 0.0, got nan"),
        (TrainConfig, "epochs", 0, "epochs must be at least 1, got 0"),
        (TrainConfig, "batch_size", 0, "batch_size must be at least 1, got 0"),
        (TrainConfig, "learning_rate", 0.0, "learning_rate must be above 0.0, got 0.0"),
        (TrainConfig, "warmup_steps", -1, "warmup_steps must be at least 0, got -1"),
        (TrainConfig, "kl_warmup_steps", -1, "kl_warmup_steps must be at least 0"),
        (
            TrainConfig,
            "weight_decay",
            -1.0,
            "weight_decay must be at least 0.0, got -1.0",
        ),
        (TrainConfig, "ema", -0.1, "ema must be at least 0.0, got -0.1"),
        (TrainConfig, "ema", 1.0, "ema must be below 1.0, got 1.0"),
        (TrainConfig, "ema", float("nan"), "ema must be at least 0.0, got nan"),
        (TrainConfig, "patience", 0, "patience must be at least 1, got 0"),
        (TrainConfig, "checkpoint_minutes", 0.0, "checkpoint_minutes must be above 0"),
        (TrainConfig, "clip_norm", 0.0, "clip_norm must be above 0.0, got 0.0"),
        (TrainConfig, "seed", -1, "seed must be at least 0, got -1"),
        (TrainConfig, "seed", 2**32, r"seed must be below 2\*\*32, got 4294967296"),
        (TrainConfig, "replicas", -1, "replicas must be at least 0, got -1"),
        (TrainConfig, "replicas", 3, r"a multiple of replicas \(3\), got 256"),
    ],
)
def test_a_value_out_of_range_is_named(section, field, value, message):
    with pytest.raises(ValueError, match=message):
        section(**{field: value})


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
            {"posterior": "iaf", "latent_size": 1},
            "latent_size must be at least 2 with posterior iaf, got 1",
        ),
    ],
)
def test_choices_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**settings)


@pytest.mark.parametrize(
    ("likelihood", "binary"), [("bernoulli", True), ("continuous_bernoulli", False)]
)
def test_the_likelihood_says_whether_pixels_are_binary(likelihood, binary):
    assert ModelConfig(likelihood=likelihood).binary is binary


def test_no_clipping_is_allowed():
    assert TrainConfig(clip_norm=None).clip_norm is None
