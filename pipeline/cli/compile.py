"""The command `compile`: writes the pipeline for Kubeflow Pipelines v2."""

import dataclasses

import click

from pipeline.cli import cluster_options, options
from pipeline.cli.command import command
from pipeline.cli.command_console import open_console
from pipeline.cli.option_types import FILE
from pipeline.exit_codes import OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompileOptions(options.Settings):
    """The options of `compile`."""

    output: str
    image: str | None


@command(
    description="Writes the pipeline as a YAML file for Kubeflow Pipelines v2. The "
    "same settings give the same bytes. The setting push.destination is required. The "
    "settings of the section kubeflow configure where and with which resources the "
    "steps run (see docs/how-to/compile-for-kubeflow.md)."
)
@options.settings_options
@click.option(
    "--output",
    type=FILE,
    metavar="FILE",
    default="pipeline.yaml",
    help="YAML file to write.",
)
@cluster_options.image_option
def compile_pipeline(args: CompileOptions) -> int:
    """Writes the pipeline as YAML for Kubeflow Pipelines v2; returns the exit code.

    Shows the names and values of the run parameters.
    """
    resolved = options.resolve(args)
    image = cluster_options.check_image(args.image)
    with open_console(args.root, "compile") as console:
        cluster_options.warn_of_local_settings(resolved, console)
        cluster_options.import_compiler(console)
        from pipeline.kubeflow import compiler, contract

        compiler.compile_pipeline(resolved, args.output, image=image)
        parameters = contract.read_run_parameters(resolved)
        console.line(f"{args.output} is for Kubeflow Pipelines v2; its run parameters:")
        for name, value in parameters.items():
            console.line(f"  {name} = {value}")
    return OK
