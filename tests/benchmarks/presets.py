"""The presets that the benchmarks measure, as contenders."""

import dataclasses

from pipeline.config.loading import DEFAULT, PRESETS, PipelineConfig, resolve
from tests.benchmarks.race import Contender


def of_speed() -> dict[str, PipelineConfig]:
    """Returns the presets whose training steps differ, by label."""
    found = {}
    for name in PRESETS:
        config = resolve(name)
        # The preset of the tests is too small for a meaningful measurement.
        if name != "smoke":
            found.setdefault((config.model, config.train.batch_size), (name, config))
    return dict(map(_labelled, found.values()))


def of_time() -> dict[str, PipelineConfig]:
    """Returns the presets that are timed until they reach an ELBO, by label."""
    return dict(_labelled((name, resolve(name))) for name in (DEFAULT, "demo", "blog"))


def contender(
    name: str, config: PipelineConfig, what: str = "steps", **train
) -> Contender:
    """Returns a preset's contender; `train` replaces fields of its TrainConfig."""
    settings = dataclasses.asdict(config.train) | train
    return Contender(name, dataclasses.asdict(config.model), settings, what)


def _labelled(preset: tuple[str, PipelineConfig]) -> tuple[str, PipelineConfig]:
    name, config = preset
    return f"{name} ({config.model.network})", config
