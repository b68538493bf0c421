"""The command `compile`: writes the pipeline for Kubeflow Pipelines v2."""

import argparse

from pipeline.cli import cluster_options, options
from pipeline.cli.command_console import open_console
from pipeline.exit_codes import OK


def add_command(commands: options.Commands) -> None:
    """Adds the command `compile` to the command line."""
    parser = commands.add_parser(
        "compile",
        help="write the pipeline for Kubeflow Pipelines v2",
        description="Writes the pipeline as the YAML that Kubeflow Pipelines v2 takes: "
        "the same bytes for the same settings. Needs push.destination; the section "
        "kubeflow says where and with what the steps run (see "
        "docs/how-to/compile-for-kubeflow.md).",
        epilog=options.EXIT_CODES,
    )
    options.add_settings_options(parser)
    parser.add_argument(
        "--output",
        type=options.path,
        default="pipeline.yaml",
        metavar="FILE",
        help="the file to write (default: ./pipeline.yaml)",
    )
    cluster_options.add_image_option(parser)
    parser.set_defaults(command=compile_pipeline)


def compile_pipeline(args: argparse.Namespace) -> int:
    """Writes the YAML and shows its run parameters; returns the exit code."""
    resolved, image = options.resolve(args), cluster_options.image(args)
    with open_console(args, "compile") as console:
        cluster_options.warn_of_local_settings(resolved, console)
        cluster_options.import_compiler(console)
        from pipeline.kubeflow import compiler, contract

        compiler.compile_pipeline(resolved, args.output, image=image)
        parameters = contract.read_run_parameters(resolved)
        console.line(f"{args.output} is for Kubeflow Pipelines v2; its run parameters:")
        for name, value in parameters.items():
            console.line(f"  {name} = {value}")
    return OK
