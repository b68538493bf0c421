"""ServedModel: a copy of the served version as the baseline, or nothing."""

import os
import pathlib
import shutil

import pytest
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.registry import rolling_back
from components.registry.listing import VersionError
from components.registry.manifest import Manifest
from components.served_model import (
    ServedModel,
    explain_no_version,
    has_no_version,
    read_manifest,
)
from model.files.filesystems import StorageError
from tests.support.places import write_model
from tests.support.pushes import push_next
from tests.support.signing_keys import write_pair

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index"}


@pytest.fixture
def destination(tmp_path):
    return str(tmp_path / "serving")


@pytest.fixture
def model(tmp_path):
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    os.mkdir(model.uri)
    return model


@pytest.fixture
def push(tmp_path, destination):
    def push(**changes):
        folder = tmp_path / "pushed"
        for name, data in {**FILES, **changes}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        version = push_next(
            str(folder),
            destination=destination,
            manifest=Manifest.from_content({"elbo": {"elbo": -90}}),
        )
        shutil.rmtree(folder)
        return version

    return push


def fetch(model, destination):
    ServedModel.test_call(model=model, destination=destination, fingerprint="")


def files_of(model):
    folder = pathlib.Path(path_utils.serving_model_dir(model.uri))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("folders", [[], [""], ["1234"], [".staging-x"]])
def test_there_is_no_baseline_when_nothing_is_served(model, destination, folders):
    for folder in folders:
        os.makedirs(os.path.join(destination, folder))
    fetch(model, destination)
    assert has_no_version(model)
    assert os.listdir(model.uri) == []
    assert not model.has_custom_property("version")


def test_the_baseline_is_a_copy_of_what_is_served(model, destination, push):
    version = push()
    fetch(model, destination)
    assert not has_no_version(model)
    assert files_of(model) == FILES  # MANIFEST.json is none of the model's
    assert model.get_int_custom_property("version") == version.number
    shutil.rmtree(version.path)
    assert files_of(model) == FILES


def test_the_manifest_of_the_baseline_is_kept_beside_it(model, destination, push):
    version = push()
    fetch(model, destination)
    shutil.rmtree(version.path)
    assert read_manifest(model) == version.manifest
    assert read_manifest(model).elbo == -90


def test_a_manifest_that_is_lost_is_not_none(model, destination, push):
    push()
    fetch(model, destination)
    pathlib.Path(model.uri, "MANIFEST.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"MANIFEST\.json"):
        read_manifest(model)


def test_a_manifest_of_the_models_own_is_copied(model, destination, push):
    of_its_own = {"assets/MANIFEST.json": b"of its own"}
    push(**of_its_own)
    fetch(model, destination)
    assert files_of(model) == {**FILES, **of_its_own}


def test_after_a_rollback_the_baseline_is_what_is_served(model, destination, push):
    old, _ = push(), push(**{"saved_model.pb": b"worse"})
    again = rolling_back.roll_back(destination, old.number, why="worse")
    fetch(model, destination)
    assert files_of(model) == FILES
    assert model.get_int_custom_property("version") == again.number > old.number
    assert read_manifest(model).elbo == -90


def test_a_changed_model_is_not_a_baseline(model, destination, push, caplog):
    old, new = push(), push(**{"saved_model.pb": b"better"})
    pathlib.Path(new.path, "saved_model.pb").write_bytes(b"changed")
    fetch(model, destination)
    assert files_of(model) == FILES
    assert model.get_int_custom_property("version") == old.number
    (logged,) = [record.getMessage() for record in caplog.records]
    assert logged.startswith(f"version {new.number} of {destination} is damaged: ")
    assert logged.endswith(f"; the baseline is version {old.number}")


def test_the_reason_for_a_missing_baseline_is_recorded(model, destination, push):
    fetch(model, destination)
    assert explain_no_version(model) == "nothing was served"
    pathlib.Path(push().path, "saved_model.pb").write_bytes(b"changed")
    fetch(model, destination)
    assert has_no_version(model)
    assert "saved_model.pb has SHA-256" in explain_no_version(model)
    assert explain_no_version(model).endswith("; there is no baseline")


def test_the_baseline_comes_from_an_object_store(model, s3, tmp_path):
    uri = f"s3://{s3.name}/serving/vae"
    fetch(model, uri)
    assert has_no_version(model)
    version = push_next(
        write_model(tmp_path / "pushed", FILES),
        destination=uri,
        manifest=Manifest.from_content({}),
    )
    fetch(model, uri)
    assert files_of(model) == FILES
    assert model.get_int_custom_property("version") == version.number


def test_an_incomplete_copy_is_not_a_baseline(model, s3, tmp_path):
    uri = f"s3://{s3.name}/serving/vae"
    version = push_next(
        write_model(tmp_path / "pushed", FILES),
        destination=uri,
        manifest=Manifest.from_content({}),
    )
    path = f"{s3.name}/serving/vae/{version.number}/saved_model.pb"
    s3.files.pipe_file(path, b"grap")
    fetch(model, uri)
    assert has_no_version(model)
    assert os.listdir(model.uri) == []


def test_a_version_that_is_damaged_during_the_copy_is_not_a_baseline(
    model, s3, tmp_path
):
    uri = f"s3://{s3.name}/serving/vae"
    version = push_next(
        write_model(tmp_path / "pushed", FILES),
        destination=uri,
        manifest=Manifest.from_content({}),
    )
    path = f"{s3.name}/serving/vae/{version.number}/saved_model.pb"
    reads = []

    def tear():  # after the version was verified at the destination
        reads.append(path)
        if len(reads) == 2:
            s3.files.pipe_file(path, b"grap")

    s3.server.before["GET", "saved_model.pb"] = tear
    with pytest.raises(VersionError, match=r"saved_model\.pb has SHA-256"):
        fetch(model, uri)
    assert has_no_version(model)
    assert os.listdir(model.uri) == []


def test_an_object_store_that_cannot_be_read_is_not_none(model, s3):
    with pytest.raises(StorageError, match="can't use s3://no-such-bucket/vae"):
        fetch(model, "s3://no-such-bucket/vae")


def test_a_baseline_that_cannot_be_read_is_not_none(model, tmp_path):
    (tmp_path / "file").write_text("")
    model.uri = str(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        has_no_version(model)


def test_a_baseline_that_is_lost_is_not_none(model, destination, push):
    push()
    fetch(model, destination)
    shutil.rmtree(path_utils.serving_model_dir(model.uri))
    with pytest.raises(FileNotFoundError):
        has_no_version(model)


def test_a_name_above_the_versions_is_logged_and_ignored(
    model, destination, push, caplog
):
    version = push()
    os.mkdir(os.path.join(destination, "9223372036854775807"))
    fetch(model, destination)
    assert model.get_int_custom_property("version") == version.number
    assert "'9223372036854775807' in " in caplog.text


def test_a_version_that_the_key_did_not_sign_is_no_baseline(
    model, destination, push, tmp_path
):
    pair = write_pair(tmp_path / "keys", "key")
    version = push()
    ServedModel.test_call(
        model=model, destination=destination, fingerprint="", signing=pair.to_json()
    )
    assert has_no_version(model)
    assert explain_no_version(model).startswith(
        f"version {version.number} of {destination} is damaged: it has no model.sig"
    )
