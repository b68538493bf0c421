"""The command `data`: fetches, verifies and prepares the data set."""

import dataclasses

from model.errors import PipelineError
from pipeline.cli import options
from pipeline.cli.command import command
from pipeline.cli.command_console import fail_with, open_console
from pipeline.exit_codes import OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions(options.Settings):
    """The options of `data`."""

    data_dir: str


@command(
    description="Prepares a TFDS data set that tfds.load(..., data_dir=DATA_DIR, "
    "download=False) can read. `run` also prepares the data set if this is necessary."
)
@options.data_dir_option
@options.settings_options
def prepare_data(args: DataOptions) -> int:
    """Prepares the TFDS data set, or one for each span; returns the exit code.

    Shows the number of images in each split, and the fingerprint of the data.
    """
    resolved = options.resolve(args)
    with open_console(args.root, "data") as console:
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
