"""The served version: how it is found, exchanged under load, and described."""

import asyncio
import contextlib
import itertools
import logging
import shutil
import threading

import pytest
import requests

from components.registry import listing
from components.registry.manifest import Manifest
from components.registry.signing import SigningSettings
from pipeline.serving.batching import Limits
from pipeline.serving.models import Models
from pipeline.serving.protocol import RequestError, Target
from tests.support.pushes import push_next
from tests.support.serving_http import Affine, Server, place
from tests.support.signing_keys import write_pair


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Returns the folders of two models, which add 1 and 2 to x."""
    path = tmp_path_factory.mktemp("exported")
    return [Affine(1.0, float(n)).export(path / str(n)) for n in (1, 2)]


PREDICT = Target("predict", "vae", None, None)


@pytest.fixture(scope="module")
def served(exported, tmp_path_factory):
    """Yields the Models of a destination whose version 5 is served."""
    path = tmp_path_factory.mktemp("served")
    place(exported[0], path / "vae", 5)
    with serving(path / "vae") as models:
        asyncio.run(models.refresh())
        yield models


@contextlib.contextmanager
def serving(destination):
    """Yields the Models of a destination, before the first refresh."""
    models = Models("vae", str(destination), limits=Limits(), threads=1)
    try:
        yield models
    finally:
        models.close()


def states(models):
    """Returns number and state of each version, in the order of the answer."""
    found = models.describe_status(Target("status", "vae", None, None))[
        "model_version_status"
    ]
    return [(int(each["version"]), each["state"]) for each in found]


def log_lines(caplog, name="pipeline.serving.models"):
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == name
    ]


def test_before_the_first_push_nothing_is_served_and_this_is_logged_once(
    tmp_path, caplog
):
    caplog.set_level(logging.INFO, "pipeline")
    with serving(tmp_path / "vae") as models:
        asyncio.run(models.refresh())
        asyncio.run(models.refresh())
        assert not models.is_ready
        for wanted in (PREDICT, PREDICT._replace(version=7)):
            with pytest.raises(RequestError), models.use_model(wanted):
                pass
        with pytest.raises(RequestError, match="^Could not find any versions of mode"):
            models.describe_status(PREDICT)
    text = f"no version at {tmp_path}/vae: waiting for a push"
    assert log_lines(caplog) == [("INFO", text)]


def test_the_pushed_version_is_loaded_once_and_described(exported, tmp_path, caplog):
    caplog.set_level(logging.INFO, "pipeline")
    place(exported[0], tmp_path / "vae", 5)
    with serving(tmp_path / "vae") as models:
        asyncio.run(models.refresh())
        assert models.is_ready
        with models.use_model(PREDICT) as model:
            assert (model.number, model.users) == (5, 1)
        assert model.users == 0
        asyncio.run(models.refresh())
        with models.use_model(PREDICT._replace(version=5)) as again:
            assert again is model
        metadata = models.describe_metadata(PREDICT)
        assert metadata["model_spec"] == {
            "name": "vae",
            "signature_name": "",
            "version": "5",
        }
        assert set(metadata["metadata"]["signature_def"]["signature_def"]) == {
            *("__saved_model_init_op", "serving_default", "sizes")
        }
        assert states(models) == [(5, "AVAILABLE")]
    text = f"serving version 5 of {tmp_path}/vae"
    assert log_lines(caplog) == [("INFO", text)]


@pytest.mark.parametrize(
    ("wanted", "status", "message"),
    [
        (PREDICT._replace(model="other"), 404, "Servable not found for request: Late"),
        (PREDICT._replace(version=4), 404, "Servable not found for request: Specific"),
        (PREDICT._replace(label="new"), 400, "Unrecognized servable version label: n"),
    ],
)
def test_what_is_not_served_is_refused(served, wanted, status, message):
    with pytest.raises(RequestError, match=f"^{message}") as error:
        served.describe_metadata(wanted)
    assert error.value.status == status
    with pytest.raises(RequestError, match=f"^{message}"), served.use_model(wanted):
        pass


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (PREDICT._replace(model="a"), "^Could not find any versions of model a$"),
        (PREDICT._replace(version=4), "^Could not find version 4 of model vae$"),
        (PREDICT._replace(label="new"), "^Unrecognized servable version label: new$"),
    ],
)
def test_a_version_that_was_never_served_has_no_status(served, wanted, message):
    with pytest.raises(RequestError, match=message):
        served.describe_status(wanted)


def test_a_version_in_use_is_unloaded_when_its_last_request_ends(
    exported, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "pipeline")
    place(exported[0], tmp_path / "vae", 5)
    with serving(tmp_path / "vae") as models:
        asyncio.run(models.refresh())
        with models.use_model(PREDICT):
            with models.use_model(PREDICT):
                place(exported[1], tmp_path / "vae", 6)
                asyncio.run(models.refresh())
                assert states(models) == [(6, "AVAILABLE"), (5, "UNLOADING")]
                with models.use_model(PREDICT) as new:
                    assert new.number == 6
                assert states(models) == [(6, "AVAILABLE"), (5, "UNLOADING")]
            assert states(models) == [(6, "AVAILABLE"), (5, "UNLOADING")]
        assert states(models) == [(6, "AVAILABLE"), (5, "END")]
        one = models.describe_status(PREDICT._replace(version=5))[
            "model_version_status"
        ]
        assert [each["version"] for each in one] == ["5"]
    assert ("INFO", "version 5 is unloaded") in log_lines(caplog)


def test_a_version_that_cannot_be_loaded_is_an_end_with_the_reason(
    exported, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "pipeline")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no model")
    place(str(broken), tmp_path / "vae", 5)
    with serving(tmp_path / "vae") as models:
        for _ in range(2):
            asyncio.run(models.refresh())
        assert not models.is_ready
        (status,) = models.describe_status(PREDICT)["model_version_status"]
        assert (status["version"], status["state"]) == ("5", "END")
        assert status["status"]["error_code"] == "DATA_LOSS"
        why = status["status"]["error_message"]
        assert f"Cannot parse file b'{tmp_path}/vae/5/saved_model.pb'" in why
        assert log_lines(caplog) == [
            ("ERROR", f"can't serve {tmp_path}/vae/5: {why}"),
        ]
        place(exported[0], tmp_path / "vae", 6)
        asyncio.run(models.refresh())
        assert states(models) == [(6, "AVAILABLE"), (5, "END")]


def test_a_damaged_version_is_a_warning_and_a_folder_without_a_manifest_is_not(
    exported, tmp_path, caplog
):
    """The folder may be another program's, or an unfinished push."""
    caplog.set_level(logging.INFO, "pipeline")
    (tmp_path / "vae" / "9").mkdir(parents=True)
    (tmp_path / "vae" / "9" / "saved_model.pb").touch()
    damaged = place(exported[1], tmp_path / "vae", 8)
    (damaged / "saved_model.pb").unlink()
    place(exported[0], tmp_path / "vae", 5)
    with serving(tmp_path / "vae") as models:
        asyncio.run(models.refresh())
        assert states(models) == [(5, "AVAILABLE")]
    level = {
        number: level
        for number in (8, 9)
        for level, text in log_lines(caplog)
        if text.startswith(f"version {number} of {tmp_path}/vae is not served: ")
    }
    assert level == {8: "WARNING", 9: "INFO"}


def test_a_fault_that_comes_again_after_a_push_is_logged_again(
    exported, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "pipeline")
    place(exported[0], tmp_path / "vae", 5)
    other = place(exported[1], tmp_path / "hidden", 6)
    (other / "saved_model.pb").unlink()
    with serving(tmp_path / "vae") as models:
        for _ in range(2):
            other.rename(tmp_path / "vae" / "6")
            for _ in range(2):
                asyncio.run(models.refresh())
            (tmp_path / "vae" / "6").rename(other)
            for _ in range(2):  # the second refresh finds nothing new
                asyncio.run(models.refresh())
    text = f"version 6 of {tmp_path}/vae is not served: "
    assert len([line for _, line in log_lines(caplog) if line.startswith(text)]) == 2


def test_a_closed_server_loads_and_computes_nothing_more(tmp_path):
    with serving(tmp_path / "vae") as models:
        assert models.executor.submit(int, "7").result() == 7
    with pytest.raises(RuntimeError, match="after shutdown"):
        models.executor.submit(int)
    asyncio.run(models.refresh())
    assert not models.is_ready


class Clients:
    """Clients that send requests and record all answers until the `with` block ends."""

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
            # The older version, with a lower number, is served again.
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
def test_a_damaged_version_is_logged_and_not_served(exported, tmp_path, caplog, damage):
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
    logged = [r for r in caplog.records if expected in r.getMessage()]
    assert len(logged) == 1  # the condition holds at each refresh, but is logged once


def test_unchanged_files_are_not_read_again(exported, tmp_path, monkeypatch):
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


def test_a_store_that_stops_answering_changes_nothing(
    exported, s3, tmp_path, caplog, monkeypatch
):
    caplog.set_level(logging.INFO, "pipeline")
    uri = f"s3://{s3.name}/serving/vae"
    first = push_next(exported[0], destination=uri, manifest=Manifest.from_content({}))
    with Server(uri) as server:
        server.when_ready()
        assert server.states() == {first.number: "AVAILABLE"}
        s3.server.refused.append(("GET", s3.name))
        server.wait(lambda: "can't serve the newest version" in caplog.text)
        assert server.predict({"instances": [1.0]}) == (200, {"predictions": [2.0]})
        s3.server.refused.clear()
        second = push_next(
            exported[1], destination=uri, manifest=Manifest.from_content({})
        )
        server.wait(lambda: server.states().get(second.number) == "AVAILABLE")
        assert server.predict({"instances": [1.0]}) == (200, {"predictions": [3.0]})


def test_only_a_version_that_the_key_signed_is_served(exported, tmp_path, caplog):
    caplog.set_level(logging.INFO, "pipeline")
    destination = str(tmp_path / "vae")
    pair = write_pair(tmp_path, "key")
    versions = [
        push_next(
            model,
            destination=destination,
            manifest=Manifest.from_content({}),
            signer=settings.load_signer(destination),
        )
        for model, settings in zip(exported, [pair, SigningSettings()], strict=True)
    ]
    models = Models(
        "vae",
        destination,
        limits=Limits(),
        threads=1,
        verifier=pair.load_verifier(destination),
    )
    with contextlib.closing(models):
        asyncio.run(models.refresh())
        assert states(models) == [(versions[0].number, "AVAILABLE")]
    assert log_lines(caplog)[0] == (
        "WARNING",
        f"version {versions[1].number} of {destination} is not served: it has no "
        "model.sig that is a regular file, and push.verify accepts only signed "
        "versions",
    )
