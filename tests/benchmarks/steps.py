"""Images/s of a training step: the post's recipe as published, and our presets.

The preset `blog` has the post's networks; the post's has a process with TensorFlow's
own defaults.
"""

from tests.benchmarks import presets, race


def main() -> None:
    """Measures and prints."""
    print("A training step, with the data at hand:", flush=True)
    ours = [
        presets.contender(f"{name} ({config.model.network})", config)
        for name, config in presets.measured().items()
    ]
    race.run([race.Contender("the post's"), *ours])


if __name__ == "__main__":
    main()
