"""The style of the report's charts, which matplotlib draws without a display."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

WIDTH = 9.0  # inches
BLUE, GREY = "#1f6fb4", "#bbbbbb"

_DPI = 110
_COLOURS = 128  # the size of a picture's palette
_METHOD = Image.Quantize.MAXCOVERAGE  # keeps rare colours


def encode_png(figure: Figure) -> bytes:
    """Returns a figure as a PNG with a palette and a white background."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    picture = Image.open(buffer).convert("RGB").quantize(_COLOURS, _METHOD)
    result = io.BytesIO()
    picture.save(result, format="png", optimize=True)
    return result.getvalue()


def make_chart(height: float) -> tuple[Figure, Axes]:
    """Returns an empty figure of this height, in inches, and its axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    remove_box(axes)
    return figure, axes


def remove_box(axes: Axes) -> None:
    """Removes the top and right lines of the axes' box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)


def draw_seconds_per_step(steps: Sequence[tuple[str, float, bool]]) -> Figure:
    """Returns a bar chart of the steps' durations.

    Args:
      steps: for each step, its name, its seconds and whether it came from the cache.
    """
    figure, axes = make_chart(0.9 + 0.28 * len(steps))
    longest = max([seconds for _, seconds, _ in steps], default=1.0) or 1.0
    for place, (_, seconds, cached) in enumerate(steps):
        axes.barh(place, seconds, color=GREY if cached else BLUE)
        text = "from the cache" if cached else f"{seconds:.1f} s"
        axes.text(seconds + longest / 100, place, text, va="center", fontsize=8.5)
    axes.set_yticks(range(len(steps)), [name for name, _, _ in steps])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * longest)
    axes.set_xlabel("seconds")
    return figure
