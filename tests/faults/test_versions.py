"""Changes by other programs at the push destination, and a clock that was ahead."""

import os
import pathlib

import pytest

pytestmark = pytest.mark.faults

FUTURE = 4_102_444_800  # the year 2100


def test_a_served_version_that_was_changed(place, outcome):
    before = place.served()
    model = pathlib.Path(before.path, "saved_model.pb")
    model.write_bytes(model.read_bytes() + b"x")
    printed = place.push()
    assert f"version {before.number} of {place.destination} is damaged: " in printed
    assert "saved_model.pb has SHA-256 " in printed
    assert "; there is no baseline" in printed
    assert f"baseline's ELBO  │ none: version {before.number} of " in printed
    assert place.served().number > before.number
    outcome(
        "a served version's files are not those of its manifest",
        "`version N of FOLDER is damaged: FILE has SHA-256 ...; the baseline is "
        "...`, exit code 0",
        "is measured against the newest version that is intact, and pushes above both",
    )


def test_a_half_written_version_of_a_foreign_writer(place, outcome):
    before = place.served()
    folder = place.destination / str(FUTURE)
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"the first half")
    printed = place.push()
    assert f"version {FUTURE} of {place.destination} is damaged: it has no " in printed
    assert f"the baseline is version {before.number}" in printed
    assert place.served().number == FUTURE + 1
    assert (folder / "saved_model.pb").read_bytes() == b"the first half"
    outcome(
        "a half-written version folder of a foreign writer",
        "`version N of FOLDER is damaged: it has no MANIFEST.json yet; ...`, exit code "
        "0",
        "leaves it alone, and pushes above it",
    )


def test_a_version_of_the_future(place, outcome):
    before = place.served()
    # The version was pushed while the clock was ahead.
    os.rename(before.path, place.destination / str(FUTURE))
    place.push()
    assert place.served().number == FUTURE + 1
    assert place.served().manifest.content["baseline"]["version"] == FUTURE
    outcome(
        "a served version whose number is of the future: the clock was ahead",
        "nothing, exit code 0",
        "gives the next version the number above the highest",
    )
