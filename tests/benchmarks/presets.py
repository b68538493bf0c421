"""The presets that are measured, as contenders."""

import dataclasses

from pipeline.config.loading import DEFAULT, PRESETS, PipelineConfig, resolve
from tests.benchmarks.race import Contender


def of_speed() -> dict[str, PipelineConfig]:
    """Returns, by their labels, the presets whose training steps differ."""
    found = {}
    for name in PRESETS:
        config = resolve(name)
        # That of the tests is too small to say anything.
        if name != "smoke":
            found.setdefault((config.model, config.train.batch_size), (name, config))
    return dict(map(_labelled, found.values()))


def of_time() -> dict[str, PipelineConfig]:
    """Returns, by their labels, the presets that are trained against the clock."""
    return dict(_labelled((name, resolve(name))) for name in (DEFAULT, "demo", "blog"))


def contender(
    name: str, config: PipelineConfig, what: str = "steps", **train
) -> Contender:
    """Returns a contender with a preset's settings, but for some of `train`."""
    settings = dataclasses.asdict(config.train) | train
    return Contender(name, dataclasses.asdict(config.model), settings, what)


def _labelled(preset: tuple[str, PipelineConfig]) -> tuple[str, PipelineConfig]:
    name, config = preset
    return f"{name} ({config.model.network})", config
