"""The cost of TensorFlow's deterministic ops."""

import dataclasses

from pipeline.config.loading import DEFAULT, resolve
from tests.benchmarks import presets, race


def main() -> None:
    """Measures and prints images/s of a training step without and with these ops."""
    print("Deterministic ops: a training step without and with TF_DETERMINISTIC_OPS=1")
    for name in (DEFAULT, "demo"):
        usual = presets.contender(name, resolve(name))
        race.run(
            [
                usual,
                dataclasses.replace(
                    usual,
                    name=f"{name}, deterministic",
                    variables={"TF_DETERMINISTIC_OPS": "1"},
                ),
            ]
        )


if __name__ == "__main__":
    main()
