import pytest

from model.config import ModelConfig, TrainConfig


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        (ModelConfig, "latent_size", 0, "latent_size must be at least 1, got 0"),
        (ModelConfig, "base_depth", 0, "base_depth must be at least 1, got 0"),
        (ModelConfig, "hidden_units", -1, "hidden_units must be at least 1, got -1"),
        (ModelConfig, "beta", -0.5, "beta must be at least 0.0, got -0.5"),
        (ModelConfig, "beta", float("nan"), "beta must be at least 0.0, got nan"),
        (TrainConfig, "epochs", 0, "epochs must be at least 1, got 0"),
        (TrainConfig, "batch_size", 0, "batch_size must be at least 1, got 0"),
        (TrainConfig, "learning_rate", 0.0, "learning_rate must be above 0.0, got 0.0"),
        (TrainConfig, "warmup_steps", -1, "warmup_steps must be at least 0, got -1"),
        (TrainConfig, "clip_norm", 0.0, "clip_norm must be above 0.0, got 0.0"),
        (TrainConfig, "seed", -1, "seed must be at least 0, got -1"),
        (TrainConfig, "replicas", -1, "replicas must be at least 0, got -1"),
        (TrainConfig, "replicas", 3, r"a multiple of replicas \(3\), got 256"),
    ],
)
def test_a_value_out_of_range_is_named(section, field, value, message):
    with pytest.raises(ValueError, match=message):
        section(**{field: value})


def test_no_clipping_is_allowed():
    assert TrainConfig(clip_norm=None).clip_norm is None
