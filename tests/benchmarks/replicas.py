"""Images/s of a training step on 1 and 2 replicas, and without tf.distribute.

Replicas are logical CPUs: they share the machine's cores, so 2 gain little. The ratio
of 1 replica to none is what MirroredStrategy itself costs: at least 0.9 is wanted.
"""

from tests.benchmarks import presets, race


def main() -> None:
    """Measures and prints."""
    for label, config in presets.of_speed().items():
        print(f"Replicas, preset {label}:", flush=True)
        race.run(
            [
                presets.contender("no strategy", config, "steps without tf.distribute"),
                presets.contender("1 replica", config, replicas=1),
                presets.contender("2 replicas", config, replicas=2),
            ]
        )


if __name__ == "__main__":
    main()
