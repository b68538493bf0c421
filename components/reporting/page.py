"""The report as one HTML page that needs nothing else."""

import base64
import importlib.resources
import math
from collections.abc import Mapping
from typing import Any

import jinja2

PAGE = "report.html"  # in Report's output `page`
FACTS = "report.json"  # in its output `metrics`, beside the pictures
STEPS = "steps"  # the picture that only a runner can draw

_TEMPLATE = "report.html.jinja"


def render(facts: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Returns the page, its pictures inside.

    Args:
      facts: what `report_facts.collect` returns and, if it is known, `run`: `id`, and
        `steps` with `name`, `seconds` and `cached` each.
      pictures: PNGs by name; the page leaves out those that there are not.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["nats"] = nats
    environment.filters["signed"] = lambda value: nats(value, "+")
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


def nats(value: float | None, sign: str = "-") -> str:
    """Returns a number of nats with two digits; JSON has no NaN, but null."""
    if value is None:
        return "not a number"
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else "-\N{INFINITY}"
    return f"{value:{sign}.2f}"
