"""The command `run`: runs the whole pipeline on this machine."""

import dataclasses
import logging
import pathlib
import time
from typing import TYPE_CHECKING

import click

from model.errors import PipelineError
from model.training import tf_config
from pipeline.cli import options
from pipeline.cli.command import command, literal
from pipeline.cli.command_console import fail_with, get_result_code, open_console
from pipeline.cli.option_types import Number
from pipeline.cli.printed_commands import next_commands
from pipeline.config import loading
from pipeline.exit_codes import OK, REFUSED, describe_cause

if TYPE_CHECKING:
    from pipeline.console import Console
    from pipeline.runs.recorder import RunRecorder


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(options.Settings):
    """The options of `run`."""

    data_dir: str
    beam_arg: tuple[str, ...]
    replicas: int | None
    warm_start: bool
    wait: bool
    if_changed: bool
    print_config: bool

    def overrides(self) -> dict[str, loading.Value]:
        """Returns the settings for which an option was given: name -> given value."""
        given = super().overrides()
        if self.replicas is not None:
            given["train.replicas"] = self.replicas
        if self.warm_start:
            given["train.warm_start"] = True
        return given


@command(
    description="Ingests, validates and transforms the data, trains and evaluates a "
    "model, and checks that the model can be served. If the gate blesses the model, "
    "the pipeline pushes it to push.destination or, if that setting is empty, to "
    "ROOT/serving. The outputs of steps whose inputs have not changed come from the "
    "cache.",
    epilog=f"All settings, with the values of --preset {loading.DEFAULT} (see "
    "docs/reference/settings.md):\n\n"
    + literal(loading.to_yaml(loading.resolve(loading.DEFAULT))),
)
@options.data_dir_option
@options.settings_options
@click.option(
    "--beam-arg",
    multiple=True,
    metavar="ARG",
    show_default="the options of the in-memory runner",
    help="Option for Beam; can be given more than once. The given options replace "
    "those of the in-memory runner. Example: --beam-arg=--runner=DataflowRunner.",
)
@click.option(
    "--replicas",
    type=Number(int),
    metavar="N",
    show_default="one for each GPU, or one on the CPU",
    help="Number of logical CPU devices to train on synchronously, as on so many "
    "GPUs; the same as --set train.replicas=N.",
)
@click.option(
    "--warm-start",
    is_flag=True,
    help="Start the training with the weights of the served model, if the networks "
    "match; the same as --set train.warm_start=true.",
)
@click.option(
    "--wait",
    is_flag=True,
    help="Wait until the end of another run that is using --root. Without this "
    "option, the command fails with a message that names the other run.",
)
@click.option(
    "--if-changed",
    is_flag=True,
    help="Run no step, and print a message, if neither the data nor the settings nor "
    "the code have changed since the last run that reached a gate decision. "
    "`schedule` starts its runs with this option.",
)
@click.option(
    "--print-config",
    is_flag=True,
    help="Print the resolved configuration as YAML, and do nothing else.",
)
def run_pipeline(args: RunOptions) -> int:
    """Runs the pipeline and writes its run record; returns the exit code.

    With --print-config, prints the configuration and runs nothing.
    """
    resolved = options.resolve(args)
    if args.print_config:
        print(loading.to_yaml(resolved), end="")
        return get_result_code()
    _check_can_run(args, resolved)
    with open_console(args.root, "run") as console:
        from pipeline.runs import lifecycle

        for line in loading.lines(resolved):
            console.line(line)
        console.line(f"log: {console.log_path}")
        pathlib.Path(console.log_path).with_suffix(".yaml").write_text(
            loading.to_yaml(resolved), encoding="utf-8"
        )
        root = pathlib.Path(args.root).absolute()
        try:
            with lifecycle.record_run(
                resolved,
                root,
                run_id=pathlib.Path(console.log_path).stem,
                should_wait=args.wait,
                print_line=console.line,
            ) as recorder:
                return _run_steps(args, resolved, recorder=recorder, console=console)
        except PipelineError as error:
            return fail_with(console, error)


def _check_can_run(args: RunOptions, resolved: loading.PipelineConfig) -> None:
    """Checks the paths and TF_CONFIG before a run.

    Raises:
      ConfigError: a path can't be used.
      TFConfigError: TF_CONFIG is not valid.
    """
    options.check_paths(args, resolved)
    tf_config.count_workers()


def _run_steps(
    args: RunOptions,
    resolved: loading.PipelineConfig,
    *,
    recorder: "RunRecorder",
    console: "Console",
) -> int:
    """Runs the steps and shows the result; returns the exit code.

    If the run fails, writes its status and the error to the run record.
    """
    started = time.monotonic()
    recorder.record_step_started("Imports")
    with console.step("Imports") as step:
        from components.datasets.idx import DataError
        from pipeline.local import runner, summary
        from pipeline.runs.run_record import RunStatus

        seconds = step.print_result("TensorFlow and TFX")
        recorder.record_step_completed("Imports", seconds)
    root = runner.Root(pathlib.Path(args.root).absolute())
    try:
        outcome = runner.run(
            resolved,
            root,
            data_dir=args.data_dir,
            recorder=recorder,
            console=console,
            options=runner.RunOptions(
                beam_args=args.beam_arg, is_only_if_changed=args.if_changed
            ),
        )
    except PipelineError as error:
        is_bad_data = isinstance(error, runner.BadDataError) or (
            isinstance(error, DataError) and error.is_bad_input
        )
        status = RunStatus.BAD_DATA if is_bad_data else RunStatus.FAILED
        recorder.record_failure(status, str(error))
        return fail_with(console, error)
    if outcome is None:  # --if-changed, and nothing has changed
        return OK
    destination = root.destination(resolved)
    rows = [*summary.rows(outcome, destination), ("report", _make_report(root.path))]
    rows.append(("seconds in all", f"{time.monotonic() - started:.1f}"))
    console.table("Result", rows)
    console.line("next")
    is_served = outcome.served is not None
    for purpose, line in next_commands(
        args, resolved, destination=destination, is_served=is_served
    ):
        console.line(f"  {purpose}:\n    {line}")
    return OK if outcome.gate.is_blessed else REFUSED


def _make_report(root: pathlib.Path) -> str:
    """Writes the last run's HTML report; returns its path, or why it failed."""
    from model.training.progress import log_if_slow
    from pipeline.local import run_report

    try:
        with log_if_slow("writing the report"):
            return str(run_report.make(root))
    except Exception as error:  # the run itself has succeeded
        logging.exception("the report could not be written")
        return f"could not be written: {describe_cause(error)}"
