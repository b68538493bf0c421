"""Rollback to an older version, in a folder and in an object store."""

import dataclasses
import datetime
import getpass
import json
import re
import socket
import tempfile

import pytest

from components.registry import listing, publish, rolling_back
from components.registry.manifest import Manifest
from model.files import filesystems
from tests.support.places import FILES, write_model
from tests.support.pushes import push_next

on_a_folder = pytest.mark.parametrize("place", ["folder"], indirect=True)
on_each_kind = pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)


@pytest.fixture
def push(place, tmp_path):
    """Returns a function that pushes a model with this name.

    The manifest has the model's fingerprint by TensorFlow, `singleprint`, if given.
    """

    def push(name, singleprint=None):
        files = {**FILES, "saved_model.pb": name.encode()}
        model = write_model(tmp_path / "models" / name, files)
        manifest = {"run_key": f"of {name}", "config": {"a": [1]}, "baseline": None}
        if singleprint:
            manifest = {"singleprint": singleprint, **manifest}
        return push_next(
            model, destination=place.uri, manifest=Manifest.from_content(manifest)
        )

    return push


def model_of(place, version):
    return place.read()[f"{version.number}/saved_model.pb"].decode()


@on_each_kind
def test_the_older_model_gets_the_highest_number(place, push):
    one, two = push("one"), push("two")
    before = place.read()
    again = rolling_back.roll_back(place.uri, one.number, why="blurred digits")
    assert again.number > two.number
    assert listing.find_served_version(place.uri) == again
    assert again.digest == one.digest
    assert model_of(place, again) == "one"
    # readers of the older versions are not affected
    assert before.items() <= place.read().items()
    record = dict(again.manifest.content["rolled_back"])
    at = datetime.datetime.fromisoformat(record.pop("at"))
    age = datetime.datetime.now(datetime.timezone.utc) - at
    assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=1)
    assert record == {
        "to": one.number,
        "from": two.number,
        "by": f"{getpass.getuser()}@{socket.gethostname()}",
        "why": "blurred digits",
    }
    # The rest of the manifest is the older version's, so that the next run finds its
    # own model.
    rest = {key: again.manifest.content[key] for key in one.manifest.content}
    assert rest == {**one.manifest.content, "previous": two.number}
    assert set(again.manifest.content) - set(one.manifest.content) == {"rolled_back"}
    assert rolling_back.describe_origin(again) == (
        f"is version {one.number} again, in place of {two.number}: by {record['by']} "
        f"at {again.manifest.content['rolled_back']['at']} (blurred digits)"
    )
    assert rolling_back.describe_origin(one) == ""


@on_each_kind
def test_a_replaced_version_is_recorded_as_rejected(place, push):
    one, two = push("one"), push("two", "12/34")
    assert rolling_back.read_rejected_models(place.uri) == []
    assert (
        rolling_back.find_rejection(place.uri, two.digest, singleprint="12/34") is None
    )
    again = rolling_back.roll_back(place.uri, one.number, why="blurred")
    [record] = rolling_back.read_rejected_models(place.uri)
    assert (record.version, record.to, record.why) == (
        two.number,
        one.number,
        "blurred",
    )
    for digest, singleprint in [
        (two.digest, "12/34"),
        (two.digest, None),
        ("another export", "12/34"),
    ]:
        assert (
            rolling_back.find_rejection(place.uri, digest, singleprint=singleprint)
            == record
        )
    for digest, singleprint in [(one.digest, None), ("another", "12/35")]:
        assert (
            rolling_back.find_rejection(place.uri, digest, singleprint=singleprint)
            is None
        )
    assert record.describe() == (
        f"version {two.number} was rolled back from by {record.by} at {record.at} "
        "(blurred)"
    )
    # Also when the versions that record the rollback have been removed.
    for version in (two, again):
        place.remove(str(version.number))
    assert (
        rolling_back.find_rejection(place.uri, two.digest, singleprint=None) == record
    )


@on_a_folder
def test_without_a_number_it_is_the_one_before(place, push):
    push("one")
    two = push("two")
    push("three")
    again = rolling_back.roll_back(place.uri, None, why="worse")
    assert again.manifest.content["rolled_back"]["to"] == two.number


@on_a_folder
def test_two_rollbacks_serve_the_version_before_the_last_two(place, push):
    """The target is never a version that was rolled back, nor one of its model."""
    for name in ("one", "two", "three"):
        push(name)
    assert (
        model_of(place, rolling_back.roll_back(place.uri, None, why="3 is bad"))
        == "two"
    )
    assert (
        model_of(place, rolling_back.roll_back(place.uri, None, why="2 too")) == "one"
    )
    assert [r.why for r in rolling_back.read_rejected_models(place.uri)] == [
        "3 is bad",
        "2 too",
    ]
    with pytest.raises(rolling_back.RollbackError) as error:
        rolling_back.roll_back(place.uri, None, why="1 too")
    served = listing.find_served_version(place.uri)
    assert str(error.value) == (
        f"there is no intact version older than {served.number}, of another model and "
        "not rolled back from: train one"
    )
    assert model_of(place, served) == "one"


@on_each_kind
def test_a_damaged_version_is_passed_over_or_refused(place, push):
    one, two, _ = push("one"), push("two"), push("three")
    place.remove(f"{two.number}/variables/variables.index")
    before = place.read()
    with pytest.raises(rolling_back.RollbackError) as error:
        rolling_back.roll_back(place.uri, two.number, why="worse")
    assert str(error.value) == (
        f"version {two.number} is damaged: variables/variables.index is missing; "
        "choose another one"
    )
    assert place.read() == before
    again = rolling_back.roll_back(place.uri, None, why="worse")
    assert again.manifest.content["rolled_back"]["to"] == one.number


@on_a_folder
def test_an_unknown_version_is_refused(place, push):
    one, two = push("one"), push("two")
    before = place.read()
    with pytest.raises(rolling_back.RollbackError) as error:
        rolling_back.roll_back(place.uri, 7, why="worse")
    assert str(error.value) == (
        f"the version must be one of {one.number}, {two.number}, got 7"
    )
    assert place.read() == before


@on_a_folder
def test_what_is_served_is_refused(place, push):
    one, two = push("one"), push("two")
    with pytest.raises(rolling_back.RollbackError) as error:
        rolling_back.roll_back(place.uri, two.number, why="worse")
    assert str(error.value) == (
        f"version {two.number} is already served: choose another one"
    )
    again = rolling_back.roll_back(place.uri, one.number, why="worse")
    before = place.read()
    with pytest.raises(rolling_back.RollbackError) as error:
        rolling_back.roll_back(place.uri, one.number, why="worse")
    assert str(error.value) == (
        f"version {one.number} is already served, as version {again.number}: choose "
        "another one"
    )
    assert place.read() == before


@on_a_folder
def test_a_rejected_model_is_refused_until_its_record_is_removed(place, push):
    one, two = push("one"), push("two")
    rolling_back.roll_back(place.uri, one.number, why="by mistake")
    [record] = rolling_back.read_rejected_models(place.uri)
    with pytest.raises(rolling_back.RollbackError) as error:
        rolling_back.roll_back(place.uri, two.number, why="it was fine")
    assert str(error.value) == (
        f"{record.describe()}, and is never served again: choose another version, or "
        f"remove .rejected-{two.number}.json beside the versions if that was a mistake"
    )
    place.remove(f".rejected-{two.number}.json")
    again = rolling_back.roll_back(place.uri, two.number, why="it was fine")
    assert model_of(place, again) == "two"


@on_a_folder
def test_nothing_is_served(place):
    with pytest.raises(rolling_back.RollbackError) as error:
        rolling_back.roll_back(place.uri, None, why="worse")
    assert str(error.value) == (
        f"there is no intact version at {place.uri}: `run` first"
    )
    assert rolling_back.read_rejected_models(place.uri) == []


@on_a_folder
def test_nothing_is_older(place, push):
    push("one")
    with pytest.raises(
        rolling_back.RollbackError, match="no intact version older than"
    ):
        rolling_back.roll_back(place.uri, None, why="worse")


@on_a_folder
def test_the_served_version_can_be_published_above_a_damaged_one(place, push):
    """The model is not rejected, although its files were damaged."""
    one, two = push("one"), push("two")
    place.write(f"{two.number}/saved_model.pb", b"damage")
    again = rolling_back.roll_back(place.uri, one.number, why="its disk failed")
    assert again.number > two.number
    assert listing.find_served_and_damaged(place.uri) == (again, [])
    assert again.manifest.content["rolled_back"]["from"] == two.number
    assert rolling_back.read_rejected_models(place.uri) == []


@on_a_folder
def test_after_a_kill_between_record_and_push_the_same_command_succeeds(
    place, push, monkeypatch
):
    one, two = push("one"), push("two")
    with monkeypatch.context() as patch:

        def killed(*args, **kwargs):
            raise KeyboardInterrupt

        patch.setattr(publish, "publish_version", killed)
        with pytest.raises(KeyboardInterrupt):
            rolling_back.roll_back(place.uri, None, why="first")
    assert listing.find_served_version(place.uri) == two
    again = rolling_back.roll_back(place.uri, None, why="second")
    assert again.manifest.content["rolled_back"]["to"] == one.number
    [record] = rolling_back.read_rejected_models(place.uri)
    assert record.why == "second"


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"version": 1}'])
@on_a_folder
def test_a_record_that_was_not_written_by_us_is_named(place, push, text):
    push("one"), push("two")
    place.write(".rejected-7.json", text)
    with pytest.raises(
        rolling_back.RejectionError, match="must be the JSON that"
    ) as error:
        rolling_back.read_rejected_models(place.uri)
    assert re.fullmatch(
        r".*/serving/vae/\.rejected-7\.json must be the JSON that `rollback` wrote "
        r"\(.*\): restore it, or remove it if that model may be pushed again",
        str(error.value),
    )
    with pytest.raises(rolling_back.RejectionError, match="must be the JSON that"):
        rolling_back.roll_back(place.uri, None, why="worse")


@on_a_folder
def test_the_record_is_all_that_is_left_beside_the_versions(place, push):
    one, two = push("one"), push("two")
    again = rolling_back.roll_back(place.uri, one.number, why="worse")
    numbers = {str(version.number) for version in (one, two, again)}
    names = {name.split("/")[0] for name in place.read()}
    assert names == {*numbers, f".rejected-{two.number}.json"}
    text = place.read()[f".rejected-{two.number}.json"]
    [record] = rolling_back.read_rejected_models(place.uri)
    assert json.loads(text) == dataclasses.asdict(record)


def test_a_store_that_refuses_writes_leaves_the_served_version(s3, tmp_path):
    uri = f"s3://{s3.name}/serving/vae"
    for name in ("one", "two"):
        files = {**FILES, "saved_model.pb": name.encode()}
        newest = push_next(
            write_model(tmp_path / name, files),
            destination=uri,
            manifest=Manifest.from_content({}),
        )
    s3.server.refused.append(("PUT", ".json"))
    with pytest.raises(filesystems.StorageError, match="Access Denied"):
        rolling_back.roll_back(uri, None, why="worse")
    assert listing.find_served_version(uri) == newest
    assert rolling_back.read_rejected_models(uri) == []
    s3.server.refused[:] = [("PUT", "saved_model.pb")]
    with pytest.raises(filesystems.StorageError, match="Access Denied"):
        rolling_back.roll_back(uri, None, why="worse")
    assert rolling_back.read_rejected_models(uri) == []
    assert listing.find_served_version(uri) == newest
    s3.server.refused.clear()
    assert rolling_back.roll_back(uri, None, why="worse").number > newest.number


@on_a_folder
def test_a_target_that_cannot_be_fetched_leaves_no_record(place, push, monkeypatch):
    push("one"), push("two")
    before = place.read()
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # as if the disk were full
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        rolling_back.roll_back(place.uri, None, why="worse")
    assert place.read() == before


@on_a_folder
def test_a_version_pushed_during_a_rollback_is_named_and_stays_served(
    place, push, monkeypatch
):
    push("one"), push("two")
    fetch = listing.fetch_version

    def fetch_slowly(*args):
        push("three")
        fetch(*args)

    monkeypatch.setattr(listing, "fetch_version", fetch_slowly)
    with pytest.raises(rolling_back.RollbackError) as error:
        rolling_back.roll_back(place.uri, None, why="worse")
    three = listing.find_served_version(place.uri)
    assert model_of(place, three) == "three"
    assert str(error.value) == (
        f"version {three.number} was pushed during this rollback: check it with "
        "`versions`, and repeat the command if you still want the rollback"
    )
    assert rolling_back.read_rejected_models(place.uri) == []
