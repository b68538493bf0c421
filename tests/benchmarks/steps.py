"""Images/s of a training step: the post's recipe as published, and our presets.

The preset `blog` has the post's networks; the post's has a process with TensorFlow's
own defaults.
"""

from tests.benchmarks import presets, race


def main() -> None:
    """Measures and prints."""
    print("A training step, with the data at hand:", flush=True)
    ours = [
        presets.contender(label, config) for label, config in presets.of_speed().items()
    ]
    race.run([race.Contender("the post's"), *ours])


if __name__ == "__main__":
    main()
