"""Fixtures of the attacks, and the table of the lines: attacks tried and held."""

import collections

import pytest

from components.registry.manifest import Manifest
from tests.support import attacked, places
from tests.support.pushes import push_next

_LINE = "line"


@pytest.fixture(autouse=True)
def line(request, record_property):
    """Records the line of the table that a test belongs to."""
    record_property(_LINE, request.node.get_closest_marker("line").args[0])


@pytest.fixture
def attack(tmp_path):
    """Returns a function that runs a command in an empty folder; returns its outcome.

    See `attacked.command` for its arguments.
    """
    folder = tmp_path / "here"
    folder.mkdir()

    def attack(*arguments, **options):
        return attacked.command(*arguments, **{"folder": folder, **options})

    attack.folder = folder
    return attack


@pytest.fixture
def refuse(attack):
    """Returns a function that runs a command, which must refuse its arguments at once.

    It must write no file.
    """

    def refuse(arguments, *words, **options):
        outcome = attack(*arguments, **options)
        attacked.check_refused(outcome, *words)
        assert sorted(attack.folder.iterdir()) == []
        return outcome

    return refuse


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """Returns a root with a served version, whose SavedModel cannot be loaded.

    The commands read the images that they are given before they load the model.
    """
    path = tmp_path_factory.mktemp("served")
    push_next(
        places.write_model(path / "model"),
        destination=str(path / "runs" / "serving" / "vae"),
        manifest=Manifest.from_content({}),
    )
    return path / "runs"


def pytest_terminal_summary(terminalreporter):
    tried, held = collections.Counter(), collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            found = dict(getattr(report, "user_properties", ()))
            if _LINE not in found or report.when == "teardown":
                continue
            if report.when == "call" or report.failed:
                tried[found[_LINE]] += 1
                held[found[_LINE]] += report.passed
    if not tried:
        return
    terminalreporter.section("attacks: tried, held")
    for name in sorted(tried):
        terminalreporter.write_line(f"{tried[name]:5} {held[name]:5}  {name}")
    terminalreporter.write_line(f"{tried.total():5} {held.total():5}  in all")
