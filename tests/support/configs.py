"""Small configurations for tests: the preset `demo` with changes."""

import dataclasses
from typing import Any

from model.config import ModelConfig, TrainConfig
from pipeline.config import loading

_DEMO = loading.resolve("demo")


def demo_model(**changes: Any) -> ModelConfig:
    """Returns the model settings of the preset `demo`, with changes."""
    return dataclasses.replace(_DEMO.model, **changes)


def demo_train(**changes: Any) -> TrainConfig:
    """Returns the training settings of the preset `demo`, with changes."""
    return dataclasses.replace(_DEMO.train, **changes)
