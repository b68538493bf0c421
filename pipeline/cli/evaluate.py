"""The command `evaluate`: measures a pushed model on the test split."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from model.errors import PipelineError
from pipeline.cli import options, pushed_model
from pipeline.cli.command import command
from pipeline.cli.command_console import (
    fail,
    fail_with,
    get_result_code,
    open_console,
)
from pipeline.cli.option_types import Number
from pipeline.config import loading
from pipeline.exit_codes import INTERRUPTED

if TYPE_CHECKING:
    import tensorflow as tf

    from components.datasets.prepare import Prepared
    from components.evaluation.estimate import Estimate
    from components.evaluation.measure import Measurements
    from model.training.progress import ImageRate
    from pipeline.cli.pushed_model import PushedModel
    from pipeline.console import Console

_DESCRIPTION = """\
Measures a pushed model with its own signatures on the test split of a data set.

The command prints the ELBO and its terms, the log-likelihood of the same images under
independent pixels, the importance-weighted bound IWAE (Burda et al. 2016), which
approaches log p(x) with more samples, and the number of active latent dimensions. The
independent pixels are fitted on the train split of the same data set. The command
trains no model, makes no gate decision and pushes nothing. It uses the seed, the number
of ELBO samples and the kind of pixels that the model was exported with.

With 1,000 samples and 10,000 images, the measurement takes about ten minutes on two
cores for dense networks, and about an hour for convolutions. Ctrl-C stops the
measurement and prints the means of the images that were measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions(options.Settings):
    """The options of `evaluate`."""

    iwae: int | None
    version: int | None
    limit: int | None
    data_dir: str


@command(
    description=_DESCRIPTION,
    examples=[
        "evaluate",
        "evaluate --iwae 1000 --limit 2000",
        "evaluate --version 1795435726 --set push.destination=s3://models/serving",
    ],
)
@click.option(
    "--iwae",
    type=Number(int, least=1),
    metavar="K",
    show_default="the setting gate.iwae_samples",
    help="Number of samples of z per image in the importance-weighted bound.",
)
@options.version_option
@click.option(
    "--limit",
    type=Number(int, least=1),
    metavar="IMAGES",
    show_default="all images that the setting data.limit permits",
    help="Largest number of images to measure, from the start of the test split.",
)
@options.data_dir_option
@options.settings_options
def evaluate(args: EvaluateOptions) -> int:
    """Measures a pushed model's ELBO and IWAE bound; returns the exit code.

    Shows the figures in a table on the console.
    """
    resolved = options.resolve(args)
    options.check_encoding(args.root, args.data_dir)
    destination = options.destination(args, resolved)
    with open_console(args.root, "evaluate") as console:
        try:
            with pushed_model.fetch(
                destination, args.version, warn=console.line
            ) as model:
                return _measure(args, resolved, model=model, console=console)
        except PipelineError as error:
            return fail_with(console, error)


def _measure(
    args: EvaluateOptions,
    resolved: loading.PipelineConfig,
    *,
    model: "PushedModel",
    console: "Console",
) -> int:
    """Measures the model on the test split and shows the figures in a table.

    After an interrupt, the figures are those of the images measured before it.

    Returns:
      the exit code.

    Raises:
      SignatureError: the model lacks a signature.
      DataError: the data set can't be used.
      PushedModelError: the model's manifest lacks settings.
      StorageError: the object store does not answer.
    """
    with console.step("Imports") as step:
        import numpy as np

        from components.datasets import prepare_spans
        from components.evaluation import independent_pixels, measure
        from components.evaluation.estimate import SPLIT
        from model.examples import BITS, PIXELS
        from model.training import signals
        from model.training.progress import ImageRate

        step.print_result("TensorFlow")
    data = prepare_spans.prepare_data(
        resolved.data.dataset,
        resolved.data.source,
        window=resolved.data.span_window,
        data_dir=args.data_dir,
        print_line=console.line,
    )
    limit_of_each = resolved.data.limit
    counts = _count_images(
        data.parts, SPLIT, limit_in_all=args.limit, limit_of_each=limit_of_each
    )
    count, name = sum(counts.values()), data.parts[0].name
    estimate = model.read_estimate()
    seed = estimate.seed if estimate.binarization else None
    batches = _read_batches(counts, SPLIT, seed=seed)
    k = args.iwae or resolved.gate.iwae_samples
    with console.step("Independent pixels") as step:
        train_counts = _count_images(
            data.parts,
            independent_pixels.TRAIN,
            limit_in_all=None,
            limit_of_each=limit_of_each,
        )
        train = _read_batches(train_counts, independent_pixels.TRAIN, seed=seed)
        fitted = independent_pixels.fit_images(
            train.as_numpy_iterator(), PIXELS if seed is None else BITS
        )
        log_likelihood = independent_pixels.measure_images(
            fitted, batches.as_numpy_iterator()
        )
        step.print_result(f"fitted on {sum(train_counts.values()):,} images")
    signatures = measure.load_signatures(model.folder)
    measured, is_interrupted = None, False
    rate, started = ImageRate(count), time.monotonic()
    try:
        # Signals wait for the end of a batch, so that they never interrupt TensorFlow.
        with console.progress("measuring") as show, signals.defer_signals() as stop:
            for measured, _ in measure.measure_batches(signatures, batches, k=k):
                show(_describe_progress(measured, rate))
                if stop.signal:
                    break
    except KeyboardInterrupt:
        # The interrupt is handled here, so it must not be raised again.
        signals.cancel_repeated_interrupt()
        is_interrupted = True
    if measured is None:
        return fail(console, "nothing was measured yet", code=INTERRUPTED)
    is_data_of_run = data.fingerprint == model.version.manifest.data_fingerprint
    rows = [
        ("model", str(model)),
        ("data", name + ("" if is_data_of_run else ", not the data that its run had")),
        *_figure_rows(
            measured,
            estimate,
            # Those of the images that were measured, even after an interrupt.
            independent_pixels=float(np.mean(log_likelihood[: measured.images])),
        ),
        ("images/s", f"{measured.images / (time.monotonic() - started):,.0f}"),
    ]
    if is_interrupted:
        text = (
            f"the means of the first {measured.images:,} of the {count:,} images of "
            f"{name}'s {SPLIT} split"
        )
        rows.append(("INTERRUPTED", text))
    console.table("What was measured", rows)
    return INTERRUPTED if is_interrupted else get_result_code(console)


def _figure_rows(
    measured: "Measurements", estimate: "Estimate", *, independent_pixels: float
) -> list[tuple[str, str]]:
    """Returns rows (name, value) with the figures and how each was estimated.

    Args:
      measured: the figures, in nats per image.
      estimate: how the gate estimates the model's ELBO.
      independent_pixels: the log-likelihood of independent pixels, nats per image.
    """
    from components.evaluation.estimate import Bound
    from components.evaluation.evaluation_result import describe_independent_pixels

    elbo = dataclasses.replace(estimate, images=measured.images)
    iwae = dataclasses.replace(elbo, bound=Bound.IWAE, samples=measured.k)
    terms = f"reconstruction {measured.reconstruction:.2f}, KL {measured.kl:.2f}"
    return [
        ("ELBO", f"{measured.elbo:.2f} nats per image (higher is better)"),
        ("  estimated by", elbo.describe()),
        ("  its terms", terms),
        ("  compare with", describe_independent_pixels(independent_pixels)),
        ("IWAE", f"{measured.iwae:.2f} nats per image (higher is better)"),
        ("  estimated by", iwae.describe()),
        ("active latents", measured.describe_active()),
    ]


def _count_images(
    parts: Sequence["Prepared"],
    split: str,
    *,
    limit_in_all: int | None,
    limit_of_each: int | None,
) -> dict[str, int]:
    """Returns the number of images to read, by the path of their data set.

    The first data sets use up the total limit; data sets without images are left out.

    Args:
      parts: the prepared TFDS data sets.
      split: the split to read.
      limit_in_all: maximum for all data sets together; None: no limit.
      limit_of_each: maximum for each data set; None: no limit.
    """
    left = limit_in_all or math.inf
    counts = {}
    for part in parts:
        size = part.splits[split]
        count = int(min(size, left, limit_of_each or size))
        if count:
            counts[part.path] = count
            left -= count
    return counts


def _read_batches(
    counts: Mapping[str, int], split: str, *, seed: int | None
) -> "tf.data.Dataset":
    """Returns batches, uint8 [B, 28, 28, 1], of the first images of each data set.

    Args:
      counts: number of images to read, by the path of their prepared TFDS data set.
      split: the split to read.
      seed: seed of the fixed binarization to 0 and 255; None: the images stay grey.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from components.evaluation.measure import BATCH
    from model import fixed_noise

    def binarize(images):
        bits = fixed_noise.binarize(tf.cast(images, tf.float32) / 255.0, seed)
        return tf.cast(bits, tf.uint8) * 255

    def read(path: str, count: int) -> "tf.data.Dataset":
        first = tfds.core.ReadInstruction(split, to=count, unit="abs")
        examples = tfds.builder_from_directory(path).as_dataset(split=first)
        return examples.map(lambda example: example["image"])

    images, *others = (read(path, count) for path, count in counts.items())
    for other in others:
        images = images.concatenate(other)
    batches = images.batch(BATCH)
    return batches if seed is None else batches.map(binarize)


def _describe_progress(measured: "Measurements", rate: "ImageRate") -> str:
    """Returns a progress line: images measured, mean bounds so far, images/s."""
    done, *pace = rate.describe(measured.images)
    bounds = f"ELBO {measured.elbo:.2f}  IWAE {measured.iwae:.2f} nats"
    return "  ".join([done, bounds, *pace])
