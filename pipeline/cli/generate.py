"""The commands `generate`, `reconstruct` and `score`: uses of a model that was pushed.

They need its SavedModel and TensorFlow; no TFX, no TFP, no data set.
"""

import argparse
import dataclasses
import json
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.cli import options
from pipeline.cli.options import BAD_INPUT, EXIT_CODES, FAILED, OK
from pipeline.config import loading

_MOST_GENERATED = 10_000  # more is a picture that no viewer shows
_MOST_RECONSTRUCTED = 1_000
_BATCH = 128  # images a call; components/evaluation/measure.py has the reason
_IMAGES = (
    "IMAGE: a grey PNG or JPEG of 28x28 pixels, white on black as MNIST's; or a .npy "
    "of [28, 28], [28, 28, 1], [N, 28, 28] or [N, 28, 28, 1], uint8 or floats in "
    "[0, 1]. Another mode is converted where that loses nothing, and said so."
)


def add_commands(commands: Any) -> None:
    """Adds the commands to what argparse's `add_subparsers` gave."""
    generate = _parser(
        commands,
        "generate",
        _generate,
        "draw new images from the served model",
        "Draws z from the prior; shows the modes, or the means, of p(x|z) in one PNG.",
        ["generate", "generate -n 100 --seed 7 --mean -o means.png"],
    )
    generate.add_argument(
        "-n", type=int, default=64, metavar="N", help="how many (default: 64)"
    )
    generate.add_argument(
        "--seed", type=int, help="the same images again (default: others each time)"
    )
    generate.add_argument(
        "--mean", action="store_true", help="the means of p(x|z), not its modes"
    )
    _add_output(generate, "digits.png")
    reconstruct = _parser(
        commands,
        "reconstruct",
        _reconstruct,
        "show images as the served model gives them back",
        "Shows each image, and the mode and the mean of p(x|z) at its z, side by side, "
        f"in one PNG.\n\n{_IMAGES}",
        ["reconstruct seven.png", "reconstruct digits.npy -o pairs.png"],
    )
    _add_images(reconstruct)
    _add_output(reconstruct, "reconstructed.png")
    score = _parser(
        commands,
        "score",
        _score,
        "find the images that the served model finds unlikely",
        "Prints each image's ELBO, a lower bound on log p(x) in nats, the lowest "
        f"first: outliers come first.\n\n{_IMAGES}",
        ["score seven.png eight.png", "score digits.npy --json"],
    )
    _add_images(score)
    score.add_argument("--json", action="store_true", help="print JSON, not a list")
    score.set_defaults(is_result_printed=True)


def _parser(
    commands: Any,
    name: str,
    function: Callable[[argparse.Namespace], int],
    summary: str,
    description: str,
    examples: list[str],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog="such as:\n"
        + "".join(f"  vae-pipeline {example}\n" for example in examples)
        + f"\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_version_option(parser)
    options.add_settings_options(parser)
    parser.set_defaults(command=function)
    return parser


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", type=options.path, nargs="+", metavar="IMAGE", help="see above"
    )


def _add_output(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=options.path,
        default=default,
        metavar="FILE",
        help=f"the PNG to write (default: {default})",
    )


def _generate(args: argparse.Namespace) -> int:
    if not 1 <= args.n <= _MOST_GENERATED:
        raise loading.ConfigError(
            f"-n must be from 1 to {_MOST_GENERATED}, got {args.n}"
        )
    seed = secrets.randbelow(2**31) if args.seed is None else args.seed
    if not -(2**63) <= seed < 2**63:
        raise loading.ConfigError(f"--seed must be of 64 bits, got {seed}")
    _check_output(args.output)

    def use(version: Any, folder: str, screen: Any) -> None:
        import tensorflow as tf

        from components.evaluation import measure
        from pipeline.cli import image_files

        signature = measure.load(folder, "generate")["generate"]
        kind = "mean" if args.mean else "mode"
        drawn = signature(n=tf.constant(args.n), seed=tf.constant(seed, tf.int64))
        picture = image_files.grid(drawn[kind].numpy(), math.ceil(math.sqrt(args.n)))
        _write(picture, args.output)
        screen.line(
            f"{args.output}: {args.n:,} {kind}s of p(x|z), z from the prior, seed "
            f"{seed}, by {_named(version)}"
        )

    return _with_model(args, "generate", use)


def _reconstruct(args: argparse.Namespace) -> int:
    _check_output(args.output)

    def use(version: Any, folder: str, screen: Any) -> None:
        import numpy as np

        from components.evaluation import measure
        from pipeline.cli import image_files

        files, count = _read(args.images, screen)
        if count > _MOST_RECONSTRUCTED:
            raise image_files.ImageError(
                f"at most {_MOST_RECONSTRUCTED:,} images are shown in one picture, got "
                f"{count:,}"
            )
        signature = measure.load(folder, "reconstruct")["reconstruct"]
        rows = []
        for _, pixels in image_files.batches(files, _BATCH):
            outputs = signature(images=_tensor(pixels))
            columns = [pixels, outputs["mode"].numpy(), outputs["mean"].numpy()]
            rows.append(np.stack(columns, axis=1))
        shown = np.concatenate(rows)  # [N, 3, 28, 28, 1]
        # Some as wide as high: several images, of three columns each, a row.
        across = max(1, round(math.sqrt(count / 3)))
        picture = image_files.grid(shown.reshape(-1, *shown.shape[2:]), 3 * across, 3)
        _write(picture, args.output)
        what = "image" if count == 1 else "images"
        screen.line(
            f"{args.output}: {count:,} {what}, each as input, mode and mean, by "
            f"{_named(version)}"
        )

    return _with_model(args, "reconstruct", use)


def _score(args: argparse.Namespace) -> int:
    def use(version: Any, folder: str, screen: Any) -> None:
        from components.evaluation import measure
        from pipeline.cli import pushed_model

        files, count = _read(args.images, screen)
        signature = measure.load(folder, "elbo")["elbo"]
        scores = sorted(
            _scored(files, count, signature, screen), key=lambda score: score["elbo"]
        )
        estimate = dataclasses.replace(pushed_model.read_estimate(version), images=None)
        if args.json:
            content = {
                "version": version.number,
                "path": version.path,
                "bound": estimate.bound.value,
                "unit": "nats per image",
                "samples": estimate.samples,
                "binarization": estimate.binarization,
                "seed": estimate.seed,
                "images": scores,
            }
            screen.line(json.dumps(content, indent=2))
            return
        words = f"{estimate.describe()}; {_named(version)}"
        screen.line(f"nats per image, higher is better: {words}")
        screen.line("    ELBO  reconstruction      KL  image")
        for score in scores:
            screen.line(
                f"{score['elbo']:8.2f}  {score['reconstruction']:14.2f}  "
                f"{score['kl']:6.2f}  {score['image']}"
            )

    return _with_model(args, "score", use)


def _scored(
    files: list[Any], count: int, signature: Any, screen: Any
) -> Iterator[dict[str, Any]]:
    from pipeline.cli import image_files

    done, said = 0, time.monotonic()
    for names, pixels in image_files.batches(files, _BATCH):
        outputs = signature(images=_tensor(pixels))
        terms = ("elbo", "reconstruction", "kl")
        values = zip(*(outputs[term].numpy().tolist() for term in terms))
        for name, row in zip(names, values):
            yield {"image": name, **dict(zip(terms, row))}
        done += len(names)
        if time.monotonic() - said > 5 and done < count:
            said = time.monotonic()
            screen.aside(f"{done:,} of {count:,} images")


def _with_model(
    args: argparse.Namespace, name: str, use: Callable[[Any, str, Any], None]
) -> int:
    """Calls `use` of a version, a folder with its copy, and the screen."""
    destination = options.destination(args, options.resolve(args))
    with options.screen(args, name) as screen:
        from pipeline.cli import image_files, pushed_model

        try:
            with pushed_model.fetched(
                destination, args.version, screen.aside
            ) as fetched:
                use(*fetched, screen)
        except (loading.ConfigError, image_files.ImageError) as error:
            screen.aside(f"vae-pipeline: {error}")
            return BAD_INPUT
        except (ValueError, OSError) as error:  # of ours, in words; of the output
            screen.aside(f"vae-pipeline: {error}")
            return FAILED
    return OK


def _read(paths: list[str], screen: Any) -> tuple[list[Any], int]:
    """Returns the images of all files, and how many they are."""
    from pipeline.cli import image_files

    files = [image_files.read(path, screen.aside) for path in paths]
    return files, sum(len(file.names) for file in files)


def _tensor(pixels: Any) -> Any:
    import tensorflow as tf

    return tf.constant(pixels)


def _named(version: Any) -> str:
    return f"version {version.number} of {os.path.dirname(version.path)}"


def _check_output(path: str) -> None:
    if not path.lower().endswith(".png"):
        raise loading.ConfigError(f"--output must be the name of a .png, got {path}")


def _write(picture: Any, path: str) -> None:
    """Writes all of it or nothing."""
    partial = f"{path}.partial"
    try:
        picture.save(partial, "PNG", optimize=True)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(f"{path} can't be written: {error.strerror}") from error
