"""The command `submit`: runs the pipeline on Kubeflow Pipelines v2."""

import dataclasses
import shlex
from typing import TYPE_CHECKING

import click

from pipeline.cli import cluster_options, options
from pipeline.cli.command import command
from pipeline.cli.command_console import fail
from pipeline.cli.printed_commands import line, options_in_force
from pipeline.exit_codes import FAILED, INTERRUPTED, OK, REFUSED

if TYPE_CHECKING:
    from components.evaluation.gate_result import GateResult
    from pipeline.console import Console
    from pipeline.kubeflow.client import Cluster


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubmitOptions(cluster_options.ClusterOptions):
    """The options of `submit`."""

    wait: bool
    run: str | None


@command(
    description="Compiles the pipeline, uploads it as a new version if its content "
    "is new, and starts a run. The settings train.epochs, train.batch_size, "
    "train.learning_rate, train.seed, gate.elbo_floor and gate.tolerance are "
    "parameters of the run: a --set of one of them makes no new version.",
    epilog=cluster_options.CREDENTIALS,
)
@cluster_options.cluster_options
@click.option(
    "--wait",
    is_flag=True,
    help="Wait for the end of the run, and show the gate decision. The decision is "
    "read from the pipeline root, so this machine needs the credentials of that object "
    "store, too, and for minio:// the store's address in AWS_ENDPOINT_URL.",
)
@click.option(
    "--run",
    metavar="ID",
    show_default="none",
    help="Id of a run that was submitted before: submit nothing, and wait for this "
    "run.",
)
def submit(args: SubmitOptions) -> int:
    """Starts a run on a cluster, or waits for an earlier one; returns the exit code."""
    options.resolve(args)  # raises for a wrong setting, before the connection
    if args.run is None:
        cluster_options.check_image(args.image)  # before the connection

    def act(console: "Console") -> int:
        from pipeline.kubeflow import submission

        cluster = cluster_options.connect(args)
        if args.run is not None:
            return _wait_for_run(args, cluster, run_id=args.run, console=console)
        request = cluster_options.upload(args, cluster, console=console)
        run_id = submission.start_run(cluster, request)
        console.line(f"run {run_id} is started: {cluster.make_run_link(run_id)}")
        if not args.wait:
            return OK
        return _wait_for_run(args, cluster, run_id=run_id, console=console)

    return cluster_options.run_on_cluster(args.root, "submit", act=act)


def _wait_for_run(
    args: SubmitOptions, cluster: "Cluster", *, run_id: str, console: "Console"
) -> int:
    """Shows a run's progress until it ends, and the gate decision.

    Returns:
      the exit code.
    """
    from pipeline.kubeflow import watch
    from pipeline.kubeflow.client import ClusterError

    link, advice = cluster.make_run_link(run_id), describe_waiting_again(args, run_id)
    try:
        run, spec = watch.watch_run(cluster, run_id, show=console.line)
    except KeyboardInterrupt:
        console.line(
            f"\nvae-pipeline: interrupted; the run continues: {link}. {advice}"
        )
        return INTERRUPTED
    except ClusterError as error:
        message = f"{error}. The run may continue. {advice}"
        return fail(console, message, code=FAILED)
    if run.state != "SUCCEEDED":
        logs = _logs_line(run_id, cluster.namespace or "kubeflow")
        reasons = watch.describe_failure(run, spec)
        message = f"{reasons}\nthe run's page: {link}\nits pods' logs: {logs}"
        return fail(console, message, code=FAILED)
    try:
        result = watch.read_gate_result(run, spec)
    except watch.UnreadableGateResultError as error:
        return fail(console, f"{error}\nthe run's page: {link}", code=FAILED)
    console.table("Result", _decision_rows(result))
    console.line(f"the run's page: {link}")
    return OK if result.is_blessed else REFUSED


def _decision_rows(result: "GateResult") -> list[tuple[str, str]]:
    """Returns the rows (name, value) of the closing table with the gate decision."""
    from components.evaluation.evaluation_result import describe_independent_pixels

    baseline = "none: nothing was served"
    if result.baseline_elbo is not None:
        difference = result.describe_difference()
        baseline = f"{result.baseline_elbo:.2f}; difference {difference}"
    rows = [
        ("candidate's ELBO", f"{result.elbo:.2f} nats per image (higher is better)"),
        ("  estimated by", result.estimate),
    ]
    if result.independent_pixels is not None:
        text = describe_independent_pixels(result.independent_pixels)
        rows.append(("  compare with", text))
    return [
        *rows,
        ("baseline's ELBO", baseline),
        ("verdict", result.describe()),
        ("pushed", result.pushed or "nothing"),
    ]


def _logs_line(run_id: str, namespace: str) -> str:
    """Returns the kubectl command that shows the logs of a run's pods."""
    words = ["kubectl", "logs", "-n", namespace, "-l", f"pipeline/runid={run_id}"]
    return shlex.join([*words, "-c", "main", "--prefix", "--tail=50"])


def describe_waiting_again(args: SubmitOptions, run_id: str) -> str:
    """Returns a sentence with the `submit` command that waits for a run again."""
    given = options_in_force(args, "host", "namespace", "root")
    return f"To wait for it again: {line('submit', *given, '--run', run_id)}"
