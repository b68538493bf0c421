"""Version numbers: those in use, the next one, and claims in an object store."""

import time

import pytest

from components.registry import version_numbers
from model.files import filesystems


def numbers(place):
    with filesystems.open_filesystem(place.uri) as (files, path):
        return sorted(version_numbers.list_numbers(files, path))


def claim(place):
    with filesystems.open_filesystem(place.uri) as (files, path):
        return version_numbers.claim_number(files, path)


def test_only_folders_with_a_plain_number_are_versions(place):
    for name in ("7", "12", "007", "-3", "1.5", ".claim-9", "seven", "٣"):
        place.write(f"{name}/saved_model.pb", b"")
    assert numbers(place) == [7, 12]


def test_an_empty_destination_has_no_numbers(place):
    assert numbers(place) == []


def test_a_bucket_that_is_not_there_is_an_error(s3):
    with (
        pytest.raises(filesystems.StorageError),
        filesystems.open_filesystem("s3://no-such-bucket/serving") as (files, path),
    ):
        version_numbers.list_numbers(files, path)


def test_the_next_number_is_the_unix_time(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.9)
    assert version_numbers.next_number([]) == 1_700_000_000
    assert version_numbers.next_number([5]) == 1_700_000_000


def test_the_next_number_is_above_all_in_use_when_the_clock_was_set_back(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    found = [1_700_000_000, 1_700_000_007]
    assert version_numbers.next_number(found) == 1_700_000_008


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_claimed_number_is_given_once(place, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    assert [claim(place) for _ in range(3)] == [
        1_700_000_000,
        1_700_000_001,
        1_700_000_002,
    ]
    assert version_numbers.is_claimed(place.uri, 1_700_000_001)
    assert not version_numbers.is_claimed(place.uri, 1_700_000_003)


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_claim_is_above_the_versions_there(place, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    place.write("1800000000/saved_model.pb", b"")
    assert claim(place) == 1_800_000_001


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_store_that_refuses_the_claim_is_an_error(place, monkeypatch):
    with filesystems.open_filesystem(place.uri) as (files, path):

        def refuse(name, data, mode):
            raise PermissionError("Access Denied")

        monkeypatch.setattr(files, "pipe_file", refuse)
        with pytest.raises(PermissionError, match="Access Denied"):
            version_numbers.claim_number(files, path)


IGNORED = ["0", "007", "9223372036854775807", "9223372036854775808", "9" * 255]


def test_numbers_that_are_no_versions_are_reported_and_ignored(place):
    for name in (*IGNORED, "-3", "+4", " 5", "1.5", "x", "٣", "7", str(2**63 - 2)):
        if name != "9" * 255 or place.uri.startswith("/"):
            place.write(f"{name}/saved_model.pb", b"")
    assert numbers(place) == [7, 2**63 - 2]
    messages = version_numbers.describe_ignored_names(place.uri)
    names = {message.split(" in ")[0] for message in messages}
    expected = ["' 5'", "'+4'", "'-3'", *map(repr, IGNORED[:4])]
    long = [f"'{'9' * 40}...'"] if place.uri.startswith("/") else []
    assert names == {*expected, *long}
    assert messages[-1].endswith(
        f" in {place.uri} is ignored: the number of a version must be from 1 to "
        "9223372036854775806, without zeros before it; remove it, because TensorFlow "
        "Serving may load it"
    )


def test_a_destination_that_is_missing_has_no_ignored_names(place):
    assert version_numbers.describe_ignored_names(place.uri) == []


def test_there_is_no_number_above_the_highest():
    with pytest.raises(version_numbers.NoNumberError) as error:
        version_numbers.next_number([2**63 - 2])
    assert str(error.value) == (
        "the number of the next version must be at most 9223372036854775806, which is "
        "used: nothing of this program has such a number; remove 9223372036854775806 "
        "from the folder of the versions"
    )
