"""Images/s of a training step on 1 and 2 replicas, and without tf.distribute.

Replicas are logical CPUs that share the machine's cores, so 2 replicas gain little.
The ratio of 1 replica to no strategy is the cost of MirroredStrategy itself; it should
be at least 0.9.
"""

from tests.benchmarks import presets, race


def main() -> None:
    """Measures and prints images/s of each preset, without and with a strategy."""
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
