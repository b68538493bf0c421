"""Pushes and rollbacks at the same time: one succeeds, the other names its version."""

import functools
import os
import pathlib
import re
import threading

import pytest

from components.registry import (
    listing,
    publish,
    push_lock,
    rolling_back,
    served_pointer,
)
from components.registry.manifest import Manifest
from tests.support.places import Place, write_model

MANIFEST = Manifest.from_content({})
on_each_kind = pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)


@pytest.fixture
def models(tmp_path):
    """Returns the folders of models of one file."""
    return [
        write_model(tmp_path / name, {"saved_model.pb": name.encode()})
        for name in ("one", "two", "three")
    ]


def push(model, place, replaces, **options):
    return publish.publish_version(
        model, destination=place.uri, manifest=MANIFEST, replaces=replaces, **options
    )


def race(*functions):
    """Calls functions in threads at the same time; returns results and errors."""
    barrier = threading.Barrier(len(functions), timeout=60)
    ends = [None] * len(functions)

    def call(index):
        barrier.wait()
        try:
            ends[index] = functions[index]()
        except Exception as error:
            ends[index] = error

    threads = [threading.Thread(target=call, args=[i]) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [end for end in ends if isinstance(end, listing.Version)]
    lost = [end for end in ends if not isinstance(end, listing.Version)]
    return won, lost


@pytest.mark.parametrize(
    ("place", "times"),
    [
        ("folder", 20),
        ("s3", 4),
        pytest.param("s3", 20, marks=pytest.mark.nightly),
    ],
    indirect=["place"],
)
def test_of_two_pushes_measured_against_the_same_version_one_lands(
    place, times, models
):
    served = None
    for _ in range(times):
        [version], [error] = race(
            *(functools.partial(push, model, place, served) for model in models[:2])
        )
        assert isinstance(error, publish.OvertakenError)
        assert f"version {version.number} is served now at {place.uri}" in str(error)
        assert version.manifest.previous == served
        assert listing.find_served_version(place.uri) == version
        served = version.number
    assert len(list(listing.list_versions(place.uri))) == times
    assert listing.list_unpublished(place.uri) == []


@on_each_kind
def test_of_a_push_and_a_rollback_one_wins(place, models, monkeypatch):
    served = push(models[0], place, None)
    fetch = listing.fetch_version
    for _ in range(3):
        two = push(models[1], place, served.number)
        # The rollback has found the served version before the push begins.
        both = threading.Barrier(2, timeout=60)

        def wait_and_fetch(*arguments, both=both):
            both.wait()
            fetch(*arguments)

        def wait_and_push(both=both, replaces=two.number):
            both.wait()
            return push(models[2], place, replaces)

        monkeypatch.setattr(listing, "fetch_version", wait_and_fetch)
        [served], [error] = race(
            wait_and_push,
            functools.partial(rolling_back.roll_back, place.uri, None, why="worse"),
        )
        assert isinstance(error, (publish.OvertakenError, rolling_back.RollbackError))
        assert f"version {served.number} " in str(error)
        assert served.manifest.previous == two.number
        assert listing.find_served_version(place.uri) == served
        is_rolled_back = served.manifest.rolled_back is not None
        rejected = [r.version for r in rolling_back.read_rejected_models(place.uri)]
        assert rejected == ([two.number] if is_rolled_back else [])
        if is_rolled_back:
            place.remove(f".rejected-{two.number}.json")


@on_each_kind
def test_the_message_of_an_overtaken_push(place, models):
    one = push(models[0], place, None)
    with pytest.raises(publish.OvertakenError) as error:
        push(models[1], place, None)
    assert str(error.value) == (
        f"version {one.number} is served now at {place.uri}, but the new version was "
        "made to replace nothing: nothing was published; look at `versions`, and "
        "repeat the command to compare with what is served"
    )
    assert list(listing.list_versions(place.uri)) == [one]


@pytest.fixture
def store(s3):
    path = f"{s3.name}/serving/vae"
    return Place(f"s3://{path}", s3.files, path)


def test_a_store_without_conditional_writes_needs_a_single_writer(
    s3, store, models, monkeypatch
):
    monkeypatch.setattr(s3.server, "ignores_conditions", True)
    with pytest.raises(served_pointer.UnconditionalStoreError) as error:
        push(models[0], store, None)
    assert str(error.value) == (
        f"the object store of {store.uri} must refuse a write whose condition "
        "(If-None-Match, If-Match) is not met, but it made the write: two pushes at "
        "the same time could replace each other's version; if only one process at a "
        "time ever pushes there, set push.single_writer=true"
    )
    assert store.read() == {}
    alone = publish.PushRules(single_writer=True)
    one = push(models[0], store, None, rules=alone)
    two = push(models[1], store, one.number, rules=alone)
    assert listing.find_served_version(store.uri) == two


def test_a_lost_upload_that_may_not_be_removed_is_ignored(s3, store, models):
    one = push(models[0], store, None)
    s3.server.refused.append(("DELETE", ""))
    [won], [lost] = race(
        *(functools.partial(push, model, store, one.number) for model in models[1:])
    )
    assert isinstance(lost, publish.OvertakenError)
    assert list(listing.list_versions(store.uri)) == [won, one]


def test_versions_without_served_json_are_read_and_taken_over(store, models):
    one = push(models[0], store, None)
    store.remove("SERVED.json")
    assert listing.find_served_version(store.uri) == one
    two = push(models[1], store, one.number)
    assert [v.number for v in listing.list_versions(store.uri)] == [
        two.number,
        one.number,
    ]
    store.write(f"{two.number}/MANIFEST.json", b'{"edited": 1}')
    served, [damaged] = listing.find_served_and_damaged(store.uri)
    assert (served, damaged.number) == (one, two.number)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{", "Invalid JSON"),
        (b'{"version": 2, "manifest": "a", "published": [1]}', "the last number"),
        (b'{"version": null, "manifest": "a", "published": []}', "both null"),
        (b'{"version": 1, "manifest": "a", "published": [2, 1]}', "ascending order"),
    ],
)
def test_a_damaged_served_json_is_named(text, why):
    with pytest.raises(served_pointer.ServedPointerError) as error:
        served_pointer.ServedPointer.from_json(text, "bucket/SERVED.json")
    assert re.fullmatch(
        rf"bucket/SERVED\.json must be the JSON that a push wrote \(.*{why}.*\): "
        "restore it; or remove it, then the newest intact version is served, whether "
        "or not its push was completed",
        str(error.value),
    )


def test_the_holder_of_a_lock_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(push_lock, "_TIMEOUT", 0.0)
    with push_lock.hold_lock(str(tmp_path)):
        assert str(os.getpid()) in pathlib.Path(tmp_path, push_lock.LOCK).read_text(
            encoding="utf-8"
        )
        with (
            pytest.raises(push_lock.PushLockError) as error,
            push_lock.hold_lock(str(tmp_path)),
        ):
            pass
    path = re.escape(f"{tmp_path}/{push_lock.LOCK}")
    assert re.fullmatch(
        rf"{path} has been locked for 0 seconds by process {os.getpid()} on .*: wait "
        "until it ends, or end it, and repeat the command",
        str(error.value),
    )
    assert pathlib.Path(tmp_path, push_lock.LOCK).read_text(encoding="utf-8") == ""
    with push_lock.hold_lock(str(tmp_path)):
        pass
