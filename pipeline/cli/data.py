"""The command `data`: fetches, verifies and prepares the data."""

import argparse

from model.errors import PipelineError
from pipeline.cli import options
from pipeline.cli.command_console import fail_with, open_console
from pipeline.exit_codes import OK


def add_command(commands: options.Commands) -> None:
    """Adds the command `data` to the command line."""
    parser = commands.add_parser(
        "data",
        help="fetch, verify and prepare the data",
        description="Prepares a TFDS dataset that tfds.load(..., data_dir=DATA_DIR, "
        "download=False) reads. `run` does this too when it has to.",
        epilog=options.EXIT_CODES,
    )
    options.add_data_dir_option(parser)
    options.add_settings_options(parser)
    parser.set_defaults(command=prepare_data)


def prepare_data(args: argparse.Namespace) -> int:
    """Prepares the data set, or each of its spans; returns the exit code."""
    resolved = options.resolve(args)
    with open_console(args, "data") as console:
        from components.datasets import prepare_spans

        try:
            data = prepare_spans.prepare_data(
                resolved.data.dataset,
                resolved.data.source,
                window=resolved.data.span_window,
                data_dir=args.data_dir,
                print_line=console.line,
            )
        except PipelineError as error:
            return fail_with(console, error)
        for part in data.parts:
            for split, count in part.splits.items():
                console.line(f"{split:8} {count:,} images")
            console.line(f"{part.name} is prepared in {part.path}")
        console.line(f"fingerprint {data.fingerprint}")
    return OK
