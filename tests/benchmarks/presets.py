"""The presets that are measured: all but the tests' own."""

import dataclasses

from pipeline.config import PRESETS, PipelineConfig, resolve
from tests.benchmarks.race import Contender


def measured() -> dict[str, PipelineConfig]:
    """Returns them by name."""
    return {name: resolve(name) for name in PRESETS if name != "smoke"}


def contender(
    name: str, config: PipelineConfig, strategy: bool = True, **train
) -> Contender:
    """Returns a contender for races with a preset's settings, but for some of train."""
    model = dataclasses.asdict(config.model)
    return Contender(
        name, model, dataclasses.asdict(config.train) | train, strategy=strategy
    )
