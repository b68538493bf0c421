"""The command `reconstruct`: writes a picture of a pushed model's reconstructions.

It needs the SavedModel and TensorFlow, but no TFX, no TFP and no data set.
"""

import dataclasses
import math
from typing import TYPE_CHECKING

from pipeline.cli import options, pushed_model
from pipeline.cli.command import command

if TYPE_CHECKING:
    from pipeline.cli.pushed_model import PushedModel
    from pipeline.console import Console

_MOST_IMAGES = 1_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructOptions(pushed_model.ModelOptions):
    """The options of `reconstruct`."""

    images: tuple[str, ...]
    output: str


@command(
    description="Writes one PNG file that shows each image beside the mode and the "
    "mean of p(x|z), where z is the model's encoding of the image."
    f"\n\n{options.IMAGES}",
    examples=["reconstruct seven.png", "reconstruct digits.npy -o pairs.png"],
)
@options.images_argument
@options.picture_option("reconstructed.png")
@pushed_model.model_options
def reconstruct(args: ReconstructOptions) -> int:
    """Writes a PNG of images and their reconstructions; returns the exit code."""

    def use(model: "PushedModel", console: "Console") -> None:
        import numpy as np
        import tensorflow as tf

        from components.evaluation import measure
        from pipeline.cli import image_files

        files = [
            image_files.read(path, console.print_to_stderr) for path in args.images
        ]
        count = sum(len(file.names) for file in files)
        if count > _MOST_IMAGES:
            raise image_files.ImageError(
                f"at most {_MOST_IMAGES:,} images are shown in one picture, got "
                f"{count:,}"
            )
        signature = measure.load_signatures(model.folder, "reconstruct")["reconstruct"]
        rows = []
        for _, pixels in image_files.batches(files, measure.BATCH):
            outputs = signature(images=tf.constant(pixels))
            columns = [pixels, outputs["mode"].numpy(), outputs["mean"].numpy()]
            rows.append(np.stack(columns, axis=1))
        shown = np.concatenate(rows)  # [N, 3, 28, 28, 1]
        # The picture is about as wide as high: `across` images, of three columns each,
        # are in a row.
        across = max(1, round(math.sqrt(count / 3)))
        images = shown.reshape(-1, *shown.shape[2:])
        picture = image_files.grid(images, 3 * across, group=3)
        image_files.write_png(picture, args.output)
        noun = "image" if count == 1 else "images"
        console.line(
            f"{args.output}: {count:,} {noun}, each as input, mode and mean, by {model}"
        )

    return pushed_model.run_with_model(args, "reconstruct", use=use)
