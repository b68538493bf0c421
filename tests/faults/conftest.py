"""Fixtures of the fault tests: a root with killed runs, copies of it, outcomes."""

import dataclasses
import pathlib

import pytest

from tests.support import runs

PAGE = pathlib.Path(__file__).parents[2] / "docs/reference/faults.md"
_PROPERTY = "outcome"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A place, and the runs that were killed in it."""

    place: runs.Place
    template: pathlib.Path  # the original files
    # each step in which a run was killed, and the run's exit code
    killed: list[tuple[str, int]]
    printed: list[str]  # output of each killed run, and of the run that was not killed


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Prepared:
    """Returns a place with a served model and a trained model that is not pushed.

    A first run was killed in each of its steps and started again each time.
    """
    path = tmp_path_factory.mktemp("faults")
    place = runs.Place(path / "place")
    place.path.mkdir()
    place.write_source()
    killed: list[tuple[str, int]] = []
    printed = []
    while True:
        # The option is needed until the data are prepared.
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
    # as if the second run had been killed before its push
    runs.shutil.rmtree(second.path)
    template = path / "template"
    runs.copy(place.path, template)
    return Prepared(place, template, killed, [*printed, run.printed])


@pytest.fixture
def place(prepared) -> runs.Place:
    """Restores the prepared place, at its own path as the metadata contain it."""
    runs.copy(prepared.template, prepared.place.path)
    return prepared.place


@pytest.fixture
def outcome(record_property):
    """Returns a function that asserts a row of the table in docs/reference/faults.md.

    The row has the fault, what the user sees, and what the next run does.
    """

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
