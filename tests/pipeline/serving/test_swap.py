"""Another version while requests come: none is lost, and none damaged is served."""

import itertools
import logging
import shutil
import threading

import pytest
import requests

from components.registry import listing, publish
from components.registry.manifest import Manifest
from tests.support.serving_http import Affine, Server, place


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Two models: each adds its number to x."""
    path = tmp_path_factory.mktemp("exported")
    return [Affine(1.0, float(n)).export(path / str(n)) for n in (1, 2)]


class Clients:
    """Ask all the time, and note every answer, until the `with` block ends."""

    def __init__(self, server, count):
        self.answers, self.wrong = [], []
        self._url = f"{server.url}:predict"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self):
        with requests.Session() as session:
            for x in map(float, itertools.count()):
                if self._stop.is_set():
                    return
                try:
                    body = {"instances": [x, x]}
                    answer = session.post(self._url, json=body, timeout=20)
                    first, second = answer.json()["predictions"]
                    assert first == second
                    self.answers.append(first - x)
                except Exception as error:
                    self.wrong.append(repr(error))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        for thread in self._threads:
            thread.join(20)


def test_a_swap_under_load_loses_no_request(exported, tmp_path):
    place(exported[0], tmp_path / "vae", 1)
    with Server(tmp_path / "vae") as server:
        server.when_ready()
        with Clients(server, 6) as clients:
            server.wait(lambda: len(clients.answers) > 50)
            place(exported[1], tmp_path / "vae", 2)
            server.wait(lambda: clients.answers[-1] == 2.0)
            server.wait(lambda: server.states() == {2: "AVAILABLE", 1: "END"})
            # Back to what was: the number is lower, and it is what is served now.
            shutil.rmtree(tmp_path / "vae" / "2")
            server.wait(lambda: server.states() == {2: "END", 1: "AVAILABLE"})
            server.wait(lambda: clients.answers[-1] == 1.0)
        assert clients.wrong == []
        assert set(clients.answers) == {1.0, 2.0}
        assert server.predict({"instances": [1.0]}) == (200, {"predictions": [2.0]})
        gone = requests.post(
            f"{server.url}/versions/2:predict", json={"instances": [1.0]}, timeout=20
        )
        assert gone.status_code == 404


@pytest.mark.parametrize("damage", ["changed", "cut", "no model"])
def test_a_damaged_version_is_told_and_not_served(exported, tmp_path, caplog, damage):
    caplog.set_level(logging.INFO, "pipeline")
    place(exported[0], tmp_path / "vae", 1)
    with Server(tmp_path / "vae") as server:
        server.when_ready()
        version = place(exported[1], tmp_path / "hidden", 2)
        if damage == "changed":
            data = next((version / "variables").glob("*.data*"))
            data.write_bytes(b"x" + data.read_bytes()[1:])
            expected = f"{data.relative_to(version)} has SHA-256 "
        elif damage == "cut":
            (version / "saved_model.pb").unlink()
            expected = "saved_model.pb is missing"
        else:
            shutil.rmtree(version)
            (tmp_path / "no_model").mkdir()
            (tmp_path / "no_model" / "saved_model.pb").write_bytes(b"no model")
            version = place(str(tmp_path / "no_model"), tmp_path / "hidden", 2)
            expected = "can't serve"
        version.rename(tmp_path / "vae" / "2")
        server.wait(lambda: expected in caplog.text or server.states().get(2) == "END")
        assert server.predict({"instances": [1.0]}) == (200, {"predictions": [2.0]})
        assert server.get("/readyz").status_code == 200
        server.wait(lambda: expected in caplog.text)
    told = [r for r in caplog.records if expected in r.getMessage()]
    assert len(told) == 1  # at each look, but said once


def test_what_did_not_change_is_not_read_again(exported, tmp_path, monkeypatch):
    looks, reads = [], []

    def counted(kept, function):
        def call(*args):
            kept.append(args)
            return function(*args)

        return call

    monkeypatch.setattr(
        listing, "read_newest_manifest", counted(looks, listing.read_newest_manifest)
    )
    monkeypatch.setattr(
        listing, "verify_version", counted(reads, listing.verify_version)
    )
    place(exported[0], tmp_path / "vae", 1)
    with Server(tmp_path / "vae") as server:
        server.when_ready()
        seen, read = len(looks), len(reads)
        server.wait(lambda: len(looks) >= seen + 5)
        assert len(reads) == read
        place(exported[1], tmp_path / "vae", 2)
        server.wait(lambda: server.states().get(2) == "AVAILABLE")
        assert len(reads) > read


def test_a_place_that_answers_no_more_changes_nothing(
    exported, s3, tmp_path, caplog, monkeypatch
):
    caplog.set_level(logging.INFO, "pipeline")
    uri = f"s3://{s3.name}/serving/vae"
    first = publish.publish_version(
        exported[0], destination=uri, manifest=Manifest.from_content({})
    )
    with Server(uri) as server:
        server.when_ready()
        assert server.states() == {first.number: "AVAILABLE"}
        s3.server.refused.append(("GET", s3.name))
        server.wait(lambda: "can't serve the newest version" in caplog.text)
        assert server.predict({"instances": [1.0]}) == (200, {"predictions": [2.0]})
        s3.server.refused.clear()
        second = publish.publish_version(
            exported[1], destination=uri, manifest=Manifest.from_content({})
        )
        server.wait(lambda: server.states().get(second.number) == "AVAILABLE")
        assert server.predict({"instances": [1.0]}) == (200, {"predictions": [3.0]})
