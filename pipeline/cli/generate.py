"""The command `generate`: writes a picture of images drawn from a pushed model.

It needs the SavedModel and TensorFlow, but no TFX, no TFP and no data set.
"""

import dataclasses
import math
import secrets
from typing import TYPE_CHECKING

import click

from pipeline.cli import options, pushed_model
from pipeline.cli.command import command
from pipeline.cli.option_types import Number
from pipeline.config import loading

if TYPE_CHECKING:
    from pipeline.cli.pushed_model import PushedModel
    from pipeline.console import Console

_MOST_IMAGES = 10_000  # no viewer shows a larger picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateOptions(pushed_model.ModelOptions):
    """The options of `generate`."""

    n: int
    seed: int | None
    mean: bool
    output: str


@command(
    description="Draws values of z from the prior, and writes one PNG file that shows "
    "the modes, or the means, of p(x|z).",
    examples=["generate", "generate -n 100 --seed 7 --mean -o means.png"],
)
@click.option(
    "-n",
    type=Number(int, least=1, most=_MOST_IMAGES),
    metavar="IMAGES",
    default=64,
    help="Number of images to draw.",
)
@click.option(
    "--seed",
    type=Number(int),
    metavar="N",
    show_default="a new random seed each time",
    help="Seed of the random numbers; the same seed gives the same images again.",
)
@click.option(
    "--mean", is_flag=True, help="Show the means of p(x|z) instead of the modes."
)
@options.picture_option("digits.png")
@pushed_model.model_options
def generate(args: GenerateOptions) -> int:
    """Writes a PNG of images drawn from a pushed model; returns the exit code."""
    seed = secrets.randbelow(2**31) if args.seed is None else args.seed
    if not -(2**63) <= seed < 2**63:
        raise loading.ConfigError(f"--seed must be of 64 bits, got {seed}")

    def use(model: "PushedModel", console: "Console") -> None:
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
