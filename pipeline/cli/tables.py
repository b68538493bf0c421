"""Tables of ELBOs for the terminal, with lines on how each ELBO was estimated."""

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence

from model.errors import escape_controls


@dataclasses.dataclass(frozen=True)
class Elbo:
    """A table cell: an ELBO in nats per image, and a text on how it was estimated."""

    value: float | None
    estimate: str | None


INDEPENDENT_PIXELS = "indep. pixels"  # title of the column beside the ELBO's

# Least width of the text in a column that may fold; no number in the text is longer.
_FOLDED = 14
_FRAME = 3  # width that a column needs beside its text: a line and two spaces


def show(
    columns: Mapping[str, str],
    rows: Sequence[Sequence[str | Elbo]],
    *,
    title: str | None = None,
    priorities: Sequence[str],
) -> None:
    """Prints a table, and below it how its ELBOs were estimated.

    If ELBOs were estimated in different ways, each one has the number of its way.
    Control characters in cells are printed as escapes.
    On a terminal that is too narrow for all columns, leaves out whole columns and
    prints their titles, so that no cell is cut.

    Args:
      columns: title -> `left`, `right` or `fold` (left, and over several lines). The
        column INDEPENDENT_PIXELS is left out if no row has a value.
      rows: rows with a cell for each column.
      title: title of the table; None: no title.
      priorities: titles of all columns, the most important first.
    """
    from rich.console import Console
    from rich.table import Table

    cells = [cell for row in rows for cell in row if isinstance(cell, Elbo)]
    estimates = list(dict.fromkeys(cell.estimate for cell in cells if cell.estimate))
    marks = {
        estimate: f" ({number})" if len(estimates) > 1 else ""
        for number, estimate in enumerate(estimates, 1)
    }
    texts = [
        {
            name: _format_elbo(cell, marks)
            if isinstance(cell, Elbo)
            else escape_controls(cell)
            for name, cell in zip(columns, row)
        }
        for row in rows
    ]
    # Older releases have no value.
    if not any(text.get(INDEPENDENT_PIXELS) for text in texts):
        columns = {
            name: columns[name] for name in columns if name != INDEPENDENT_PIXELS
        }
        priorities = [name for name in priorities if name != INDEPENDENT_PIXELS]
    longest = {
        name: max(map(len, (name, *(text[name] for text in texts)))) for name in columns
    }
    least = {
        name: min(longest[name], _FOLDED) if kind == "fold" else longest[name]
        for name, kind in columns.items()
    }
    # Without a terminal there is no width that the table must fit.
    on_terminal = sys.stdout.isatty()
    width = Console().width if on_terminal else max(120, _width(least.values()))
    kept = _columns_that_fit(least, priorities, width=width)
    console = Console(
        width=max(width, _width(least[name] for name in kept)), highlight=False
    )
    table = Table(title=title, title_justify="left")
    for name in kept:
        table.add_column(
            name,
            justify="right" if columns[name] == "right" else "left",
            no_wrap=columns[name] != "fold",
            overflow="fold",
        )
    for text in texts:
        table.add_row(*(text[name] for name in kept))
    console.print(table, markup=False)
    lines = [
        f"ELBO{mark}: nats per image, higher is better; {estimate}"
        for estimate, mark in marks.items()
        if "ELBO" in kept
    ]
    if INDEPENDENT_PIXELS in kept:
        lines.append(
            f"{INDEPENDENT_PIXELS}: the log-likelihood of independent pixels, nats per "
            "image; a useful model's ELBO is above it"
        )
    if missing := [name for name in columns if name not in kept]:
        lines.append(
            f"not shown for lack of width: {', '.join(missing)}; --json has all"
        )
    for line in lines:
        console.print(line, markup=False, soft_wrap=not on_terminal)


def format_nats(value: float | None) -> str:
    """Returns a number of nats as text; empty without a number."""
    return "" if value is None else f"{value:.2f}"


def _columns_that_fit(
    least: Mapping[str, int], priorities: Sequence[str], *, width: int
) -> list[str]:
    """Returns the titles of the columns that fit, in the table's order.

    Adds columns by importance; the most important one is there at any width.

    Args:
      least: title -> least width of the column's text.
      priorities: titles of all columns, the most important first.
      width: width of the terminal.
    """
    first, *others = priorities
    kept = {first}
    for name in others:
        if _width(least[each] for each in {*kept, name}) <= width:
            kept.add(name)
    return [name for name in least if name in kept]


def _width(texts: Iterable[int]) -> int:
    """Returns the width of a table with its frame, from the widths of the texts."""
    return 1 + sum(text + _FRAME for text in texts)


def _format_elbo(cell: Elbo, marks: Mapping[str, str]) -> str:
    """Returns an ELBO and its estimate's mark as text; empty without an ELBO."""
    if cell.value is None:
        return ""
    return f"{cell.value:.2f}{marks.get(cell.estimate or '', '')}"
