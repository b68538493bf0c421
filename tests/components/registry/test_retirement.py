"""Retired versions: who serves them, and what a damaged record means."""

import dataclasses
import json
import os
import pathlib

import pytest

from components.registry import (
    listing,
    retirement,
    retiring,
    rolling_back,
)
from components.registry.manifest import Manifest
from components.registry.retirement import Retirement
from tests.support import pushes
from tests.support.places import FILES, write_model


def push(place, tmp_path, name, singleprint=None):
    files = {**FILES, "saved_model.pb": name.encode()}
    content = {"singleprint": singleprint, "spans": [{"span": 7, "fingerprint": "a"}]}
    return pushes.push_next(
        write_model(tmp_path / "models" / name, files),
        destination=place.uri,
        manifest=Manifest.from_content(content),
    )


def test_a_retired_version_is_no_target_of_a_rollback(place, tmp_path):
    one, two, three = (push(place, tmp_path, name) for name in "abc")
    record = retiring.retire_version(place.uri, two.number, why="span 7")
    assert json.loads(place.read()[f".retired-{two.number}.json"]) == {
        "version": two.number,
        "by": rolling_back.describe_user(),
        "why": "span 7",
        "at": record.at,
        "digest": two.digest,
        "singleprint": None,
    }
    reason = f"version {two.number} was retired by {record.by} at {record.at} (span 7)"
    with pytest.raises(rolling_back.RollbackError) as error:
        rolling_back.roll_back(place.uri, two.number, why="x")
    assert str(error.value) == f"{reason}; choose another one"
    found = list(listing.list_versions(place.uri))
    assert [each.number for each in found] == [three.number, two.number, one.number]
    assert (found[1].why, found[1].is_retired, found[1].spans) == (reason, True, (7,))
    again = rolling_back.roll_back(place.uri, None, why="x")
    assert again.manifest.rolled_back.to == one.number
    assert listing.find_served_version(place.uri) == again


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_a_retired_model_is_retired_under_every_number(place, tmp_path):
    one, two = push(place, tmp_path, "a", "7/8"), push(place, tmp_path, "b")
    again = push(place, tmp_path, "c", "7/8")  # another export of the first model
    last = push(place, tmp_path, "d")
    record = retiring.retire_version(place.uri, one.number, why="x")
    found = list(listing.list_versions(place.uri))
    assert [each.number for each in found if isinstance(each, listing.Version)] == [
        last.number,
        two.number,
    ]
    # A push of the model is refused, too.
    for digest, singleprint in (("0", "7/8"), (again.digest, None)):
        found = rolling_back.find_rejection(place.uri, digest, singleprint=singleprint)
        assert found == (record if singleprint else None)
    found = rolling_back.find_rejection(place.uri, one.digest, singleprint=None)
    assert found == record


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_the_served_version_cannot_be_retired(place, tmp_path):
    one, two = push(place, tmp_path, "a"), push(place, tmp_path, "b")
    advice = (
        ": roll back first, by `vae-pipeline rollback --reason WHY`, then retire it"
    )
    with pytest.raises(retiring.RetirementError) as error:
        retiring.retire_version(place.uri, two.number, why="x")
    assert str(error.value) == f"version {two.number} is served{advice}"
    again = rolling_back.roll_back(place.uri, one.number, why="x")
    with pytest.raises(retiring.RetirementError) as error:
        retiring.retire_version(place.uri, one.number, why="x")
    served = f"version {one.number} is served, as version {again.number}"
    assert str(error.value) == served + advice
    record = retiring.retire_version(place.uri, two.number, why="x")
    with pytest.raises(retiring.RetirementError) as error:
        retiring.retire_version(place.uri, two.number, why="x")
    assert str(error.value) == f"{record.describe()}: nothing is left to do"
    with pytest.raises(listing.NoVersionError):
        retiring.retire_version(place.uri, 12, why="x")
    assert listing.find_served_version(place.uri) == again


@pytest.mark.parametrize("place", ["folder"], indirect=True)
@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("{", encoding="utf-8"),
        lambda path: path.write_text('{"version": 1, "by": "x"}', encoding="utf-8"),
        lambda path: path.write_text('{"version": 9, "why": 7}', encoding="utf-8"),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.mkdir(),
        os.mkfifo,
    ],
)
def test_a_damaged_record_retires_its_version_all_the_same(place, tmp_path, write):
    one, two = push(place, tmp_path, "a"), push(place, tmp_path, "b")
    write(pathlib.Path(place.uri, f".retired-{two.number}.json"))
    served, [retired] = listing.find_served_and_damaged(place.uri)
    assert served == one
    assert retired.why == (
        f"version {two.number} was retired, and .retired-{two.number}.json beside the "
        "versions is damaged"
    )
    assert retired.describe(one).startswith(
        f"version {two.number} of {place.uri} is not"
    )


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_other_names_are_no_records(place):
    assert retirement.read_retirements(place.uri) == []
    for name in ("07", "-7", "x", "", "9" * 30, "٣"):
        place.write(f".retired-{name}.json", b"{}")
    place.write(".retired-7", b"{}")
    assert retirement.read_retirements(place.uri) == []
    record = Retirement(version=7, by="a@b", why="c", at="d", digest="e")
    place.write(".retired-7.json", json.dumps(dataclasses.asdict(record)).encode())
    assert retirement.read_retirements(place.uri) == [record]
