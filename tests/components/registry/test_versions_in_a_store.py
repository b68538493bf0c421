"""Pushes to an object store: their order, and the remains of a push that dies."""

import os
import pathlib
import subprocess
import sys
import threading
import time

import boto3
import pytest

from components.registry import listing
from components.registry.manifest import Manifest
from model.files import filesystems
from tests.support.places import FILES, Place, write_model
from tests.support.pushes import push_next
from tests.support.s3 import Server

ROOT = pathlib.Path(__file__).parents[3]
LAST = ["fingerprint.pb", "saved_model.pb", "MANIFEST.json"]

# Pushes the model argv[1] to the URI argv[2], argv[3] times.
PUSH = """
import sys
from components.registry import listing
from components.registry.manifest import Manifest
from tests.support.pushes import push_next
model, destination, times = sys.argv[1:4]
for _ in range(int(times)):
    manifest = Manifest.from_content({})
    version = push_next(
        model, destination=destination, manifest=manifest
    )
    print(version.number)
"""


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture
def store(s3):
    path = f"{s3.name}/serving/vae"
    return Place(f"s3://{path}", s3.files, path)


def started(*arguments):
    command = [sys.executable, "-c", PUSH, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_the_order_of_uploads_does_not_matter_to_readers(model, store, s3):
    s3.server.requests.clear()
    number = push_next(
        model, destination=store.uri, manifest=Manifest.from_content({})
    ).number
    folder = f"/{s3.name}/serving/vae/"
    written = [path.removeprefix(folder) for path in s3.server.written()]
    first = sorted(set(FILES) - set(LAST))
    assert written == [
        # the claim, and two writes of it that the store must refuse
        *[f".claim-{number}"] * 3,
        "SERVED.json",  # nothing is published
        *(f"{number}/{name}" for name in [*first, *LAST]),
        "SERVED.json",
    ]


def test_nothing_is_ever_deleted(model, store, s3):
    s3.server.requests.clear()
    for _ in range(2):
        push_next(model, destination=store.uri, manifest=Manifest.from_content({}))
    assert {method for method, _ in s3.server.requests} <= {"GET", "HEAD", "PUT"}


@pytest.mark.parametrize("name", ["variables.index", "saved_model.pb", "MANIFEST.json"])
def test_a_push_that_is_refused_half_way(model, store, s3, name):
    version = push_next(
        model, destination=store.uri, manifest=Manifest.from_content({})
    )
    s3.server.refused.append(("PUT", name))
    with pytest.raises(filesystems.StorageError, match="Access Denied") as error:
        push_next(model, destination=store.uri, manifest=Manifest.from_content({}))
    assert str(error.value).startswith(f"can't use {store.uri} (PermissionError: ")
    assert listing.find_served_version(store.uri) == version
    s3.server.refused.clear()
    left = store.read()
    later = push_next(model, destination=store.uri, manifest=Manifest.from_content({}))
    assert later.number > max(int(path.split("/")[0]) for path in left)
    assert listing.find_served_version(store.uri) == later
    listing.verify_version(later)
    assert left.items() <= store.read().items()  # objects of other pushes are unchanged


@pytest.mark.parametrize(
    "name", ["variables.index", "saved_model.pb", "MANIFEST.json", "SERVED.json"]
)
def test_a_push_that_is_killed_half_way(model, store, s3, name):
    version = push_next(
        model, destination=store.uri, manifest=Manifest.from_content({})
    )
    process = started(model, store.uri, 1)

    def kill():
        process.kill()
        raise ConnectionAbortedError  # so that the object being written does not appear

    s3.server.before["PUT", name] = kill
    assert process.wait(60) != 0
    s3.server.before.clear()
    left = {path.split("/")[0] for path in store.read()}
    assert len(left) == 2
    assert listing.find_served_version(store.uri) == version
    later = push_next(model, destination=store.uri, manifest=Manifest.from_content({}))
    assert later.number > max(map(int, left))
    assert listing.find_served_version(store.uri) == later
    listing.verify_version(later)


def test_a_server_that_stops_in_the_middle_of_a_push(
    model, s3, s3_elsewhere, monkeypatch
):
    uri = f"s3://{s3.name}/serving/vae"
    server = Server()  # serves the same objects
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    version = push_next(model, destination=uri, manifest=Manifest.from_content({}))

    def go_away():
        server.close()
        raise ConnectionAbortedError

    server.before["PUT", "saved_model.pb"] = go_away
    with pytest.raises(filesystems.StorageError, match="can't use"):
        push_next(model, destination=uri, manifest=Manifest.from_content({}))
    with pytest.raises(filesystems.StorageError, match="Could not connect"):
        listing.find_served_version(uri)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.server.url)
    type(s3.files).clear_instance_cache()
    assert listing.find_served_version(uri) == version
    later = push_next(model, destination=uri, manifest=Manifest.from_content({}))
    assert listing.find_served_version(uri) == later


def test_a_number_that_another_push_claimed_is_passed_over(model, store):
    now = int(time.time())
    claimed = range(now, now + 15)
    for number in claimed:
        store.write(f".claim-{number}", b"")
    assert (
        push_next(
            model, destination=store.uri, manifest=Manifest.from_content({})
        ).number
        == claimed[-1] + 1
    )


def test_a_claim_that_may_not_be_made_is_an_error(model, store, s3):
    s3.server.refused.append(("PUT", f".claim-{int(time.time())}"))
    s3.server.refused.append(("PUT", f".claim-{int(time.time()) + 1}"))
    with pytest.raises(filesystems.StorageError, match="Access Denied"):
        push_next(model, destination=store.uri, manifest=Manifest.from_content({}))


def test_pushes_at_the_same_time_take_different_numbers(model, store):
    processes = [started(model, store.uri, 8) for _ in range(2)]
    numbers = []
    for process in processes:
        numbers += process.communicate(timeout=120)[0].split()
        assert process.returncode == 0
    assert len(set(numbers)) == 16
    # the same in all versions
    manifest = listing.find_served_version(store.uri).manifest
    for number in map(int, numbers):
        listing.verify_version(
            listing.Version(
                number=number, path=f"{store.uri}/{number}", manifest=manifest
            )
        )


def test_only_one_of_two_pushes_gets_a_number(tmp_path, store, s3):
    """The server makes both pushes list the versions before either writes its claim."""
    store.write("20000000000/of-somebody", b"")
    models = {}
    for name in ("one", "two"):
        files = {**FILES, "saved_model.pb": name.encode()}
        models[name] = write_model(tmp_path / name, files)
    both = threading.Barrier(2, timeout=60)

    # Each push waits for the other before its first write, which is its claim.
    def wait():
        if len(claims) < 2:
            claims.append(1)
            both.wait()

    claims = []
    s3.server.before["PUT", ""] = wait
    processes = [started(folder, store.uri, 1) for folder in models.values()]
    numbers = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    # One was overtaken by the other, and tried again with the next number.
    assert sorted(numbers) in (
        [20000000001, 20000000003],
        [20000000002, 20000000003],
    )
    for name, number in zip(models, numbers):
        version = listing.find_version(store.uri, number)
        listing.verify_version(version)
        assert store.read()[f"{number}/saved_model.pb"] == name.encode()
    served, damaged = listing.find_served_and_damaged(store.uri)
    assert (served.number, damaged) == (20000000003, [])


def test_a_push_succeeds_beside_an_unfinished_one(model, store, s3):
    """An incomplete version is no baseline until it is complete."""
    old = push_next(model, destination=store.uri, manifest=Manifest.from_content({}))
    half, may_continue = threading.Event(), threading.Event()

    def pause():
        half.set()
        assert may_continue.wait(60)

    s3.server.before["PUT", "MANIFEST.json"] = pause
    process = started(model, store.uri, 1)
    try:
        assert half.wait(60)
        assert listing.find_served_and_damaged(store.uri) == (old, [])
        [unpublished] = listing.list_unpublished(store.uri)
    finally:
        may_continue.set()
    number = int(process.communicate(timeout=60)[0])
    assert listing.find_served_version(store.uri).number == number == unpublished


def test_a_file_that_is_replaced_while_it_is_fetched(model, store, s3, tmp_path):
    version = push_next(
        model, destination=store.uri, manifest=Manifest.from_content({})
    )

    def replace():
        s3.server.before.clear()
        store.write(f"{version.number}/saved_model.pb", b"another")

    s3.server.before["GET", "fingerprint.pb"] = replace
    with pytest.raises(listing.VersionError, match="saved_model.pb has SHA-256"):
        listing.fetch_version(version, str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_folder_marker_objects_are_not_files(model, store, s3, tmp_path):
    version = push_next(
        model, destination=store.uri, manifest=Manifest.from_content({})
    )
    client = boto3.client("s3")
    for folder in ("", f"{version.number}/", f"{version.number}/variables/"):
        client.put_object(Bucket=s3.name, Key=f"serving/vae/{folder}")
    assert listing.find_served_version(store.uri) == version
    listing.fetch_version(version, str(tmp_path / "copy"))
    listing.verify_version(version)


def test_a_name_that_leads_out_of_the_copy(model, store, s3, tmp_path):
    version = push_next(
        model, destination=store.uri, manifest=Manifest.from_content({})
    )
    name = "../../../out"
    store.write(f"{version.number}/{name}", b"")
    where = f"{s3.name}/serving/vae/{version.number}"
    why = f"a file's name must lead below {where}, got {name!r}"
    with pytest.raises(listing.VersionError, match="is damaged") as error:
        listing.fetch_version(version, str(tmp_path / "copies" / "copy"))
    assert str(error.value) == f"{version.path} is damaged: {why}"
    assert not (tmp_path / "out").exists()
    served, [damaged] = listing.find_served_and_damaged(store.uri)
    assert served is None
    assert damaged.why == why
