"""The commands for Kubeflow Pipelines, but `schedule`."""

import argparse
import pathlib
import shlex
import tempfile
from collections.abc import Callable
from typing import Any

from pipeline.cli.options import (
    EXIT_CODES,
    FAILED,
    INTERRUPTED,
    OK,
    REFUSED,
    add_settings_options,
    fail,
    line,
    options,
    path,
    resolve,
    screen,
    settings,
)
from pipeline.config import loading

CREDENTIALS = """\
credentials are those of kfp.Client, and never flags:
  KF_PIPELINES_SA_TOKEN_PATH        a file with a token, read again for each request
  KF_PIPELINES_IAP_OAUTH2_CLIENT_ID, KF_PIPELINES_APP_OAUTH2_CLIENT_ID and ..._SECRET
                                    Google's Identity-Aware Proxy, with the Application
                                    Default Credentials or a person's account
  ~/.config/kfp/context.json        client_authentication_cookie, or
                                    client_authentication_header_name and ..._value
  *.googleusercontent.com           gets the Application Default Credentials
Without --host and KF_PIPELINES_ENDPOINT, kfp.Client connects as its pod's service
account, or by the kubeconfig. KF_PIPELINES_UI_ENDPOINT is for links, if the UI has
another address.
"""


def add_commands(commands: Any) -> None:
    """Adds the commands to what argparse's `add_subparsers` gave."""
    _add_compile(commands)
    _add_submit(commands)


def _compile(args: argparse.Namespace) -> int:
    resolved, reference = resolve(args), image(args)
    with screen(args, "compile") as shown:
        _warn(resolved, shown)
        kubeflow = _import_kubeflow(shown)
        kubeflow.compile_pipeline(resolved, args.output, reference)
        parameters = kubeflow.run_parameters(resolved).items()
        shown.line(f"{args.output} is for Kubeflow Pipelines v2; its run parameters:")
        for name, value in parameters:
            shown.line(f"  {name} = {value}")
    return OK


def _submit(args: argparse.Namespace) -> int:
    resolved = resolve(args)
    if args.run is None:
        image(args)

    def act(shown: Any) -> int:
        from pipeline.kubeflow import submission

        cluster = connect(args)
        if args.run is not None:
            return _wait(args, cluster, args.run, shown)
        version, parameters = upload(args, cluster, shown)
        root = resolved.kubeflow.pipeline_root
        run_id = submission.start(cluster, version, args.experiment, parameters, root)
        shown.line(f"run {run_id} is started: {cluster.run_link(run_id)}")
        return _wait(args, cluster, run_id, shown) if args.wait else OK

    return on_cluster(args, "submit", act)


def _wait(args: argparse.Namespace, cluster: Any, run_id: str, shown: Any) -> int:
    from pipeline.kubeflow import watch
    from pipeline.kubeflow.client import ClusterError

    link, again = cluster.run_link(run_id), _again(args, run_id)
    try:
        run, spec = watch.follow(cluster, run_id, shown.line)
    except KeyboardInterrupt:
        shown.line(f"\nvae-pipeline: interrupted; the run goes on: {link}. {again}")
        return INTERRUPTED
    except ClusterError as error:
        return fail(shown, f"{error}. The run may well go on. {again}", FAILED)
    if run.state != "SUCCEEDED":
        namespace = cluster.namespace or "kubeflow"
        return fail(
            shown,
            f"{watch.failure(run, spec)}\nthe run's page: {link}\nits pods' logs: "
            + shlex.join(
                [
                    *("kubectl", "logs", "-n", namespace, "-l"),
                    *(f"pipeline/runid={run_id}", "-c", "main", "--prefix"),
                    "--tail=50",
                ]
            ),
            FAILED,
        )
    try:
        result = watch.verdict(run, spec)
    except watch.VerdictError as error:
        return fail(shown, f"{error}\nthe run's page: {link}", FAILED)
    _show_gate_result(result, shown)
    shown.line(f"the run's page: {link}")
    return OK if result.is_blessed else REFUSED


def _show_gate_result(result: Any, shown: Any) -> None:
    against = "none: nothing was served"
    if result.baseline_elbo is not None:
        against = f"{result.baseline_elbo:.2f}; difference {result.difference:+.2f}"
    rows = [
        ("candidate's ELBO", f"{result.elbo:.2f} nats per image (higher is better)"),
        ("  estimated by", result.estimate),
        ("baseline's ELBO", against),
        ("verdict", result.describe()),
        ("pushed", result.pushed or "nothing"),
    ]
    shown.table("What came of it", rows)


def on_cluster(
    args: argparse.Namespace, command: str, act: Callable[[Any], int]
) -> int:
    """Runs a command on a screen, and shows what a cluster does not do."""
    with screen(args, command) as shown:
        from pipeline.kubeflow.client import ClusterError

        try:
            return act(shown)
        except ClusterError as error:
            return fail(shown, str(error), FAILED)


def upload(args: argparse.Namespace, cluster: Any, shown: Any) -> tuple[Any, dict]:
    """Uploads the pipeline if need be; returns its version and the run's parameters."""
    _warn(resolve(args), shown)
    kubeflow = _import_kubeflow(shown)
    from pipeline.kubeflow import submission
    from pipeline.kubeflow.entrypoint import RUN_PARAMETERS

    # What can be chosen for a run is chosen for the run: it makes no new version.
    given = settings(args)
    kept = [s for s in given if s.partition("=")[0] not in RUN_PARAMETERS.values()]
    compiled = loading.resolve(args.preset, args.config, kept)
    with tempfile.TemporaryDirectory() as folder:
        package = pathlib.Path(folder, "pipeline.yaml")
        kubeflow.compile_pipeline(compiled, str(package), image(args))
        version = submission.upload(cluster, package)
    did = "is uploaded" if version.is_new else "was there already"
    shown.line(f"version {version.name} {did}")
    return version, kubeflow.run_parameters(resolve(args))


def _warn(resolved: loading.PipelineConfig, shown: Any) -> None:
    """Says which settings are for runs here alone."""
    told = resolved.notify.webhook or resolved.notify.command
    given = {"notify": told, "metrics": resolved.metrics.textfile}
    for section, value in given.items():
        if value:
            shown.line(f"{section}: nothing on Kubeflow; it is for runs here alone")


def _import_kubeflow(shown: Any) -> Any:
    with shown.step("Imports") as step:
        from pipeline.kubeflow import compiler

        step.done("TensorFlow and TFX")
    return compiler


def connect(args: argparse.Namespace) -> Any:
    """Returns the Cluster that the flags name."""
    from pipeline.kubeflow import client

    return client.connect(args.host, args.namespace, client.Limits())


def _again(args: argparse.Namespace, run_id: str) -> str:
    given = options(args, "host", "namespace", "root")
    return f"To wait for it again: {line('submit', *given, '--run', run_id)}"


def image(args: argparse.Namespace) -> str:
    """Returns the image that the flags name."""
    if not args.image:
        raise loading.ConfigError(
            "--image must name the image of every step, such as "
            "registry/vae-pipeline:1.0, got nothing"
        )
    return args.image


def _add_compile(commands: Any) -> None:
    parser = commands.add_parser(
        "compile",
        help="write the pipeline for Kubeflow Pipelines v2",
        description="Writes the pipeline as the YAML that Kubeflow Pipelines v2 takes: "
        "the same bytes for the same settings. Needs push.destination; the section "
        "kubeflow says where and with what the steps run (see README).",
        epilog=EXIT_CODES,
    )
    add_settings_options(parser)
    parser.add_argument(
        "--output",
        type=path,
        default="pipeline.yaml",
        metavar="FILE",
        help="the file to write (default: ./pipeline.yaml)",
    )
    _add_image_option(parser)
    parser.set_defaults(command=_compile)


def _add_submit(commands: Any) -> None:
    parser = commands.add_parser(
        "submit",
        help="run the pipeline on Kubeflow Pipelines v2",
        description="Compiles the pipeline, uploads it as a new version if its content "
        "is new, and starts a run. A --set of train.epochs, train.batch_size, "
        "train.learning_rate, train.seed, gate.elbo_floor or gate.tolerance goes with "
        "the run, and makes no new version.",
        epilog=f"{CREDENTIALS}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_cluster_options(parser)
    parser.add_argument(
        "--wait",
        action="store_true",
        help="follow the run to its end and to the gate's verdict, which is read from "
        "the pipeline root: the store's credentials must be here too, and for minio:// "
        "its address in AWS_ENDPOINT_URL",
    )
    parser.add_argument(
        "--run",
        metavar="ID",
        help="submit nothing; wait for this run, which was submitted before",
    )
    parser.set_defaults(command=_submit)


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options for what runs on a cluster."""
    parser.add_argument(
        "--host",
        metavar="URL",
        help="of the KFP API server: what comes before /apis/ "
        "(default: KF_PIPELINES_ENDPOINT, else the cluster that this runs in)",
    )
    _add_image_option(parser)
    parser.add_argument(
        "--namespace", help="a user's, where KFP has several users (profiles)"
    )
    parser.add_argument(
        "--experiment",
        default=loading.NAME,
        metavar="NAME",
        help=f"that the runs belong to; made if need be (default: {loading.NAME})",
    )
    add_settings_options(parser)


def _add_image_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image",
        metavar="REF",
        help="the image of every step, such as registry/vae-pipeline:1.0; best with "
        "its digest, for KFP's cache knows an image by this text alone",
    )
