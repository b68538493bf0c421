"""Publication: the content and number of a version, and failures that leave nothing."""

import hashlib
import json
import os
import pathlib
import time

import pytest

from components.registry import listing, publish
from components.registry.manifest import Manifest
from model.files import safe_paths
from tests.support.places import FILES, write_model
from tests.support.pushes import push_next


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


# Pushing.


def test_a_version_is_the_model_and_a_manifest(model, place):
    version = push_next(
        model,
        destination=place.uri,
        manifest=Manifest.from_content({"of": "a", "config": {"a": [1]}}),
    )
    assert version.path == f"{place.uri}/{version.number}"
    found = place.read()
    manifest = json.loads(found.pop(f"{version.number}/MANIFEST.json"))
    assert found == {f"{version.number}/{name}": FILES[name] for name in FILES}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    lines = [f"{digest}  {name}\n" for name, digest in sorted(digests.items())]
    assert manifest == {
        "digest": hashlib.sha256("".join(lines).encode()).hexdigest(),
        "of": "a",
        "config": {"a": [1]},
        "files": digests,
        "previous": None,
    }
    assert version.manifest.content == manifest
    assert version.digest == manifest["digest"]


def test_a_destination_may_end_with_a_slash(model, place):
    version = push_next(
        model, destination=place.uri + "/", manifest=Manifest.from_content({})
    )
    assert version.path == f"{place.uri}/{version.number}"
    assert (
        listing.find_served_version(place.uri + "/")
        == listing.find_served_version(place.uri)
        == version
    )


def test_the_number_is_the_unix_time(model, place):
    before = int(time.time())
    number = push_next(
        model, destination=place.uri, manifest=Manifest.from_content({})
    ).number
    assert before <= number <= int(time.time())


def test_a_clock_that_was_set_back_gives_the_next_number(model, place):
    ahead = int(time.time()) + 10_000
    place.write(f"{ahead}/of-somebody", b"")
    assert (
        push_next(
            model, destination=place.uri, manifest=Manifest.from_content({})
        ).number
        == ahead + 1
    )
    assert (
        push_next(
            model, destination=place.uri, manifest=Manifest.from_content({})
        ).number
        == ahead + 2
    )


def test_low_numbers_do_not_matter(model, place):
    place.write("7/of-somebody", b"")
    before = int(time.time())
    assert (
        push_next(
            model, destination=place.uri, manifest=Manifest.from_content({})
        ).number
        >= before
    )


def test_a_model_that_is_not_there_leaves_nothing(model, place):
    push_next(model, destination=place.uri, manifest=Manifest.from_content({}))
    before = place.read()
    with pytest.raises(FileNotFoundError, match=r"must have files, .*/no_model has"):
        push_next(
            model + "/no_model",
            destination=place.uri,
            manifest=Manifest.from_content({}),
        )
    assert place.read() == before


@pytest.mark.parametrize("target", ["nowhere", "variables.index", "/etc/passwd", "."])
@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_a_model_with_a_link_leaves_nothing(model, place, target):
    pathlib.Path(model, "variables", "link").symlink_to(target)
    with pytest.raises(safe_paths.PathError) as error:
        push_next(model, destination=place.uri, manifest=Manifest.from_content({}))
    assert str(error.value) == (
        f"variables/link below {model} must be no symbolic link, it leads to {target}"
    )
    assert place.read() == {}


def test_a_manifest_that_is_not_json_publishes_nothing(model, place):
    with pytest.raises(TypeError, match="not JSON serializable"):
        push_next(
            model,
            destination=place.uri,
            manifest=Manifest.from_content({"of": object()}),
        )
    assert place.read() == {}


# Serving.


def test_only_the_removed_version_disappears(model, place):
    one, two, three = (publish_empty(model, place) for _ in range(3))
    before = place.read()
    publish.remove_versions(place.uri, [one.number, three.number])
    expected = {
        name: data for name, data in before.items() if name.startswith(f"{two.number}/")
    }
    assert place.read() == expected
    assert listing.find_served_version(place.uri) == two


def test_a_version_without_a_manifest_is_removed_too(model, place):
    place.write("7/saved_model.pb", b"abc")
    publish.remove_versions(place.uri, [7])
    assert place.read() == {}


def test_removing_a_missing_version_of_a_folder_is_no_error(model, tmp_path):
    destination = str(tmp_path / "serving")
    publish.remove_versions(destination, [7])
    assert not (tmp_path / "serving").exists()
    push_next(model, destination=destination, manifest=Manifest.from_content({}))
    publish.remove_versions(destination, [7])


def test_a_killed_pushs_rest_is_removed_with_the_versions(model, tmp_path):
    version = push_next(
        model, destination=str(tmp_path / "vae"), manifest=Manifest.from_content({})
    )
    (tmp_path / "vae" / ".staging-dead").mkdir()
    publish.remove_versions(str(tmp_path / "vae"), [version.number])
    assert [path.name for path in (tmp_path / "vae").iterdir()] == [".pushing.lock"]


def test_a_file_beside_the_versions_is_written_and_replaced(model, place):
    version = publish_empty(model, place)
    for text in ("one", "two"):
        publish.write_beside_versions(place.uri, ".rejected-7.json", text=text)
        assert place.read()[".rejected-7.json"] == text.encode()
    assert listing.find_served_version(place.uri) == version
    assert len(place.read()) == len(FILES) + 2


def test_a_file_beside_the_versions_leaves_no_staging(model, tmp_path):
    version = push_next(
        model, destination=str(tmp_path / "vae"), manifest=Manifest.from_content({})
    )
    publish.write_beside_versions(str(tmp_path / "vae"), "note.json", text="{}")
    names = {path.name for path in (tmp_path / "vae").iterdir()}
    assert names == {str(version.number), "note.json", ".pushing.lock"}


def test_what_is_renamed_into_place_is_on_the_disk_before_and_after(
    model, tmp_path, monkeypatch
):
    """A power cut at any time must not leave a version's name without its files."""
    events = []
    sync, rename = os.fsync, os.rename

    def noted_sync(descriptor):
        events.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    def noted_rename(source, target):
        events.append(("rename", str(source)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "rename", noted_rename)
    destination = str(tmp_path / "vae")
    push_next(model, destination=destination, manifest=Manifest.from_content({}))
    (at,) = [n for n, (kind, _) in enumerate(events) if kind == "rename"]
    staging = events[at][1]
    inside = ["", "/assets", "/variables", "/MANIFEST.json", *(f"/{f}" for f in FILES)]
    assert {path for _, path in events[:at]} == {staging + path for path in inside}
    assert events[at + 1 :] == [("sync", destination)]

    events.clear()
    publish.write_beside_versions(destination, "note.json", text="{}")
    (kept,) = [path for kind, path in events if kind == "rename"]
    assert events == [
        ("sync", kept),
        ("sync", os.path.dirname(kept)),
        ("rename", kept),
        ("sync", destination),
    ]


def test_a_store_loses_the_manifest_first(model, s3):
    """Readers ignore a version without a manifest, whose other files may be deleted."""
    uri = f"s3://{s3.name}/vae"
    version = push_next(model, destination=uri, manifest=Manifest.from_content({}))
    s3.server.requests.clear()
    publish.remove_versions(uri, [version.number])
    removals = [
        request for request in s3.server.requests if request[0] in ("DELETE", "POST")
    ]
    manifest = f"/{s3.name}/vae/{version.number}/MANIFEST.json"
    assert removals[0] == ("DELETE", manifest)
    assert len(removals) > 1
    assert s3.files.find(f"{s3.name}/vae/{version.number}") == []


def test_a_file_beside_the_versions_can_be_read_by_all(model, tmp_path):
    destination = str(tmp_path / "vae")
    push_next(model, destination=destination, manifest=Manifest.from_content({}))
    publish.write_beside_versions(destination, "note.json", text="{}")
    assert (tmp_path / "vae" / "note.json").stat().st_mode & 0o777 == 0o644


def publish_empty(model, place):
    return push_next(model, destination=place.uri, manifest=Manifest.from_content({}))
