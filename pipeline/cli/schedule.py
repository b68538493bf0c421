"""The command `schedule`: runs the pipeline again and again, on a cluster or here."""

import argparse
import contextlib
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.cli import cluster_options, options
from pipeline.cli.command_console import fail
from pipeline.cli.printed_commands import SETTINGS, options_in_force, program
from pipeline.config import loading
from pipeline.exit_codes import FAILED, OK

if TYPE_CHECKING:
    from pipeline.console import Screen
    from pipeline.scheduling.cron import CronSchedule


def add_command(commands: options.Commands) -> None:
    """Adds the command `schedule` to the command line."""
    parser = commands.add_parser(
        "schedule",
        help="run the pipeline again and again, on a cluster or here",
        description="Makes one recurring run of this name on Kubeflow Pipelines v2, or "
        "changes it: enabled, one run at a time, no catching up on missed times. The "
        "same call again changes nothing; after one that failed, it mends what is "
        "half done.",
        epilog=f"{cluster_options.CREDENTIALS}\n{options.EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cron",
        help="when: minute, hour, day of the month, month, day of the week; such as "
        "'0 3 * * *'",
    )
    parser.add_argument(
        "--timezone",
        metavar="TZ",
        help="of --cron, such as Europe/Berlin, with --local and --print. On a cluster "
        "only UTC: KFP takes no time zone, not even as a TZ= or CRON_TZ= before the "
        "expression; CRON_SCHEDULE_TIMEZONE in its deployment "
        "ml-pipeline-scheduledworkflow is that of all schedules (UTC if not set)",
    )
    parser.add_argument(
        "--name",
        default=loading.NAME,
        help=f"of the schedule on the cluster (default: {loading.NAME})",
    )
    actions = parser.add_mutually_exclusive_group()
    for action, text in (
        ("list", "list the pipeline's schedules on the cluster"),
        ("pause", "start no more runs, until --resume"),
        ("resume", "start runs again"),
        ("delete", "delete the schedule; not while a run of it goes on"),
    ):
        actions.add_argument(
            f"--{action}",
            dest="action",
            action="store_const",
            const=action,
            help=text,
        )
    actions.add_argument(
        "--local", action="store_true", help="no cluster: stay, and `run` here on time"
    )
    actions.add_argument(
        "--print",
        choices=("systemd", "crontab"),
        help="no cluster: print what makes this machine `run` on time",
    )
    parser.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="with --local: serve the last run's numbers over HTTP, for Prometheus",
    )
    parser.add_argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address to serve them on (default: %(default)s, this machine alone)",
    )
    cluster_options.add_cluster_options(parser)
    options.add_data_dir_option(parser)
    parser.set_defaults(command=schedule)


def schedule(args: argparse.Namespace) -> int:
    """Makes, changes or lists schedules, or runs one here; returns the exit code."""
    if args.metrics_port is not None and not args.local:
        raise loading.ConfigError(
            f"--metrics-port must come with --local, got {args.metrics_port} without: "
            "nothing else stays to serve them; see metrics.textfile"
        )
    if args.local or args.print:
        return _schedule_here(args)
    act = _set_schedule if args.action is None else _change_schedules
    return cluster_options.run_on_cluster(
        args, "schedule", act=lambda console: act(args, console)
    )


def _set_schedule(args: argparse.Namespace, console: "Screen") -> int:
    """Makes the recurring run that the flags name, or changes it to them."""
    from pipeline.kubeflow import recurring_runs

    options.resolve(args)  # raises for a wrong setting, before the connection
    cron = recurring_runs.to_kfp_cron(_parse_cron(args))
    cluster_options.image(args)  # raises if it is missing, before the connection
    cluster = cluster_options.connect(args)
    request = cluster_options.upload(args, cluster, console=console)
    recurring_run, is_changed = recurring_runs.set_schedule(
        cluster, args.name, cron=cron, request=request
    )
    link = cluster.make_link(f"recurringrun/details/{recurring_run}")
    state = "is set" if is_changed else "was so already"
    console.line(f"the schedule {args.name} {state}: {cron} (seconds first): {link}")
    return OK


def _change_schedules(args: argparse.Namespace, console: "Screen") -> int:
    """Lists the recurring runs, or pauses, resumes or deletes the named one."""
    from pipeline.kubeflow import recurring_runs, submission

    cluster = cluster_options.connect(args)
    pipeline_id = submission.find_pipeline(cluster)
    if args.action == "list":
        args.is_result_printed = True
        for run in recurring_runs.find_all(cluster, pipeline_id):
            state = "enabled" if recurring_runs.is_enabled(run) else "paused"
            link = cluster.make_link(f"recurringrun/details/{run.recurring_run_id}")
            console.line(
                f"{run.display_name}  {state}  {recurring_runs.read_cron(run)}  {link}"
            )
        return OK
    found = recurring_runs.find_by_name(cluster, args.name, pipeline_id=pipeline_id)
    if not found:
        return fail(
            console,
            f"there is no schedule named {args.name}: see those that --list shows, or "
            "make it with --cron",
            code=FAILED,
        )
    change = {
        "pause": recurring_runs.pause,
        "resume": recurring_runs.resume,
        "delete": recurring_runs.delete,
    }[args.action]
    change(cluster, found)
    console.line(f"the schedule {args.name}: {args.action}d")
    return OK


def _schedule_here(args: argparse.Namespace) -> int:
    """Runs the pipeline at cron's times, or prints what makes this machine do so."""
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
    args.is_result_printed = True
    folder = pathlib.Path.cwd()
    if args.print == "systemd":
        text = service_files.make_systemd_units(times, command=command, folder=folder)
    else:
        text = service_files.make_crontab_lines(
            times, command=command, folder=folder, logs=log_folder
        )
    print(text, end="")
    return OK


@contextlib.contextmanager
def _serve_metrics(args: argparse.Namespace) -> Iterator[None]:
    """Serves the metrics of the last run while the block runs, if a port is given."""
    if args.metrics_port is None:
        yield
        return
    from pipeline.runs import prometheus

    root = pathlib.Path(args.root).absolute()
    with prometheus.serve_metrics(
        root, host=args.metrics_host, port=args.metrics_port
    ) as port:
        print(f"metrics: http://{args.metrics_host}:{port}/metrics", flush=True)
        yield


def _parse_cron(args: argparse.Namespace) -> "CronSchedule":
    """Returns the schedule that --cron and --timezone give.

    Raises:
      ConfigError: there is no --cron, or it or the time zone is bad.
    """
    if not args.cron:
        raise loading.ConfigError(
            "--cron must say when, such as --cron '0 3 * * *' for three o'clock every "
            "night, got nothing"
        )
    from pipeline.scheduling.cron import parse_cron

    return parse_cron(args.cron, args.timezone)
