"""A table of ELBOs for the terminal; how each was estimated stands below it."""

import dataclasses
import os
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Elbo:
    """A cell: an ELBO in nats per image, and how it was estimated, in words."""

    value: float | None
    estimate: str | None


def show(
    columns: Mapping[str, str],
    rows: Sequence[Sequence[str | Elbo]],
    title: str | None = None,
) -> None:
    """Prints the table; where estimates differ, each ELBO has the number of its own.

    Args:
      columns: `left`, `right` or `fold` (left, and over several lines) by its title.
      rows: a cell for each column.
      title: stands above.
    """
    from rich.console import Console
    from rich.table import Table

    # Without a terminal there is no width to fold the table to.
    console = Console(width=None if os.isatty(1) else 120, highlight=False)
    cells = [cell for row in rows for cell in row if isinstance(cell, Elbo)]
    estimates = list(dict.fromkeys(cell.estimate for cell in cells if cell.estimate))
    marks = {
        estimate: f" ({number})" if len(estimates) > 1 else ""
        for number, estimate in enumerate(estimates, 1)
    }
    table = Table(title=title, title_justify="left")
    for name, kind in columns.items():
        table.add_column(
            name,
            justify="right" if kind == "right" else "left",
            no_wrap=kind != "fold",
            overflow="fold",
        )
    for row in rows:
        table.add_row(
            *(_text(cell, marks) if isinstance(cell, Elbo) else cell for cell in row)
        )
    console.print(table, markup=False)
    for estimate, mark in marks.items():
        console.print(
            f"ELBO{mark}: nats per image, higher is better; {estimate}",
            markup=False,
            soft_wrap=True,
        )


def _text(cell: Elbo, marks: Mapping[str, str]) -> str:
    if cell.value is None:
        return ""
    return f"{cell.value:.2f}{marks.get(cell.estimate or '', '')}"
