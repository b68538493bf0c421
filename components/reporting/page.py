"""The report's HTML page, one file that contains its pictures."""

import base64
import importlib.resources
import math
from collections.abc import Mapping
from typing import Any

import jinja2

PAGE = "report.html"  # a file in Report's output `page`
FACTS = "report.json"  # a file in Report's output `metrics`, beside the pictures
STEPS = "steps"  # the picture of the steps' durations, which the local runner adds

_TEMPLATE = "report.html.jinja"


def render_page(facts: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Returns the HTML of the report's page, with the pictures embedded.

    Args:
      facts: the content of report.json. Its key `run` has the run's `id` and the list
        `steps`, whose items have `name`, `seconds` and `cached`.
      pictures: PNGs by name; the page omits the pictures that are missing here.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["nats"] = format_nats
    environment.filters["signed"] = lambda value: format_nats(value, "+")
    environment.filters["count"] = lambda value: f"{value:,}"
    source = (
        importlib.resources.files("components.reporting")
        .joinpath(_TEMPLATE)
        .read_text(encoding="utf-8")
    )
    inlined = {
        name: f"data:image/png;base64,{base64.b64encode(data).decode()}"
        for name, data in pictures.items()
    }
    return environment.from_string(source).render(**facts, pictures=inlined)


def format_nats(value: float | None, sign: str = "-") -> str:
    """Formats a number of nats with two decimal places.

    Args:
      value: nats; None, as JSON has it, for NaN.
      sign: `+` to write the sign of positive numbers too, else `-`.
    """
    if value is None:
        return "not a number"
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else "-\N{INFINITY}"
    return f"{value:{sign}.2f}"
