"""Wall time until the test -ELBO is at most 115 nats: the post's recipe and presets.

All train on the data set's whole train split, one after another, each in a process of
its own. This takes half an hour or more, mostly for the post's recipe.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from tests.benchmarks import presets
from tests.benchmarks.clock import SEED, Training
from tests.benchmarks.race import environment

_EPOCHS = 15  # maximum for the post's recipe, which needs about 7


def train(training: Training) -> dict[str, Any]:
    """Runs a training in a process, prints its lines, and returns `clock.Log.last`.

    Raises:
      RuntimeError: the training failed.
    """
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.benchmarks.clock"),
            json.dumps(dataclasses.asdict(training)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(ours=training.model is not None),
    ) as process:
        last = ""
        for line in process.stdout:
            if last:
                print(last, end="", flush=True)
            last = line
    if process.returncode:
        raise RuntimeError(
            f"the training {training.name!r} failed with exit code "
            f"{process.returncode}: see its error above"
        )
    return json.loads(last)


def table(bound: float, results: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Returns a line for each training, the baseline first.

    Args:
      bound: nats.
      results: names, and the results that `train` returned.
    """
    _, baseline = results[0]
    lines = []
    for name, result in results:
        at = f"epoch {result['epoch']}, test -ELBO {result['nats']:.1f} nats"
        if result["printed"] is not None:
            at += f", its printed loss {result['printed']:.1f}"
        if not result["reached"]:
            lines.append(f"  {name:28} did not reach {bound:g} nats: {at}")
            continue
        line = f"  {name:28} {result['seconds']:8,.0f} s"
        if baseline["reached"]:
            ratio = baseline["seconds"] / result["seconds"]
            line += f" {ratio:7.1f} x as fast as {results[0][0]}"
        lines.append(f"{line}   ({at})")
    return lines


def main(arguments: Sequence[str] = ()) -> None:
    """Runs all trainings and prints the table."""
    parser = argparse.ArgumentParser(prog="make bench-time")
    parser.add_argument("--dataset", default="mnist", help="a TFDS name")
    parser.add_argument(
        "--source", default="auto", help="as `vae-pipeline data` has it"
    )
    parser.add_argument("--data-dir", default="data", help="of prepared datasets")
    parser.add_argument("--bound", type=float, default=115.0, help="nats")
    options = parser.parse_args(arguments)
    print(
        f"Time until the test -ELBO is at most {options.bound:g} nats: one sample of "
        "z, the KL once, evaluated after each epoch; dynamic binarization in training, "
        f"fixed in the test; seed {SEED}:",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        _write(options, pathlib.Path(folder))
        common = {"folder": folder, "bound": options.bound, "epochs": _EPOCHS}
        trainings = [Training("the post's", **common)]
        for label, config in presets.of_time().items():
            trainings.append(
                Training(
                    label,
                    model=dataclasses.asdict(config.model),
                    train=dataclasses.asdict(config.train),
                    **common,
                )
            )
        results = [(training.name, train(training)) for training in trainings]
    print("\n".join(table(options.bound, results)), flush=True)


def _write(options: argparse.Namespace, folder: pathlib.Path) -> None:
    # Imported here, because this process has no other use for TensorFlow.
    from tests.benchmarks import digits

    digits.write(options.dataset, options.source, options.data_dir, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
