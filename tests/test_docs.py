"""The Markdown pages: lengths, links and commands of README.md, docs/ and others."""

import dataclasses
import importlib.util
import pathlib
import re
import shlex
import urllib.parse
from collections.abc import Iterator

import pytest
import yaml

from pipeline.cli import main, options
from pipeline.config import loading

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the image holds no docs")

PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    if "_build" not in path.parts
)
IDS = [str(path.relative_to(ROOT)) for path in PAGES]
COMMANDS = {
    *("data", "run", "evaluate", "report", "compile", "submit", "schedule", "history"),
    *("prune", "versions", "rollback", "serve", "generate", "reconstruct", "score"),
}


def without_blocks(text: str) -> str:
    """Returns Markdown without its fenced blocks and code spans."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def blocks(path: pathlib.Path, *languages: str) -> list[str]:
    """Returns the fenced blocks of a page that have one of the languages."""
    found = []
    language, lines = None, []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("```"):
            lines.append(line)
        elif language is None:
            language, lines = line[3:], []
        else:
            if language in languages:
                found.append("\n".join(lines))
            language = None
    return found


def anchors(path: pathlib.Path) -> set[str]:
    """Returns the anchors of a page's headings, named as by GitHub and MyST."""
    text = re.sub(
        r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


def broken_links(path: pathlib.Path) -> list[str]:
    """Returns the relative links and pictures of a page whose target does not exist."""
    broken = []
    text = without_blocks(path.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        if urllib.parse.urlsplit(link).scheme:
            continue
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def commands(path: pathlib.Path) -> Iterator[list[str]]:
    """Yields the arguments of each `vae-pipeline` command of a page.

    Commands are the lines of blocks with the language `sh` or none, and lines after `$`
    in blocks of console output. `...` at the end of a line means more arguments.
    """
    lines = [line for block in blocks(path, "sh", "") for line in joined(block)]
    for block in blocks(path, "text"):
        lines += [line[2:] for line in joined(block) if line.startswith("$ ")]
    for line in lines:
        words = shlex.split(line, comments=True)
        if "|" in words:
            words = words[: words.index("|")]
        while words[-1:] == ["..."]:
            words.pop()
        if words[:2] == ["docker", "run"] and "vae-pipeline" in words:
            words = words[len(words) - words[::-1].index("vae-pipeline") - 1 :]
        if words[:2] == ["make", "run"]:
            given = [word[5:] for word in words if word.startswith("ARGS=")]
            words = ["vae-pipeline", "run", *shlex.split(" ".join(given))]
        if words[:1] == ["vae-pipeline"]:
            yield words[1:]


def joined(block: str) -> list[str]:
    """Returns the lines of a block, with lines continued by a backslash joined."""
    return block.replace("\\\n", " ").splitlines()


def test_the_readme_has_at_most_200_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_a_page_has_at_most_120_lines(path):
    is_page = path.parent != ROOT
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not is_page or len(lines) <= 120


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_every_relative_link_has_a_target(path):
    assert broken_links(path) == []


def test_a_link_to_a_missing_file_or_heading_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# Two words\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n[a](other.md#two-words) [b](other.md#three) [c](none.md) [d](#page)\n"
        "[e](https://example.org/none.md) ![f](none.png)\n```text\n[g](h.md)\n```\n"
    )
    assert broken_links(page) == ["other.md#three", "none.md", "none.png"]


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_every_command_is_one_that_the_program_understands(path):
    for words in commands(path):
        if words == ["--version"]:  # the option prints the version and ends the process
            continue
        args = main.parse(words).keywords["args"]
        if isinstance(args, options.Settings):
            # Its file is not here.
            options.resolve(dataclasses.replace(args, config=None))


def test_commands_are_found_in_shell_blocks_and_in_what_was_printed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\nvae-pipeline run \\\n    --root a  # comment\nmake run ARGS='--wait'\n"
        "docker run x vae-pipeline vae-pipeline data\ncurl x\n```\n"
        "```text\n$ vae-pipeline history --json | head\nvae-pipeline: error\n```\n"
    )
    assert list(commands(page)) == [
        ["run", "--root", "a"],
        ["run", "--wait"],
        ["data"],
        ["history", "--json"],
    ]


def test_the_pages_use_every_command():
    used = {words[0] for path in PAGES for words in commands(path)}
    assert used - {"--version"} == COMMANDS


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_every_target_of_make_is_in_the_makefile(path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block in blocks(path, "sh", ""):
        for target in re.findall(r"^(?:\w+=\S+ )*make ([\w-]+)", block, re.MULTILINE):
            assert re.search(rf"^{target}( [\w-]+)*:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_every_block_of_settings_is_a_valid_configuration(path):
    for block in blocks(path, "yaml"):
        loading.from_dict(yaml.safe_load(block))


@pytest.fixture
def conf():
    """Returns Sphinx's configuration, which generates two pages, as a module."""
    spec = importlib.util.spec_from_file_location("docs_conf", DOCS / "conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_the_help_of_every_command(conf):
    page = conf.commands_page()
    assert set(re.findall(r"^## (\w+)$", page, re.MULTILINE)) == COMMANDS
    for command in COMMANDS:
        assert f"```text\nUsage: vae-pipeline {command} " in page


def rows(page: str) -> dict[str, list[str]]:
    """Returns `section.field` -> cells of the field's row, for all tables of a page."""
    found = {}
    section = ""
    for line in page.splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            found[f"{section}.{cells[0].strip('`')}"] = cells
    return found


def test_the_reference_has_every_setting_with_its_default(conf):
    found = rows(conf.settings_page())
    printed = yaml.safe_load(loading.to_yaml(loading.PipelineConfig()))
    settings = {
        f"{s}.{f}": v for s, fields in printed.items() for f, v in fields.items()
    }
    defaults = {key: yaml.safe_load(found[key][3].strip("`")) for key in settings}
    assert defaults == settings
    assert {"kubeflow.steps.NAME.cpu", "kubeflow.steps.NAME.gpu_type"} <= set(found)


def test_the_reference_says_what_a_setting_means_and_what_it_may_be(conf):
    found = rows(conf.settings_page())
    assert found["model.network"][1:3] == ["one of", "`blog`, `dense`, `conv_residual`"]
    assert "weight of the KL" in found["model.beta"][4]
    assert "env:NAME" in found["notify.webhook"][4]


def test_the_reference_compares_the_presets(conf):
    found = rows(conf.settings_page())
    assert found["Presets.train.epochs"][1] == "`5`"  # from presets/five_minutes.yaml
    assert "Presets.train.seed" not in found  # all presets have the same seed
