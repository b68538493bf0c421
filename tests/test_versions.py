"""The push destination, of each kind: what is numbered, served, verified, fetched."""

import hashlib
import json
import pathlib
import time

import pytest

from components import versions
from tests.places import FILES, write_model


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


# Pushing.


def test_a_version_is_the_model_and_a_manifest(model, place):
    version = versions.push(model, place.uri, {"elbo": -90.5, "config": {"a": [1]}})
    assert version.path == f"{place.uri}/{version.number}"
    found = place.read()
    manifest = json.loads(found.pop(f"{version.number}/MANIFEST.json"))
    assert found == {f"{version.number}/{name}": FILES[name] for name in FILES}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    lines = [f"{digest}  {name}\n" for name, digest in sorted(digests.items())]
    assert manifest == {
        "digest": hashlib.sha256("".join(lines).encode()).hexdigest(),
        "elbo": -90.5,
        "config": {"a": [1]},
        "files": digests,
    }
    assert version.manifest == manifest
    assert version.digest == manifest["digest"]


def test_a_destination_may_end_with_a_slash(model, place):
    version = versions.push(model, place.uri + "/", {})
    assert version.path == f"{place.uri}/{version.number}"
    assert versions.served(place.uri + "/") == versions.served(place.uri) == version


def test_the_number_is_the_unix_time(model, place):
    before = int(time.time())
    number = versions.push(model, place.uri, {}).number
    assert before <= number <= int(time.time())


def test_a_clock_that_went_back_gives_the_next_number(model, place):
    ahead = int(time.time()) + 10_000
    place.write(f"{ahead}/of-somebody", b"")
    assert versions.push(model, place.uri, {}).number == ahead + 1
    assert versions.push(model, place.uri, {}).number == ahead + 2


def test_low_numbers_do_not_matter(model, place):
    place.write("7/of-somebody", b"")
    before = int(time.time())
    assert versions.push(model, place.uri, {}).number >= before


def test_a_model_that_is_not_there_leaves_nothing(model, place):
    versions.push(model, place.uri, {})
    before = place.read()
    with pytest.raises(FileNotFoundError, match=r"must have files, .*/no_model has"):
        versions.push(model + "/no_model", place.uri, {})
    assert place.read() == before


def test_a_model_with_a_file_that_cannot_be_read_leaves_nothing(model, place):
    pathlib.Path(model, "variables", "gone").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match="gone"):
        versions.push(model, place.uri, {})
    assert place.read() == {}


def test_a_manifest_that_is_no_json_leaves_nothing(model, place):
    with pytest.raises(TypeError, match="not JSON serializable"):
        versions.push(model, place.uri, {"elbo": object()})
    assert place.read() == {}


# Serving.


def test_the_highest_version_is_served(model, place):
    old, new = (versions.push(model, place.uri, {"of": name}) for name in "ab")
    assert new.number > old.number
    assert versions.served(place.uri) == new
    place.remove(str(new.number))  # rolled back
    assert versions.served(place.uri) == old


def test_numbers_are_compared_as_numbers(place):
    for number in ("9", "10"):
        place.write(f"{number}/MANIFEST.json", b'{"digest": "", "files": {}}')
    assert versions.served(place.uri).number == 10


def test_nothing_is_served_where_nothing_is(place):
    assert versions.served(place.uri) is None
    assert place.read() == {}
    place.write("of-somebody", b"")
    assert versions.served(place.uri) is None


def test_a_version_is_found_by_its_number(model, place):
    old, new = (versions.push(model, place.uri, {}) for _ in range(2))
    assert versions.find(place.uri, old.number) == old
    place.write("7/of-somebody", b"")  # no manifest
    with pytest.raises(LookupError) as error:
        versions.find(place.uri, 7)
    assert str(error.value) == (
        f"the version must be one of those at {place.uri} "
        f"({old.number}, {new.number}), got 7"
    )


def test_no_version_is_found_where_nothing_is(place):
    with pytest.raises(LookupError, match=r"\(there are none\), got 1"):
        versions.find(place.uri, 1)


def test_a_damaged_manifest_is_named(model, place):
    version = versions.push(model, place.uri, {})
    place.write(f"{version.number}/MANIFEST.json", b'{"digest": ')
    with pytest.raises(ValueError, match="must be the JSON that was pushed") as error:
        versions.served(place.uri)
    assert str(error.value).startswith(f"{version.path}/MANIFEST.json must be")
    assert str(error.value).endswith("remove that version")


def test_only_versions_with_a_manifest_count(model, place):
    for name, data in FILES.items():
        place.write(f"20000000000/{name}", data)
    place.write("20000000001", b"a file")
    for name in (".staging-x", "best", "1.5", "-3"):
        place.write(f"{name}/MANIFEST.json", b'{"digest": "", "files": {}}')
    assert versions.served(place.uri) is None
    version = versions.push(model, place.uri, {})
    assert version.number == 20000000002
    assert versions.served(place.uri) == version


# Verifying and fetching.


@pytest.fixture
def version(model, place):
    return versions.push(model, place.uri, {})


def fetched(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_wrong(version, tmp_path, wrong):
    """Asserts that it is seen where it is, and in a copy, of which nothing is left."""
    message = f"the files of {version.path} must be those of its MANIFEST.json: {wrong}"
    with pytest.raises(ValueError, match="must be those of") as error:
        versions.verify(version)
    assert str(error.value) == message
    with pytest.raises(ValueError, match="must be those of") as error:
        versions.fetch(version, str(tmp_path / "copy"))
    assert str(error.value) == message
    assert not (tmp_path / "copy").exists()


def test_what_was_pushed_is_verified(version, place):
    versions.verify(version)
    versions.verify(versions.served(place.uri))


def test_a_changed_file(version, place, tmp_path):
    place.write(f"{version.number}/saved_model.pb", b"Abc")
    assert_wrong(version, tmp_path, "saved_model.pb is not what was pushed")


def test_missing_and_extra_files(version, place, tmp_path):
    place.remove(f"{version.number}/variables/variables.index")
    place.write(f"{version.number}/assets/extra", b"")
    wrong = "variables/variables.index is missing, assets/extra was not pushed"
    assert_wrong(version, tmp_path, wrong)


def test_a_copy_has_the_model_alone(version, tmp_path):
    versions.fetch(version, str(tmp_path / "copy"))
    assert fetched(tmp_path / "copy") == FILES


def test_a_manifest_of_the_models_own_is_copied(model, place, tmp_path):
    files = {**FILES, "assets/MANIFEST.json": b"of its own"}
    version = versions.push(write_model(model, files), place.uri, {})
    versions.fetch(version, str(tmp_path / "copy"))
    assert fetched(tmp_path / "copy") == files


def test_a_version_that_is_gone_is_not_fetched(version, place, tmp_path):
    place.remove(str(version.number))
    with pytest.raises(ValueError, match="saved_model.pb is missing"):
        versions.fetch(version, str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()
