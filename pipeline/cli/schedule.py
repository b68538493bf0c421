"""The command `schedule`: on a cluster, or here."""

import argparse
import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from pipeline.cli.cluster_options import (
    CREDENTIALS,
    add_cluster_options,
    connect,
    image,
    on_cluster,
    upload,
)
from pipeline.cli.options import (
    EXIT_CODES,
    FAILED,
    OK,
    SETTINGS,
    add_data_dir_option,
    check_paths,
    fail,
    options,
    program,
    resolve,
)
from pipeline.config import loading


def add_command(commands: Any) -> None:
    """Adds the command to what argparse's `add_subparsers` gave."""
    parser = commands.add_parser(
        "schedule",
        help="run the pipeline again and again, on a cluster or here",
        description="Makes one recurring run of this name on Kubeflow Pipelines v2, or "
        "changes it: enabled, one run at a time, no catching up on missed times. The "
        "same call again changes nothing; after one that failed, it mends what is "
        "half done.",
        epilog=f"{CREDENTIALS}\n{EXIT_CODES}",
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
    add_cluster_options(parser)
    add_data_dir_option(parser)
    parser.set_defaults(command=_schedule)


def _schedule(args: argparse.Namespace) -> int:
    if args.metrics_port is not None and not args.local:
        raise loading.ConfigError(
            f"--metrics-port must come with --local, got {args.metrics_port} without: "
            "nothing else stays to serve them; see metrics.textfile"
        )
    if args.local or args.print:
        return _here(args)
    act = _set if args.action is None else _change
    return on_cluster(args, "schedule", lambda shown: act(args, shown))


def _set(args: argparse.Namespace, shown: Any) -> int:
    from pipeline.kubeflow import recurring_runs

    resolved = resolve(args)
    cron = recurring_runs.kfp_cron(_cron(args), args.timezone)
    image(args)
    cluster = connect(args)
    version, parameters = upload(args, cluster, shown)
    recurring_run, changed = recurring_runs.schedule(
        cluster,
        args.name,
        cron,
        version,
        args.experiment,
        parameters,
        resolved.kubeflow.pipeline_root,
    )
    link = cluster.link(f"recurringrun/details/{recurring_run}")
    did = "is set" if changed else "was so already"
    shown.line(f"the schedule {args.name} {did}: {cron} (seconds first): {link}")
    return OK


def _change(args: argparse.Namespace, shown: Any) -> int:
    from pipeline.kubeflow import recurring_runs, submission

    cluster = connect(args)
    pipeline_id = submission.find_pipeline(cluster)
    if args.action == "list":
        args.is_result_printed = True
        for run in recurring_runs.all_of(cluster, pipeline_id):
            state = "enabled" if recurring_runs.is_enabled(run) else "paused"
            link = cluster.link(f"recurringrun/details/{run.recurring_run_id}")
            shown.line(
                f"{run.display_name}  {state}  {recurring_runs.cron_of(run)}  {link}"
            )
        return OK
    found = recurring_runs.find(cluster, args.name, pipeline_id)
    if not found:
        return fail(
            shown,
            f"there is no schedule named {args.name}: see those that --list shows, or "
            "make it with --cron",
            FAILED,
        )
    action = {
        "pause": recurring_runs.pause,
        "resume": recurring_runs.resume,
        "delete": recurring_runs.delete,
    }[args.action]
    action(cluster, found)
    shown.line(f"the schedule {args.name}: {args.action}d")
    return OK


def _here(args: argparse.Namespace) -> int:
    cron = _cron(args)
    check_paths(args, resolve(args))  # what can't be must not wait for the night
    from pipeline.scheduling import daemon

    names = ("root", "data-dir", "preset", *SETTINGS)
    command = [*program(), "run", "--if-changed", *options(args, *names)]
    log_folder = pathlib.Path(args.root, "logs").absolute()
    if args.local:
        with _metrics(args):
            return daemon.run(
                cron, args.timezone, command=command, log_folder=log_folder
            )
    args.is_result_printed = True
    here = pathlib.Path.cwd()
    if args.print == "systemd":
        text = daemon.systemd_units(cron, args.timezone, command=command, folder=here)
    else:
        text = daemon.crontab_line(
            cron, args.timezone, command=command, folder=here, logs=log_folder
        )
    print(text, end="")
    return OK


@contextlib.contextmanager
def _metrics(args: argparse.Namespace) -> Iterator[None]:
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


def _cron(args: argparse.Namespace) -> str:
    if not args.cron:
        raise loading.ConfigError(
            "--cron must say when, such as --cron '0 3 * * *' for three o'clock every "
            "night, got nothing"
        )
    return args.cron
