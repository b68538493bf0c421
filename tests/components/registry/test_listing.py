"""The versions at each kind of push destination: listing, verification, fetching."""

import contextlib
import hashlib
import json

import pytest

from components.registry import listing
from components.registry.manifest import Manifest, ManifestError
from tests.support.places import FILES, write_model
from tests.support.pushes import push_next


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


# Pushing.


def test_the_highest_version_is_served(model, place):
    old, new = (
        push_next(
            model, destination=place.uri, manifest=Manifest.from_content({"of": name})
        )
        for name in "ab"
    )
    assert new.number > old.number
    assert listing.find_served_version(place.uri) == new
    place.remove(str(new.number))  # a rollback
    assert listing.find_served_version(place.uri) == old


def test_numbers_are_compared_as_numbers(model, place):
    version = push_next(
        model, destination=place.uri, manifest=Manifest.from_content({})
    )
    for number in (9, 10):
        copy(place, version, number)
    place.remove(str(version.number))
    with contextlib.suppress(FileNotFoundError):  # a folder has none
        place.remove("SERVED.json")
    assert listing.find_served_version(place.uri).number == 10


def test_a_missing_folder_serves_nothing(place):
    assert listing.find_served_version(place.uri) is None
    assert place.read() == {}
    place.write("of-somebody", b"")
    assert listing.find_served_version(place.uri) is None


def test_the_newest_manifest_changes_with_each_push_and_removal(model, place):
    assert listing.read_newest_manifest(place.uri) == ([], None)
    old, new = (
        push_next(
            model, destination=place.uri, manifest=Manifest.from_content({"of": name})
        )
        for name in "ab"
    )
    numbers, manifest = listing.read_newest_manifest(place.uri)
    assert numbers == [old.number, new.number]
    assert json.loads(manifest) == new.manifest.content
    place.remove(str(new.number))
    numbers, manifest = listing.read_newest_manifest(place.uri)
    assert numbers == [old.number]
    assert json.loads(manifest) == old.manifest.content
    place.write(f"{new.number}/of-somebody", b"")
    assert listing.read_newest_manifest(place.uri) == ([old.number, new.number], None)


def test_a_version_is_found_by_its_number(model, place):
    old, new = (
        push_next(model, destination=place.uri, manifest=Manifest.from_content({}))
        for _ in range(2)
    )
    assert listing.find_version(place.uri, old.number) == old
    place.write("7/of-somebody", b"")  # no manifest
    with pytest.raises(listing.NoVersionError) as error:
        listing.find_version(place.uri, 7)
    assert str(error.value) == (
        f"the version must be one of those at {place.uri} "
        f"({old.number}, {new.number}), got 7"
    )


def test_a_missing_folder_has_no_versions(place):
    with pytest.raises(listing.NoVersionError, match=r"\(there are none\), got 1"):
        listing.find_version(place.uri, 1)


def test_only_numbers_count(model, place):
    for name in (".staging-x", "best", "1.5", "-3"):
        for file, data in FILES.items():
            place.write(f"{name}/{file}", data)
    assert listing.find_served_and_damaged(place.uri) == (None, [])
    place.write("20000000001", b"a file")
    version = push_next(
        model, destination=place.uri, manifest=Manifest.from_content({})
    )
    assert version.number == 20000000002
    assert listing.find_served_version(place.uri) == version


# Damaged versions.

on_each_kind = pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
on_a_folder = pytest.mark.parametrize("place", ["folder"], indirect=True)


def copy(place, version, number):
    """Copies a version's files to another number."""
    prefix = f"{version.number}/"
    for name, data in place.read().items():
        if name.startswith(prefix):
            place.write(f"{number}/{name.removeprefix(prefix)}", data)


def assert_damaged(place, served, number, why):
    """Asserts that version `number` is described as damaged and `served` is served."""
    found, [damaged] = listing.find_served_and_damaged(place.uri)
    assert found == served == listing.find_served_version(place.uri)
    assert (damaged.number, damaged.path) == (number, f"{place.uri}/{number}")
    assert damaged.why == why
    assert damaged.describe(found) == (
        f"version {number} of {place.uri} is damaged: {why}; the baseline is version "
        f"{served.number}"
    )


@pytest.fixture
def two(model, place):
    return [
        push_next(
            model, destination=place.uri, manifest=Manifest.from_content({"of": name})
        )
        for name in "ab"
    ]


def sha256(data):
    return hashlib.sha256(data).hexdigest()[:12] + "..."


@on_each_kind
def test_a_changed_file_makes_no_baseline(place, two):
    old, new = two
    place.write(f"{new.number}/saved_model.pb", b"Abc")
    has, should = sha256(b"Abc"), sha256(FILES["saved_model.pb"])
    why = f"saved_model.pb has SHA-256 {has}, expected {should}"
    assert_damaged(place, old, new.number, why)


@on_each_kind
def test_a_missing_file_makes_no_baseline(place, two):
    old, new = two
    place.remove(f"{new.number}/variables/variables.index")
    assert_damaged(place, old, new.number, "variables/variables.index is missing")


@on_each_kind
def test_a_missing_manifest_makes_no_baseline(place, two):
    old, new = two
    place.remove(f"{new.number}/MANIFEST.json")
    assert_damaged(place, old, new.number, "it has no MANIFEST.json yet")


@on_a_folder
def test_many_wrong_files_are_not_all_named(place, two):
    old, new = two
    for name in FILES:
        place.remove(f"{new.number}/{name}")
    first = sorted(FILES)[:3]
    why = ", ".join(f"{name} is missing" for name in first) + ", and 2 more"
    assert_damaged(place, old, new.number, why)


@on_a_folder
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            b'{"digest": ',
            "JSONDecodeError: Expecting value: line 1 column 12 (char 11)",
        ),
        (b"\xff", "UnicodeDecodeError: "),
        (b"[]", "it must be a JSON object)"),
        (b"{}", "it has no digests of files)"),
        (b'{"digest": "", "files": {}}', "it has no digests of files)"),
        (b'{"digest": "", "files": {"a": 1}}', "it has no digests of files)"),
        (b'{"files": {"a": "0"}}', "its digest is not that of its files)"),
        (
            b'{"digest": "", "files": {"a": "0"}}',
            "its digest is not that of its files)",
        ),
        (b"[" * 100_000, "RecursionError: "),
    ],
)
def test_a_manifest_that_was_not_pushed_makes_no_baseline(place, two, text, why):
    old, new = two
    place.write(f"{new.number}/MANIFEST.json", text)
    found, [damaged] = listing.find_served_and_damaged(place.uri)
    assert found == old
    assert damaged.why.startswith(f"MANIFEST.json is not one that was pushed ({why}"), (
        damaged.why
    )
    with pytest.raises(ManifestError, match="is not one that was pushed"):
        listing.find_version(place.uri, new.number)


@on_each_kind
@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "a//b", ""])
def test_a_hostile_manifest_makes_no_baseline(place, two, tmp_path, name):
    old, new = two
    files = {**new.manifest.content["files"], name: hashlib.sha256(b"").hexdigest()}
    lines = [f"{digest}  {path}\n" for path, digest in sorted(files.items())]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    text = json.dumps({"digest": digest, "files": files})
    place.write(f"{new.number}/MANIFEST.json", text.encode())
    assert_damaged(
        place,
        old,
        new.number,
        "MANIFEST.json is not one that was pushed (a file's name must lead "
        f"below {place.uri}/{new.number}, got {name!r})",
    )


@on_each_kind
def test_nothing_is_served_if_all_versions_are_damaged(place, two):
    for version in two:
        place.write(f"{version.number}/saved_model.pb", b"Abc")
    found, damaged = listing.find_served_and_damaged(place.uri)
    assert found is None
    assert [other.number for other in damaged] == [two[1].number, two[0].number]
    assert damaged[0].describe(found).endswith("; there is no baseline")


@on_each_kind
def test_an_older_damaged_version_is_not_looked_at(place, two):
    place.remove(f"{two[0].number}/saved_model.pb")
    assert listing.find_served_and_damaged(place.uri) == (two[1], [])
    newest, oldest = listing.list_versions(place.uri)
    assert newest == two[1]
    assert oldest.why == "saved_model.pb is missing"


# Verifying and fetching.


@pytest.fixture
def version(model, place):
    return push_next(model, destination=place.uri, manifest=Manifest.from_content({}))


def fetched(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_wrong(version, tmp_path, wrong):
    """Asserts that verifying and fetching fail with a message and leave no copy."""
    with pytest.raises(listing.VersionError, match=r"missing|SHA-256") as error:
        listing.verify_version(version)
    assert str(error.value) == wrong
    with pytest.raises(listing.VersionError, match="is damaged") as error:
        listing.fetch_version(version, str(tmp_path / "copy"))
    assert str(error.value) == f"{version.path} is damaged: {wrong}"
    assert not (tmp_path / "copy").exists()


def test_what_was_pushed_is_verified(version, place):
    listing.verify_version(version)
    listing.verify_version(listing.find_served_version(place.uri))


def test_a_changed_file(version, place, tmp_path):
    place.write(f"{version.number}/saved_model.pb", b"Abc")
    has, should = sha256(b"Abc"), sha256(FILES["saved_model.pb"])
    wrong = f"saved_model.pb has SHA-256 {has}, expected {should}"
    assert_wrong(version, tmp_path, wrong)


def test_missing_and_extra_files(version, place, tmp_path):
    place.remove(f"{version.number}/variables/variables.index")
    place.write(f"{version.number}/assets/extra", b"")
    wrong = "variables/variables.index is missing, assets/extra was not pushed"
    assert_wrong(version, tmp_path, wrong)


def test_a_copy_has_the_model_alone(version, tmp_path):
    listing.fetch_version(version, str(tmp_path / "copy"))
    assert fetched(tmp_path / "copy") == FILES


def test_a_manifest_of_the_models_own_is_copied(model, place, tmp_path):
    files = {**FILES, "assets/MANIFEST.json": b"of its own"}
    version = push_next(
        write_model(model, files),
        destination=place.uri,
        manifest=Manifest.from_content({}),
    )
    listing.fetch_version(version, str(tmp_path / "copy"))
    assert fetched(tmp_path / "copy") == files


def test_a_removed_version_is_not_fetched(version, place, tmp_path):
    place.remove(str(version.number))
    with pytest.raises(listing.VersionError, match="saved_model.pb is missing"):
        listing.fetch_version(version, str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()
