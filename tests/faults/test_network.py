"""Object stores that are unavailable briefly or permanently; a target that hangs."""

import itertools
import socket
import time

import pytest

from components.registry import listing
from pipeline.runs import run_record

pytestmark = pytest.mark.faults


def test_a_store_that_answers_503_three_times(place, s3, outcome):
    destination = f"s3://{s3.name}/serving"
    s3.server.unavailable.update(GET=3, PUT=3)
    printed = place.run(
        "train.seed=1",
        f"push.destination={destination}",
        AWS_MAX_ATTEMPTS=None,
    )
    assert s3.server.unavailable == {"GET": 0, "PUT": 0}
    assert f"to {destination}/vae" in printed
    listing.verify_version(listing.find_served_version(f"{destination}/vae"))
    outcome(
        "an object store that answers 503 three times",
        "nothing: asked again; exit code 0",
        "finds the version complete",
    )


def test_a_store_that_refuses_the_push(place, s3, outcome):
    destination = f"s3://{s3.name}/serving"
    wanted = ("train.seed=1", f"push.destination={destination}")
    s3.server.refused.append(("PUT", "saved_model.pb"))
    printed = place.run(*wanted, code=1)
    assert f"Pusher failed: can't use {destination}/vae (" in printed
    assert list(listing.list_versions(f"{destination}/vae")) == []
    [half] = listing.list_unpublished(f"{destination}/vae")
    s3.server.refused.clear()
    assert "InfraCheck       from the cache" in place.run(*wanted)
    pushed = listing.find_served_version(f"{destination}/vae")
    listing.verify_version(pushed)
    assert pushed.number > half
    outcome(
        "an object store that refuses the push half-way",
        "`Pusher failed: can't use URI (...)`, exit code 1; the half version counts "
        "for nothing",
        "pushes above it",
    )


def test_a_store_that_never_answers_but_503(place, s3, outcome):
    before = place.served()
    destination = f"s3://{s3.name}/serving"
    s3.server.unavailable.update(GET=10**9, PUT=10**9)
    started = time.monotonic()
    printed = place.run(
        "train.seed=1",
        f"push.destination={destination}",
        code=1,
        AWS_MAX_ATTEMPTS=None,
    )
    assert time.monotonic() - started < 120
    assert f"can't use {destination}/vae (" in printed
    assert "Ingest" not in printed
    assert "the endpoint answer (AWS_ENDPOINT_URL is that of s3://" in printed
    assert place.served() == before

    s3.server.unavailable.clear()
    place.run("train.seed=1", f"push.destination={destination}")
    listing.verify_version(listing.find_served_version(f"{destination}/vae"))
    outcome(
        "an object store that answers nothing but 503",
        "before any step, in less than two minutes: `can't use URI (...): the bucket "
        "must exist, the endpoint answer ...`, exit code 1",
        "pushes",
    )


def test_a_store_that_stops_answering_after_the_push(place, s3, outcome):
    destination = f"s3://{s3.name}/serving"
    writes = itertools.count(1)

    def answer_no_more_after_the_publication():
        # The first push to a destination writes that nothing is published, then that
        # its version is.
        if next(writes) == 2:
            s3.server.unavailable.update(GET=10**9)

    s3.server.before["PUT", "/SERVED.json"] = answer_no_more_after_the_publication
    printed = place.run("train.seed=1", f"push.destination={destination}", code=1)
    assert f"can't use {destination}/vae" in printed
    s3.server.before.clear()
    s3.server.unavailable.clear()
    version = listing.find_served_version(f"{destination}/vae")
    (last, *_), _ = run_record.read_all(place.root)
    assert (last.status, last.version) == ("pushed", version.number)
    assert last.elbo == version.manifest.elbo
    assert last.error.startswith("can't use ")

    printed = place.run("train.seed=1", f"push.destination={destination}")
    assert f"nothing; version {version.number} is served" in printed
    outcome(
        "an object store that answers no more after the push",
        "`can't use URI (...): ...`, exit code 1; `history` lists the run as `pushed`",
        "finds the version complete",
    )


def test_a_notification_target_that_hangs(place, outcome):
    before = place.served()
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/hook"
        started = time.monotonic()
        printed = place.push(
            options=[
                *("--set", f"notify.webhook={url}"),
                *("--set", "notify.timeout=2"),
            ]
        )
        assert time.monotonic() - started < 120
    assert "notify: webhook: " in printed
    assert place.served().number > before.number
    place.run("train.seed=1")
    outcome(
        "a notification target that hangs",
        "after `notify.timeout` seconds `notify: webhook: ...`; the exit code is the "
        "run's own",
        "continues",
    )
