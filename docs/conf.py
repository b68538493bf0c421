"""Sphinx's configuration, and the generated part of two pages of the reference.

`make docs` builds the pages. The options of the commands and the tables of settings
come from the program itself: they go to `_build/generated`, which the pages include.
"""

import contextlib
import dataclasses
import inspect
import io
import json
import os
import pathlib
import re
import sys
import typing

import pydantic

DOCS = pathlib.Path(__file__).parent
GENERATED = DOCS / "_build" / "generated"
sys.path.insert(0, str(DOCS.parent))

from pipeline.cli import main  # noqa: E402, after the path is set
from pipeline.config import loading  # noqa: E402

project = "vae-pipeline"
author = "the authors of vae-pipeline"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "vae-pipeline"
html_show_copyright = False
myst_heading_anchors = 3

_TYPES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "`true` or `false`",
    "null": "`null`",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "minLength": "length at least",
    "pattern": "matches",
}


def help_of(*words: str) -> str:
    """Returns what `vae-pipeline WORDS --help` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        main.main([*words, "--help"])
    return printed.getvalue()


def commands_page() -> str:
    """Returns the help of every command, in the order in which --help lists them."""
    overview = help_of()
    names = re.findall(r"^  ([a-z]+) {2,}\S", overview, re.MULTILINE)
    blocks = [f"```text\n{overview}```\n"]
    blocks += [f"## {name}\n\n```text\n{help_of(name)}```\n" for name in names]
    return "\n".join(blocks)


def settings_page() -> str:
    """Returns a table of the fields of each section, and a table of the presets."""
    schema = pydantic.TypeAdapter(loading.PipelineConfig).json_schema()
    blocks = []
    for section, kind in typing.get_type_hints(loading.PipelineConfig).items():
        blocks.append(_section_table(section, kind, schema=schema))
        for field, hint in typing.get_type_hints(kind).items():
            for nested in filter(dataclasses.is_dataclass, typing.get_args(hint)):
                name = f"{section}.{field}.NAME"
                blocks.append(_section_table(name, nested, schema=schema))
    return "\n".join([*blocks, _presets_table()])


def _section_table(name: str, kind: type, *, schema: dict[str, typing.Any]) -> str:
    properties = schema["$defs"][kind.__name__]["properties"]
    defaults = kind()
    lines = [
        f"## {name}\n",
        f"{inspect.getdoc(kind)}\n",
        "| Field | Type | Range | Default | Meaning |",
        "|---|---|---|---|---|",
    ]
    for field, facts in properties.items():
        types, bounds = _describe(facts)
        default = json.dumps(getattr(defaults, field))
        meaning = _escape(facts["description"])
        cells = [f"`{field}`", types, bounds, f"`{default}`", meaning]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _describe(facts: dict[str, typing.Any]) -> tuple[str, str]:
    """Returns the type and the range of a field, from its JSON schema."""
    if "$ref" in facts:
        return "fields, see below", ""
    if "anyOf" in facts:
        parts = [_describe(each) for each in facts["anyOf"]]
        return " or ".join(p[0] for p in parts), ", ".join(p[1] for p in parts if p[1])
    if "enum" in facts:
        return "one of", ", ".join(f"`{value}`" for value in facts["enum"])
    if "const" in facts:
        return "constant", f"`{facts['const']}`"
    bounds = ", ".join(
        f"{words} `{_escape(str(facts[key]))}`"
        for key, words in _BOUNDS.items()
        if key in facts
    )
    if facts.get("type") == "array":
        types, inner = _describe(facts["items"])
        return f"list, each {types}", inner or bounds
    if facts.get("type") == "object":
        types, inner = _describe(facts["additionalProperties"])
        return f"map of names to {types}", inner or bounds
    return _TYPES[facts["type"]], bounds


def _presets_table() -> str:
    """Returns the settings in which the presets differ from each other."""
    sections = {
        preset: dataclasses.asdict(loading.resolve(preset))
        for preset in loading.PRESETS
    }
    lines = [
        "## Presets\n",
        "The settings in which the presets differ; the first preset is the default.\n",
        "| Setting | " + " | ".join(f"`{preset}`" for preset in sections) + " |",
        "|---" * (len(sections) + 1) + "|",
    ]
    first = sections[loading.PRESETS[0]]
    for section, fields in first.items():
        for field in fields:
            values = [json.dumps(each[section][field]) for each in sections.values()]
            if len(set(values)) > 1:
                cells = " | ".join(f"`{value}`" for value in values)
                lines.append(f"| `{section}.{field}` | {cells} |")
    return "\n".join([*lines, ""])


def _escape(text: str) -> str:
    """Returns a text as a cell of a Markdown table."""
    return text.replace("|", r"\|").replace("<", "&lt;").replace("{", r"\{")


def setup(app) -> None:
    """Writes the generated parts before Sphinx reads the pages."""
    os.environ["COLUMNS"] = "88"  # the width of the commands' help
    GENERATED.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("commands.md", commands_page()),
        ("settings.md", settings_page()),
    ):
        (GENERATED / name).write_text(text, encoding="utf-8")
