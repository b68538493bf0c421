"""The command `evaluate`: measures a model that was pushed, on the test split."""

import argparse
import math
import os
import time
from typing import Any

from pipeline.cli import options
from pipeline.cli.options import BAD_INPUT, EXIT_CODES, FAILED, INTERRUPTED, OK
from pipeline.config import loading

_DESCRIPTION = """\
Measures a model that was pushed, by its own signatures, over a data set's test split:
the ELBO and its terms, the importance-weighted bound (Burda et al. 2016), which is the
nearer to log p(x) the more samples it takes, and how many latent dimensions are active.
Nothing is trained, judged or pushed. The seed, the samples of the ELBO and the kind of
pixels are those that the model was exported with.

1,000 samples and 10,000 images take some ten minutes on two cores for dense networks,
and an hour for convolutions; Ctrl-C gives the means so far."""


def add_command(commands: Any) -> None:
    """Adds the command to what argparse's `add_subparsers` gave."""
    parser = commands.add_parser(
        "evaluate",
        help="measure the served model's bounds on the test split",
        description=_DESCRIPTION,
        epilog="such as:\n"
        "  vae-pipeline evaluate\n"
        "  vae-pipeline evaluate --iwae 1000 --limit 2000\n"
        "  vae-pipeline evaluate --version 1795435726 --set "
        f"push.destination=s3://models/serving\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--iwae",
        type=int,
        metavar="K",
        help="samples of z per image in the importance-weighted bound (default: the "
        "setting gate.iwae_samples)",
    )
    options.add_version_option(parser)
    parser.add_argument(
        "--limit",
        type=int,
        metavar="IMAGES",
        help="take only the first so many images of the test split (default: all that "
        "the setting data.limit leaves)",
    )
    options.add_data_dir_option(parser)
    options.add_settings_options(parser)
    parser.set_defaults(command=_evaluate, is_result_printed=True)


def _evaluate(args: argparse.Namespace) -> int:
    resolved = options.resolve(args)
    for flag in ("iwae", "limit"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise loading.ConfigError(f"--{flag} must be at least 1, got {value}")
    with options.screen(args, "evaluate") as screen:
        from components.datasets.idx import DataAccessError, DataError
        from pipeline.cli import pushed_model

        destination = options.destination(args, resolved)
        try:
            with pushed_model.fetched(
                destination, args.version, screen.line
            ) as fetched:
                return _measure(args, resolved, *fetched, screen)
        except ValueError as error:  # of ours, in words
            bad_input = isinstance(error, (loading.ConfigError, DataError))
            bad_input = bad_input and not isinstance(error, DataAccessError)
            code = BAD_INPUT if bad_input else FAILED
            return options.fail(screen, str(error), code)


def _measure(
    args: argparse.Namespace,
    resolved: loading.PipelineConfig,
    version: Any,
    folder: str,
    screen: Any,
) -> int:
    """Measures the model in `folder`, a copy of the version, and shows the figures.

    Raises:
      ValueError: the model has not the signatures for it, or there are no such data.
    """
    with screen.step("Imports") as step:
        from components.datasets import prepare_spans
        from components.evaluation import measure
        from model.config import ModelConfig
        from model.training import signals
        from model.training.progress import ImageRate

        step.done("TensorFlow")
    data = prepare_spans.prepare_data(
        resolved.data.dataset,
        resolved.data.source,
        resolved.data.span_window,
        args.data_dir,
        screen.line,
    )
    left = args.limit or math.inf
    counts = {}  # of each dataset that is read
    for part in data.parts:
        size = part.splits[measure.SPLIT]
        count = int(min(size, left, resolved.data.limit or size))
        if count:
            counts[part.path] = count
            left -= count
    count, name = sum(counts.values()), data.parts[0].name
    exported = version.manifest["config"]
    gate, binary = exported["gate"], ModelConfig(**exported["model"]).binary
    batches = _batches(counts, gate["seed"] if binary else None)
    k = args.iwae or resolved.gate.iwae_samples
    signatures = measure.load(folder)
    measured, interrupted = None, False
    rate, started = ImageRate(count), time.monotonic()
    try:
        # Held back until a batch ends: what it would break into is TensorFlow.
        with screen.progress("measuring") as show, signals.deferred() as stop:
            for measured, _ in measure.measure(signatures, batches, k):
                show(_note(measured, rate))
                if stop.signal:
                    break
    except KeyboardInterrupt:
        signals.cancel_repeated_interrupt()
        interrupted = True
    if measured is None:
        return options.fail(screen, "nothing was measured yet", INTERRUPTED)
    of_run = data.fingerprint == version.manifest["data_fingerprint"]
    of_split = f"the {count:,} images of {name}'s {measure.SPLIT} split"
    rows = [
        ("model", f"version {version.number} of {os.path.dirname(version.path)}"),
        ("data", name + ("" if of_run else ", not the data that its run had")),
        ("ELBO", f"{measured.elbo:.2f} nats per image (higher is better)"),
        (
            "  estimated by",
            measure.estimate(
                measure.ELBO, gate["samples"], gate["seed"], measured.images, binary
            ),
        ),
        (
            "  its terms",
            f"reconstruction {measured.reconstruction:.2f}, KL {measured.kl:.2f}",
        ),
        ("IWAE", f"{measured.iwae:.2f} nats per image (higher is better)"),
        (
            "  estimated by",
            measure.estimate(measure.IWAE, k, gate["seed"], measured.images, binary),
        ),
        ("active latents", measured.active()),
        ("images/s", f"{measured.images / (time.monotonic() - started):,.0f}"),
    ]
    if interrupted:
        text = f"the means of the first {measured.images:,} of {of_split}"
        rows.append(("INTERRUPTED", text))
    screen.table("What was measured", rows)
    return INTERRUPTED if interrupted else OK


def _batches(counts: dict[str, int], seed: int | None) -> Any:
    """Returns the test splits' first images, uint8 [B, 28, 28, 1] each.

    Args:
      counts: how many images of each prepared TFDS dataset, by its path.
      seed: of their fixed binarization to 0 and 255; None to leave them grey.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from components.evaluation.measure import BATCH, SPLIT
    from model import fixed_noise

    def binarize(images):
        bits = fixed_noise.binarize(tf.cast(images, tf.float32) / 255.0, seed)
        return tf.cast(bits, tf.uint8) * 255

    images: Any = None
    for path, count in counts.items():
        first = tfds.core.ReadInstruction(SPLIT, to=count, unit="abs")
        examples = tfds.builder_from_directory(path).as_dataset(split=first)
        part = examples.map(lambda example: example["image"])
        images = part if images is None else images.concatenate(part)
    batches = images.batch(BATCH)
    return batches if seed is None else batches.map(binarize)


def _note(measured: Any, rate: Any) -> str:
    done, *pace = rate.describe(measured.images)
    bounds = f"ELBO {measured.elbo:.2f}  IWAE {measured.iwae:.2f} nats"
    return "  ".join([done, bounds, *pace])
