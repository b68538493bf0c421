"""The command `score`: prints the ELBO of each image under a pushed model.

It needs the SavedModel and TensorFlow, but no TFX, no TFP and no data set.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from pipeline.cli import options, pushed_model
from pipeline.cli.command import command

if TYPE_CHECKING:
    import tensorflow as tf

    from pipeline.cli.image_files import Images
    from pipeline.cli.pushed_model import PushedModel
    from pipeline.console import Console

_REPORT_EVERY = 5.0  # seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageScore:
    """The ELBO of an image and its terms, in nats. `--json` prints these names."""

    image: str
    elbo: float
    reconstruction: float
    kl: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreOptions(pushed_model.ModelOptions):
    """The options of `score`."""

    images: tuple[str, ...]
    json: bool


@command(
    description="Prints the ELBO of each image, which is a lower bound on log p(x) in "
    "nats. The lowest ELBO comes first, so outliers are at the top of the list."
    f"\n\n{options.IMAGES}",
    examples=["score seven.png eight.png", "score digits.npy --json"],
)
@options.images_argument
@click.option("--json", is_flag=True, help="Print JSON instead of a list.")
@pushed_model.model_options
def score(args: ScoreOptions) -> int:
    """Prints the ELBO of each image, the lowest first; returns the exit code."""

    def use(model: "PushedModel", console: "Console") -> None:
        from components.evaluation import measure
        from pipeline.cli import image_files

        files = [
            image_files.read(path, console.print_to_stderr) for path in args.images
        ]
        signature = measure.load_signatures(model.folder, "elbo")["elbo"]
        scores = sorted(
            _score_images(files, signature, console=console),
            key=lambda each: each.elbo,
        )
        estimate = dataclasses.replace(model.read_estimate(), images=None)
        if args.json:
            content = {
                "version": model.version.number,
                "path": model.version.path,
                "bound": estimate.bound.value,
                "unit": "nats per image",
                "samples": estimate.samples,
                "binarization": estimate.binarization,
                "seed": estimate.seed,
                "images": [dataclasses.asdict(each) for each in scores],
            }
            console.line(json.dumps(content, indent=2))
            return
        words = f"{estimate.describe()}; {model}"
        console.line(f"nats per image, higher is better: {words}")
        console.line("    ELBO  reconstruction      KL  image")
        for each in scores:
            console.line(
                f"{each.elbo:8.2f}  {each.reconstruction:14.2f}  {each.kl:6.2f}  "
                f"{each.image}"
            )

    return pushed_model.run_with_model(args, "score", use=use, is_result_printed=True)


def _score_images(
    files: Sequence["Images"],
    signature: Callable[..., dict[str, "tf.Tensor"]],
    *,
    console: "Console",
) -> Iterator[ImageScore]:
    """Yields the score of each image; shows a progress line every few seconds.

    Args:
      files: the images.
      signature: the signature `elbo` of the SavedModel.
      console: the console for the progress lines.
    """
    import tensorflow as tf

    from components.evaluation.measure import BATCH
    from pipeline.cli import image_files

    count = sum(len(file.names) for file in files)
    done, reported = 0, time.monotonic()
    for names, pixels in image_files.batches(files, BATCH):
        outputs = signature(images=tf.constant(pixels))
        terms = (outputs[term].numpy() for term in ("elbo", "reconstruction", "kl"))
        for name, elbo, reconstruction, kl in zip(names, *terms):
            yield ImageScore(
                image=name,
                elbo=float(elbo),
                reconstruction=float(reconstruction),
                kl=float(kl),
            )
        done += len(names)
        if time.monotonic() - reported > _REPORT_EVERY and done < count:
            reported = time.monotonic()
            console.print_to_stderr(f"{done:,} of {count:,} images")
