"""The command line. What a command needs is imported when it runs: TFX takes seconds,
and `--help` must not."""

import argparse
import csv
import io
import os
import pathlib
import re
import shlex
import sys
import time
from collections.abc import Sequence

from model.files import disk_space, machine_faults
from model.training import tf_config
from model.training.signals import interruptible
from pipeline.cli import (
    cluster_options,
    evaluate,
    generate,
    history,
    options,
    prune,
    report,
    schedule,
    serve,
    versions,
)
from pipeline.cli.options import (
    BAD_INPUT,
    EXIT_CODES,
    FAILED,
    INTERRUPTED,
    OK,
    REFUSED,
    UNREAD,
)
from pipeline.config import loading
from pipeline.startup import standard_streams, temporary_folder

# The preset that takes longer and reaches more, where it is not the default one.
_BETTER = {"five_minutes": "ten_minutes", "ten_minutes": "one_hour", "one_hour": None}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    os.umask(os.umask(0o077) | 0o002)  # nothing that every user may write to
    try:
        args = _parser().parse_args(argv)
        with interruptible(), temporary_folder.own_folder():
            code = args.command(args)
        sys.stdout.flush()
        return code if _is_delivered(args) else code or UNREAD
    except loading.ConfigError as error:
        print(f"vae-pipeline: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        if not machine_faults.is_fault(error):
            raise
        full = disk_space.is_full(error)
        then = "; free some space, and the same command goes on" if full else ""
        print(f"vae-pipeline: {error}{then}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(
            "\nvae-pipeline: interrupted; the same command goes on where it stopped: "
            "the steps that ended come from the cache",
            file=sys.stderr,
        )
        return INTERRUPTED


def _is_delivered(args: argparse.Namespace) -> bool:
    """Whether a command whose result is what it prints had a reader to the end.

    Other commands do their work whoever reads what they print of it.
    """
    is_lost = standard_streams.is_lost(sys.stdout) or getattr(
        args, "is_output_lost", False
    )
    return not (is_lost and getattr(args, "is_result_printed", False))


def _data(args: argparse.Namespace) -> int:
    resolved = options.resolve(args)
    with options.screen(args, "data") as screen:
        from components.datasets import prepare_spans
        from components.datasets.idx import DataAccessError, DataError
        from model.files.filesystems import StorageError

        try:
            data = prepare_spans.prepare_data(
                resolved.data.dataset,
                resolved.data.source,
                resolved.data.span_window,
                args.data_dir,
                screen.line,
            )
        except (DataAccessError, StorageError) as error:
            return options.fail(screen, str(error), FAILED)
        except DataError as error:
            return options.fail(screen, str(error), BAD_INPUT)
        for part in data.parts:
            for split, count in part.splits.items():
                screen.line(f"{split:8} {count:,} images")
            screen.line(f"{part.name} is prepared in {part.path}")
        screen.line(f"fingerprint {data.fingerprint}")
    return OK


def _run(args: argparse.Namespace) -> int:
    resolved = options.resolve(args)
    if args.print_config:
        args.is_result_printed = True
        print(loading.to_yaml(resolved), end="")
        return OK
    _check_can_run(args, resolved)
    with options.screen(args, "run") as screen:
        from pipeline.runs import lifecycle, lock

        for line in loading.lines(resolved):
            screen.line(line)
        screen.line(f"log: {screen.log_path}")
        pathlib.Path(screen.log_path).with_suffix(".yaml").write_text(
            loading.to_yaml(resolved), encoding="utf-8"
        )
        root = pathlib.Path(args.root).absolute()
        run_id = pathlib.Path(screen.log_path).stem
        try:
            with lifecycle.recorded(
                resolved, root, run_id, args.wait, screen.line
            ) as record:
                return _run_recorded(args, resolved, root, record, screen)
        except lock.LockedError as error:
            return options.fail(screen, str(error), FAILED)


def _check_can_run(args: argparse.Namespace, resolved: loading.PipelineConfig) -> None:
    """Raises ConfigError for what is known to stop a run before it begins."""
    try:
        options.check_paths(args, resolved)
        tf_config.count_workers()
    except tf_config.TFConfigError as error:
        raise loading.ConfigError(str(error)) from error


def _run_recorded(
    args: argparse.Namespace,
    resolved: loading.PipelineConfig,
    path: pathlib.Path,
    record,
    screen,
) -> int:
    started = time.monotonic()
    record.step = "Imports"
    with screen.step("Imports") as step:
        from components.datasets.idx import DataAccessError, DataError
        from model.training.progress import log_if_slow
        from pipeline.exit_codes import cause
        from pipeline.local import run_report, runner, summary
        from pipeline.runs import run_record as records

        record.took("Imports", step.done("TensorFlow and TFX"))
    root = runner.Root(path)
    try:
        result = runner.run(
            *(resolved, root, args.data_dir, record, screen),
            *(args.beam_arg, args.if_changed),
        )
    except DataAccessError as error:
        record.failed(records.FAILED, str(error))
        return options.fail(screen, str(error), FAILED)
    except DataError as error:
        record.failed(records.BAD_DATA, str(error))
        return options.fail(screen, str(error), BAD_INPUT)
    except runner.RunError as error:
        bad_data = isinstance(error, runner.BadDataError)
        record.failed(records.BAD_DATA if bad_data else records.FAILED, str(error))
        return options.fail(screen, str(error), FAILED)
    if result is None:
        return OK
    destination = root.destination(resolved)
    rows = summary.rows(result, destination)
    try:
        with log_if_slow("writing the report"):
            rows.append(("report", str(run_report.make(path))))
    except Exception as error:  # the run has done its work
        rows.append(("report", f"could not be written: {cause(error)}"))
    rows.append(("seconds in all", f"{time.monotonic() - started:.1f}"))
    screen.table("What came of it", rows)
    screen.line("next")
    for purpose, line in next_commands(args, resolved, destination, result.served):
        screen.line(f"  {purpose}:\n    {line}")
    return REFUSED if result.refusals else OK


def next_commands(
    args: argparse.Namespace,
    resolved: loading.PipelineConfig,
    destination: str,
    served: object | None,
) -> list[tuple[str, str]]:
    """Returns what can be done after a run, each with its command line for a shell.

    Args:
      args: of the run.
      resolved: its configuration.
      destination: absolute path, or URI, of the folder of versions.
      served: the version that is served; None if there is none.
    """
    from model.files import filesystems

    result = []
    push = options.push_options(args, resolved)
    if served is not None:
        result += [
            ("new digits, in digits.png", options.line("generate", *push)),
            ("over HTTP, as TensorFlow Serving does", options.line("serve", *push)),
        ]
    # TensorFlow Serving reads no S3 since 2.7 (tensorflow/serving#1963).
    folder = filesystems.local_path(destination)
    if served is not None and folder is not None:
        name = resolved.push.model_name
        result.append(("TensorFlow Serving itself", _docker_line(folder, name)))
    curves = os.path.join(args.root, "artifacts", "Trainer", "model_run")
    result.append(
        (
            "the curves of the training",
            options.line("--logdir", curves, program_name="tensorboard"),
        )
    )
    settings = options.options(args, "root", "data-dir", *options.SETTINGS)
    if better := _BETTER.get(args.preset, loading.DEFAULT):
        others = options.options(args, "replicas", "warm-start", "beam-arg")
        preset = [] if better == loading.DEFAULT else ["--preset", better]
        result.append(
            ("a better model", options.line("run", *preset, *settings, *others))
        )
    preset = options.options(args, "preset")
    evaluate = options.line("evaluate", "--iwae", "1000", *preset, *settings)
    result.append(("nearer to log p(x)", evaluate))
    return result


def _docker_line(folder: str, name: str) -> str:
    """Returns the command that serves a folder of versions by TensorFlow Serving."""
    fields = ["type=bind", f"source={folder}", f"target=/models/{name}", "readonly"]
    mount = io.StringIO()
    csv.writer(mount, lineterminator="").writerow(fields)  # as --mount is read
    words = ["docker", "run", "-p", "8501:8501", "--mount", mount.getvalue()]
    if re.fullmatch(r"[\w.-]+", name):
        words += ["-e", f"MODEL_NAME={name}", "tensorflow/serving"]
    else:  # the image's own start script splits other names into words
        words += ["--entrypoint", "tensorflow_model_server", "tensorflow/serving"]
        words += ["--rest_api_port=8501", f"--model_name={name}"]
        words += [f"--model_base_path=/models/{name}"]
    return shlex.join(words)


class _ShowVersion(argparse.Action):
    """Prints the release, the stack and the commit."""

    def __call__(self, parser, namespace, values, option_string=None):
        from pipeline import version

        print(version.describe())
        parser.exit()


class _Parser(argparse.ArgumentParser):
    def print_help(self, file=None) -> None:
        """Prints the help; Python 3.13's own would hide that the disk is full."""
        print(self.format_help(), end="", file=file or sys.stdout)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="vae-pipeline",
        description="Trains, gates and ships a variational autoencoder.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "--version",
        action=_ShowVersion,
        nargs=0,
        help="print the release, the stack and the commit, and exit",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser(
        "data",
        help="fetch, verify and prepare the data",
        description="Prepares a TFDS dataset that tfds.load(..., data_dir=DATA_DIR, "
        "download=False) reads. `run` does this too when it has to.",
        epilog=EXIT_CODES,
    )
    _add_data_options(data)
    data.set_defaults(command=_data)

    run = commands.add_parser(
        "run",
        help="run the whole pipeline here",
        description="Ingests, validates, transforms, trains, evaluates, checks and, if "
        "the model is blessed, pushes it to push.destination, or else to ROOT/serving. "
        "Steps whose inputs have not changed come from the cache.",
        epilog=f"every setting, as --preset {loading.DEFAULT} has it (see README, "
        "Configuration):\n\n"
        + loading.to_yaml(loading.resolve(loading.DEFAULT))
        + f"\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data_options(run)
    run.add_argument(
        "--beam-arg",
        action="append",
        default=[],
        metavar="ARG",
        help="an option for Beam, such as --beam-arg=--runner=DataflowRunner; may be "
        "given more than once; instead of the in-memory runner's",
    )
    run.add_argument(
        "--replicas",
        type=int,
        metavar="N",
        help="train on N logical CPU devices in step, as on N GPUs (default: on every "
        "GPU, or the one CPU); the same as --set train.replicas=N",
    )
    run.add_argument(
        "--warm-start",
        action="store_true",
        help="begin with the weights of the model that is served, if the networks "
        "match; the same as --set train.warm_start=true",
    )
    run.add_argument(
        "--wait",
        action="store_true",
        help="if another run is using --root, wait until it ends (default: leave with "
        "a message that names it)",
    )
    run.add_argument(
        "--if-changed",
        action="store_true",
        help="do nothing, and say so, if neither the data nor the settings nor the "
        "code have changed since the last run that came to a verdict; so `schedule` "
        "runs",
    )
    run.add_argument(
        "--print-config",
        action="store_true",
        help="print the resolved configuration as YAML, and do nothing else",
    )
    run.set_defaults(command=_run)

    evaluate.add_command(commands)
    report.add_command(commands)
    cluster_options.add_commands(commands)
    schedule.add_command(commands)
    history.add_command(commands)
    prune.add_command(commands)
    versions.add_commands(commands)
    serve.add_command(commands)
    generate.add_commands(commands)
    return parser


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    options.add_data_dir_option(parser)
    options.add_settings_options(parser)
