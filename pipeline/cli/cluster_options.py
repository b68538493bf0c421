"""Options, connection and pipeline upload for the commands that use a KFP cluster."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from pipeline.cli.command import literal
from pipeline.cli.command_console import fail, open_console
from pipeline.cli.options import Settings, resolve, settings_options
from pipeline.config import loading
from pipeline.exit_codes import FAILED

if TYPE_CHECKING:
    from pipeline.console import Console
    from pipeline.kubeflow.client import Cluster
    from pipeline.kubeflow.submission import RunRequest

CREDENTIALS = literal("""\
Credentials come from where kfp.Client finds them, and never from options:
  KF_PIPELINES_SA_TOKEN_PATH        a file with a token, read again for each request
  KF_PIPELINES_IAP_OAUTH2_CLIENT_ID, KF_PIPELINES_APP_OAUTH2_CLIENT_ID and ..._SECRET
                                    Google's Identity-Aware Proxy, with the Application
                                    Default Credentials or a user account
  ~/.config/kfp/context.json        client_authentication_cookie, or
                                    client_authentication_header_name and ..._value
  a host *.googleusercontent.com    the Application Default Credentials
Without --host and KF_PIPELINES_ENDPOINT, kfp.Client connects with the service
account of its pod, or with the kubeconfig. If the UI has another address than the
API server, KF_PIPELINES_UI_ENDPOINT gives the UI's address for links.
""")

_Function = TypeVar("_Function", bound=Callable[..., int])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterOptions(Settings):
    """The values of the options that `cluster_options` adds to a command."""

    host: str | None
    image: str | None
    namespace: str | None
    experiment: str


image_option = click.option(
    "--image",
    metavar="REF",
    show_default="none; required to compile the pipeline or to start runs",
    help="Container image of every step, such as registry/vae-pipeline:1.0. A "
    "reference with a digest is best, because KFP's cache identifies an image by this "
    "text alone.",
)


def cluster_options(function: _Function) -> _Function:
    """Adds the options of a command that starts runs on a cluster.

    These are --host, --image, --namespace, --experiment and the settings options.
    """
    own = (
        click.option(
            "--host",
            metavar="URL",
            show_default="KF_PIPELINES_ENDPOINT, or else the cluster of this pod or of "
            "the kubeconfig",
            help="URL of the KFP API server: the part before /apis/.",
        ),
        image_option,
        click.option(
            "--namespace",
            metavar="NAME",
            show_default="none",
            help="Namespace of the user, if KFP has several users (profiles).",
        ),
        click.option(
            "--experiment",
            metavar="NAME",
            default=loading.NAME,
            help="Experiment of the runs, which is created if it is missing.",
        ),
    )
    function = settings_options(function)
    for option in reversed(own):
        function = option(function)
    return function


def check_image(image: str | None) -> str:
    """Returns the value of --image.

    Raises:
      ConfigError: --image is missing or empty.
    """
    if not image:
        raise loading.ConfigError(
            "--image must name the image of every step, such as "
            "registry/vae-pipeline:1.0, got nothing"
        )
    return image


def connect(args: ClusterOptions) -> "Cluster":
    """Returns a connection to the cluster of --host and --namespace."""
    from pipeline.kubeflow import client

    return client.connect(args.host, args.namespace, limits=client.Limits())


def run_on_cluster(root: str, command: str, *, act: Callable[["Console"], int]) -> int:
    """Calls a command's function with a new console; returns the exit code.

    If the function raises a ClusterError, shows its message and returns FAILED.

    Args:
      root: folder of the runs' state, which gets the console's log.
      command: name of the command.
      act: the command's function, which returns the exit code.
    """
    with open_console(root, command) as console:
        from pipeline.kubeflow.client import ClusterError

        try:
            return act(console)
        except ClusterError as error:
            return fail(console, str(error), code=FAILED)


def upload(
    args: ClusterOptions, cluster: "Cluster", *, console: "Console"
) -> "RunRequest":
    """Compiles the pipeline, and uploads it unless the cluster has the same content.

    Returns:
      the pipeline version and the arguments for a run, or for each run of a schedule.
    """
    resolved = resolve(args)
    warn_of_local_settings(resolved, console)
    import_compiler(console)
    from pipeline.kubeflow import compiler, contract, submission

    # A setting that is a run parameter is an argument of the run. It must not change
    # the compiled pipeline, or else it would make a new version.
    of_runs = {parameter.setting for parameter in contract.RUN_PARAMETERS}
    kept = [s for s in args.set if s.partition("=")[0] not in of_runs]
    compiled = loading.resolve(
        args.preset, args.config, settings=kept, overrides=args.overrides()
    )
    with tempfile.TemporaryDirectory() as folder:
        package = pathlib.Path(folder, "pipeline.yaml")
        compiler.compile_pipeline(compiled, str(package), image=check_image(args.image))
        version = submission.upload_pipeline(cluster, package)
    state = "is uploaded" if version.is_new else "was there already"
    console.line(f"version {version.name} {state}")
    return submission.RunRequest(
        version=version,
        experiment=args.experiment,
        parameters=contract.read_run_parameters(resolved),
        pipeline_root=resolved.kubeflow.pipeline_root,
    )


def warn_of_local_settings(
    resolved: loading.PipelineConfig, console: "Console"
) -> None:
    """Shows a line for each section whose settings are given but unused on Kubeflow."""
    is_set = {
        "notify": resolved.notify.webhook or resolved.notify.command,
        "metrics": resolved.metrics.textfile,
    }
    for section, value in is_set.items():
        if value:
            console.line(
                f"{section}: no effect on Kubeflow; only local runs use this section"
            )


def import_compiler(console: "Console") -> None:
    """Imports the compiler and TFX, shown as the step `Imports` on the console."""
    with console.step("Imports") as step:
        from pipeline.kubeflow import compiler  # noqa: F401

        step.print_result("TensorFlow and TFX")
