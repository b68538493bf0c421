"""Images/s of a training step: the post's recipe as published, and the presets.

The preset `blog` has the post's networks. The post's recipe runs in a process with
TensorFlow's own defaults. `demo`, the fastest preset, is also compared with its input
pipeline alone, which should be at least 5 times as fast.
"""

from pipeline.config.loading import resolve
from tests.benchmarks import presets, race


def main() -> None:
    """Measures and prints images/s of all recipes, and of `demo` and its input."""
    print("A training step, with the data at hand:", flush=True)
    ours = [
        presets.contender(label, config) for label, config in presets.of_speed().items()
    ]
    race.run([race.Contender("the post's"), *ours])
    print("A training step, and the input pipeline alone:", flush=True)
    demo = resolve("demo")
    race.run(
        [
            presets.contender("demo (dense)", demo),
            presets.contender("its input", demo, "input"),
        ]
    )


if __name__ == "__main__":
    main()
