"""The command `generate`: draws new images from a pushed model.

It needs the SavedModel and TensorFlow; no TFX, no TFP, no data set.
"""

import argparse
import math
import secrets
from typing import TYPE_CHECKING

from pipeline.cli import options, pushed_model
from pipeline.config import loading

if TYPE_CHECKING:
    from pipeline.cli.pushed_model import PushedModel
    from pipeline.console import Screen

_MOST_IMAGES = 10_000  # no viewer shows a larger picture


def add_command(commands: options.Commands) -> None:
    """Adds the command `generate` to the command line."""
    parser = pushed_model.add_model_command(
        commands,
        "generate",
        function=generate,
        summary="draw new images from the served model",
        description="Draws z from the prior; shows the modes, or the means, of p(x|z) "
        "in one PNG.",
        examples=["generate", "generate -n 100 --seed 7 --mean -o means.png"],
    )
    parser.add_argument(
        "-n", type=int, default=64, metavar="N", help="how many (default: 64)"
    )
    parser.add_argument(
        "--seed", type=int, help="the same images again (default: others each time)"
    )
    parser.add_argument(
        "--mean", action="store_true", help="the means of p(x|z), not its modes"
    )
    options.add_picture_option(parser, "digits.png")


def generate(args: argparse.Namespace) -> int:
    """Writes a picture of new images; returns the exit code."""
    if not 1 <= args.n <= _MOST_IMAGES:
        raise loading.ConfigError(f"-n must be from 1 to {_MOST_IMAGES}, got {args.n}")
    seed = secrets.randbelow(2**31) if args.seed is None else args.seed
    if not -(2**63) <= seed < 2**63:
        raise loading.ConfigError(f"--seed must be of 64 bits, got {seed}")
    options.check_picture_option(args)

    def use(model: "PushedModel", console: "Screen") -> None:
        import tensorflow as tf

        from components.evaluation import measure
        from pipeline.cli import image_files

        signature = measure.load_signatures(model.folder, "generate")["generate"]
        kind = "mean" if args.mean else "mode"
        drawn = signature(n=tf.constant(args.n), seed=tf.constant(seed, tf.int64))
        columns = math.ceil(math.sqrt(args.n))
        picture = image_files.grid(drawn[kind].numpy(), columns)
        image_files.write_png(picture, args.output)
        console.line(
            f"{args.output}: {args.n:,} {kind}s of p(x|z), z from the prior, seed "
            f"{seed}, by {model}"
        )

    return pushed_model.run_with_model(args, "generate", use=use)
