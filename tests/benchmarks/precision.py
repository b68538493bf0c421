"""Images/s of a training step in float32 and, where the processor has it, bfloat16."""

from model.config import TrainConfig
from model.networks import precision
from tests.benchmarks import presets, race


def main() -> None:
    """Measures and prints images/s of a training step in each precision."""
    if precision.choose_policy(TrainConfig()) == "float32":
        print("Precision: not measured, as no processor here multiplies bfloat16")
        return
    for label, config in presets.of_speed().items():
        print(f"Precision, preset {label}:", flush=True)
        race.run(
            [
                presets.contender(dtype, config, precision=dtype)
                for dtype in ("float32", "bfloat16")
            ]
        )


if __name__ == "__main__":
    main()
