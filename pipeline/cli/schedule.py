"""The command `schedule`: runs the pipeline at set times, on a cluster or locally."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from pipeline.cli import cluster_options, options
from pipeline.cli.command import command
from pipeline.cli.command_console import fail, get_result_code
from pipeline.cli.option_types import Choice, Number
from pipeline.cli.printed_commands import SETTINGS, options_in_force, program
from pipeline.config import loading
from pipeline.config.addresses import format_address
from pipeline.exit_codes import FAILED, OK

if TYPE_CHECKING:
    from pipeline.console import Console
    from pipeline.scheduling.cron import CronSchedule


# These options exclude each other.
_ACTIONS = ("list", "pause", "resume", "delete", "local", "print")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleOptions(cluster_options.ClusterOptions):
    """The options of `schedule`."""

    cron: str | None
    timezone: str | None
    name: str
    list: bool
    pause: bool
    resume: bool
    delete: bool
    local: bool
    print: str | None
    metrics_port: int | None
    metrics_host: str
    data_dir: str


@command(
    description="Creates or changes the recurring run of the given --name on Kubeflow "
    "Pipelines v2. The recurring run is enabled, starts one run at a time and does not "
    "catch up on missed times. The same call again changes nothing; after a call that "
    "failed, it completes the change. Each of the options --list, --pause, --resume, "
    "--delete, --local and --print does something else instead; at most one of them "
    "can be given.",
    epilog=cluster_options.CREDENTIALS,
)
@click.option(
    "--cron",
    metavar="FIELDS",
    show_default="none",
    help="Times of the runs, as five fields: minute, hour, day of the month, month, "
    "day of the week. For example, '0 3 * * *' is every day at 03:00.",
)
@click.option(
    "--timezone",
    metavar="TZ",
    show_default="the time zone of this machine; on a cluster, UTC",
    help="Time zone of --cron, such as Europe/Berlin, with --local and --print. On a "
    "cluster, only UTC is valid, because KFP accepts no time zone, not even as TZ= or "
    "CRON_TZ= before the expression. The variable CRON_SCHEDULE_TIMEZONE in KFP's "
    "deployment ml-pipeline-scheduledworkflow sets the time zone of all schedules "
    "(UTC if it is not set).",
)
@click.option(
    "--name",
    metavar="NAME",
    default=loading.NAME,
    help="Name of the schedule on the cluster.",
)
@click.option(
    "--list", is_flag=True, help="List the pipeline's schedules on the cluster."
)
@click.option(
    "--pause", is_flag=True, help="Pause the schedule: start no runs until --resume."
)
@click.option("--resume", is_flag=True, help="Start the runs of the schedule again.")
@click.option(
    "--delete",
    is_flag=True,
    help="Delete the schedule; the command fails while one of its runs is active.",
)
@click.option(
    "--local",
    is_flag=True,
    help="Use no cluster: stay in the foreground, and start `run` on this machine at "
    "the times of --cron.",
)
@click.option(
    "--print",
    type=Choice(["systemd", "crontab"]),
    show_default="none",
    help="Use no cluster: print systemd units or a crontab line that starts `run` on "
    "this machine at the times of --cron.",
)
@click.option(
    "--metrics-port",
    type=Number(int),
    metavar="PORT",
    show_default="none",
    help="Port on which --local serves the metrics of the last run over HTTP, for "
    "Prometheus.",
)
@click.option(
    "--metrics-host",
    metavar="ADDRESS",
    default="127.0.0.1",
    help="Address on which --metrics-port is open; 127.0.0.1 accepts connections "
    "from this machine only.",
)
@cluster_options.cluster_options
@options.data_dir_option
def schedule(args: ScheduleOptions) -> int:
    """Makes, changes or lists schedules on a cluster, or runs a schedule locally.

    Returns:
      the exit code.
    """
    given = [f"--{name}" for name in _ACTIONS if getattr(args, name)]
    if len(given) > 1:
        raise loading.ConfigError(
            f"at most one of {', '.join(given)} can be done at a time"
        )
    if args.metrics_port is not None and not args.local:
        raise loading.ConfigError(
            f"--metrics-port must come with --local, got {args.metrics_port} without: "
            "nothing else stays to serve them; see metrics.textfile"
        )
    if args.local or args.print:
        return _schedule_here(args)
    act = _change_schedules if given else _set_schedule
    return cluster_options.run_on_cluster(
        args.root, "schedule", act=lambda console: act(args, console)
    )


def _set_schedule(args: ScheduleOptions, console: "Console") -> int:
    """Makes or changes the recurring run of --name on the cluster.

    Returns:
      the exit code.
    """
    from pipeline.kubeflow import recurring_runs

    options.resolve(args)  # raises for a wrong setting, before the connection
    cron = recurring_runs.to_kfp_cron(_parse_cron(args))
    cluster_options.check_image(args.image)  # before the connection
    cluster = cluster_options.connect(args)
    request = cluster_options.upload(args, cluster, console=console)
    recurring_run, is_changed = recurring_runs.set_schedule(
        cluster, args.name, cron=cron, request=request
    )
    link = cluster.make_link(f"recurringrun/details/{recurring_run}")
    state = "is set" if is_changed else "was so already"
    console.line(f"the schedule {args.name} {state}: {cron} (seconds first): {link}")
    return OK


def _change_schedules(args: ScheduleOptions, console: "Console") -> int:
    """Lists the recurring runs, or pauses, resumes or deletes the one of --name.

    Returns:
      the exit code.
    """
    from pipeline.kubeflow import recurring_runs, submission

    cluster = cluster_options.connect(args)
    pipeline_id = submission.find_pipeline(cluster)
    if args.list:
        for run in recurring_runs.find_all(cluster, pipeline_id):
            state = "enabled" if recurring_runs.is_enabled(run) else "paused"
            link = cluster.make_link(f"recurringrun/details/{run.recurring_run_id}")
            console.line(
                f"{run.display_name}  {state}  {recurring_runs.read_cron(run)}  {link}"
            )
        return get_result_code(console)
    found = recurring_runs.find_by_name(cluster, args.name, pipeline_id=pipeline_id)
    if not found:
        return fail(
            console,
            f"there is no schedule named {args.name}: see those that --list shows, or "
            "make it with --cron",
            code=FAILED,
        )
    if args.pause:
        done = "paused"
        recurring_runs.pause(cluster, found)
    elif args.resume:
        done = "resumed"
        recurring_runs.resume(cluster, found)
    else:
        done = "deleted"
        recurring_runs.delete(cluster, found)
    console.line(f"the schedule {args.name}: {done}")
    return OK


def _schedule_here(args: ScheduleOptions) -> int:
    """Runs the pipeline at the times of --cron, or prints systemd or crontab entries.

    The entries make this machine run the pipeline at these times.

    Returns:
      the exit code.
    """
    times = _parse_cron(args)
    # A bad path must fail now, and not at the first run.
    options.check_paths(args, options.resolve(args))
    from pipeline.scheduling import daemon, service_files

    names = ("root", "data-dir", "preset", *SETTINGS)
    command = [*program(), "run", "--if-changed", *options_in_force(args, *names)]
    log_folder = pathlib.Path(args.root, "logs").absolute()
    if args.local:
        with _serve_metrics(args):
            return daemon.run_schedule(times, command=command, log_folder=log_folder)
    folder = pathlib.Path.cwd()
    if args.print == "systemd":
        text = service_files.make_systemd_units(times, command=command, folder=folder)
    else:
        text = service_files.make_crontab_lines(
            times, command=command, folder=folder, logs=log_folder
        )
    print(text, end="")
    return get_result_code()


@contextlib.contextmanager
def _serve_metrics(args: ScheduleOptions) -> Iterator[None]:
    """Serves the last run's metrics during the `with` block, if a port is given."""
    if args.metrics_port is None:
        yield
        return
    from pipeline.runs import prometheus

    root = pathlib.Path(args.root).absolute()
    with prometheus.serve_metrics(
        root, host=args.metrics_host, port=args.metrics_port
    ) as port:
        address = format_address(args.metrics_host, port)
        print(f"metrics: http://{address}/metrics", flush=True)
        yield


def _parse_cron(args: ScheduleOptions) -> "CronSchedule":
    """Returns the schedule of --cron and --timezone.

    Raises:
      ConfigError: --cron is missing or not valid, or the time zone is not valid.
    """
    if not args.cron:
        raise loading.ConfigError(
            "--cron must be given, such as --cron '0 3 * * *' for three o'clock every "
            "night, got nothing"
        )
    from pipeline.scheduling.cron import parse_cron

    return parse_cron(args.cron, args.timezone)
