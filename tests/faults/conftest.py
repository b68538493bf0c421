"""A root that runs were killed in, copies of it, and the table of outcomes."""

import dataclasses
import pathlib
import re

import pytest

from tests.support import runs

PAGE = pathlib.Path(__file__).parents[2] / "docs/reference/faults.md"
_PROPERTY = "outcome"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A place, and what happened to it."""

    place: runs.Place
    template: pathlib.Path  # its files
    killed: list[tuple[str, int]]  # each step in which a run was killed, its exit code
    printed: list[str]  # by each of these, and by the run that was not killed


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Prepared:
    """A root where one model is served, and the next one is ready to be pushed.

    The first run was killed in each of its steps, and begun again each time.
    """
    path = tmp_path_factory.mktemp("faults")
    place = runs.Place(path / "place")
    place.path.mkdir()
    place.write_source()
    killed: list[tuple[str, int]] = []
    printed = []
    while True:
        # Until the data are prepared.
        options = () if len(killed) > 1 else ("--source", str(place.source))
        run = place.start(options=options)
        known = "|".join(["Imports", *(step for step, _ in killed)])
        match = run.wait_for(rf"^(?!(?:{known})\b)(\w+) +\.\.\.$|^Result\b")
        if match[1] is None:
            break
        code = run.kill()
        killed.append((run.last_step(), code))
        printed.append(run.printed)
        if killed[-1][1] == 0:
            raise AssertionError(f"too late to be killed:\n{run.printed}")
    assert run.end() == 0, run.printed
    served = place.served()
    place.push()
    second = place.served()
    assert second.number > served.number
    runs.shutil.rmtree(second.path)  # as if it had been killed before
    template = path / "template"
    runs.copy(place.path, template)
    return Prepared(place, template, killed, [*printed, run.printed])


@pytest.fixture
def place(prepared) -> runs.Place:
    """The prepared root, as it was: metadata know it by its path."""
    runs.copy(prepared.template, prepared.place.path)
    return prepared.place


@pytest.fixture
def outcome(record_property):
    """Asserts that the table of faults has a row: a fault, what is seen, what next."""

    def record(fault: str, seen: str, after: str) -> None:
        row = f"| {fault} | {seen} | {after} |"
        record_property(_PROPERTY, row)
        assert row in PAGE.read_text().splitlines(), f"{PAGE} lacks\n{row}"

    return record


def pytest_terminal_summary(terminalreporter):
    reports = [r for found in terminalreporter.stats.values() for r in found]
    rows = dict.fromkeys(
        row
        for report in reports
        for name, row in getattr(report, "user_properties", ())
        if name == _PROPERTY
    )
    if rows:
        terminalreporter.section("faults and outcomes")
        for row in rows:
            terminalreporter.write_line(row)


@pytest.fixture
def said():
    """Returns what was printed as one line, whatever its folds."""
    return lambda printed: re.sub(r"\s+", " ", printed)
