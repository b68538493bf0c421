"""Folders and URIs, and the errors about object stores that fail."""

import time

import pytest

from model.files import filesystems
from pipeline import exit_codes
from tests.support.s3 import KEY, SECRET


def url(uri):
    """Returns where an object of a store would be read, without reading it."""
    files, path = filesystems.find_filesystem(uri)
    return files.url(path).partition("?")[0]


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/serving/vae", "/serving/vae"),
        ("/serving/vae/", "/serving/vae"),
        ("file:///serving/vae", "/serving/vae"),
        ("serving/a::b", "{here}/serving/a::b"),
        ("s3://bucket/serving", None),
        ("minio://bucket", None),
        ("gs://bucket/serving", None),
    ],
)
def test_folders_have_a_path_here(uri, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = path and path.format(here=tmp_path)
    assert filesystems.local_path(uri) == expected
    if path:
        files, found = filesystems.find_filesystem(uri)
        assert (files.protocol, found) == (("file", "local"), expected)


@pytest.mark.parametrize(
    "uri",
    ["hdfs://host/serving", "simplecache::s3://bucket/x", "S3://bucket/x", "s3://"],
)
def test_an_invalid_destination_is_refused(uri):
    with pytest.raises(filesystems.PathError) as error:
        filesystems.find_filesystem(uri)
    assert str(error.value).startswith(
        "a destination must be a folder or begin with minio://, s3://, gs://, got "
        f"{uri!r}: "
    )


@pytest.mark.parametrize("uri", ["minio://b/serving", "s3://b/serving", "gs://b/s"])
def test_an_object_stores_uri_has_no_local_path(uri):
    assert filesystems.local_path(uri) is None


# Endpoints: these tests send no requests.


def test_s3_is_amazons_without_an_endpoint(s3_elsewhere):
    assert url("s3://bucket/vae/").startswith("https://bucket.s3.")
    assert url("s3://bucket/vae/").endswith(".amazonaws.com/vae")


def test_minio_is_that_of_kubeflow_without_an_endpoint(s3_elsewhere):
    expected = "http://minio-service.kubeflow:9000/bucket/vae"
    assert url("minio://bucket/vae") == expected


@pytest.mark.parametrize("scheme", ["s3", "minio"])
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_endpoint_of_the_environment(s3_elsewhere, monkeypatch, scheme, variable):
    monkeypatch.setenv(variable, "http://store.example:9000")
    # The bucket is in the path, because it cannot be part of such a host's name.
    assert url(f"{scheme}://bucket/vae") == "http://store.example:9000/bucket/vae"


def test_gs_is_googles(monkeypatch):
    # The client looks for no credentials with an emulator.
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    files, path = filesystems.find_filesystem("gs://bucket/vae/")
    assert "gs" in files.protocol
    assert path == "bucket/vae"
    found = files.url(path)
    assert found.startswith("http://127.0.0.1:1/download/storage/v1/b/bucket/o/vae")


# Listings.


def test_files_that_another_process_wrote_are_found(s3):
    uri = f"s3://{s3.name}/vae"
    for count in (1, 2):
        s3.files.pipe_file(f"{s3.name}/vae/{count}", b"")
        with filesystems.open_filesystem(uri) as (files, path):
            assert len(files.ls(path, detail=False)) == count
            assert files.exists(f"{path}/{count}")


# Errors.


def error_of(uri):
    """Returns the message of the error when a store's objects are listed."""
    with (
        pytest.raises(filesystems.StorageError) as error,
        filesystems.open_filesystem(uri) as (files, path),
    ):
        files.find(path)
    text = str(error.value)
    assert text.startswith(f"can't use {uri} (")
    assert text.endswith(
        "): the bucket must exist, the endpoint answer (AWS_ENDPOINT_URL is that of "
        "s3:// and minio://), and the credentials allow to list, read and write"
    )
    assert SECRET not in text
    # one line, for every place where it is shown
    assert exit_codes.describe_cause(error.value) == text
    return text


def test_no_such_bucket(s3):
    text = error_of("s3://no-such-bucket/vae")
    assert "The specified bucket does not exist)" in text


def test_what_is_refused(s3):
    s3.server.refused.append(("GET", s3.name))
    assert "PermissionError: Access Denied)" in error_of(f"s3://{s3.name}/vae")


@pytest.mark.parametrize("scheme", ["s3", "minio"])
def test_an_endpoint_that_does_not_answer(s3_elsewhere, monkeypatch, scheme):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    text = error_of(f"{scheme}://bucket/vae")
    assert 'Could not connect to the endpoint URL: "http://127.0.0.1:1/bucket' in text


@pytest.mark.parametrize("scheme", ["s3", "minio"])
def test_no_credentials(s3_elsewhere, monkeypatch, scheme):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    started = time.monotonic()
    text = error_of(f"{scheme}://bucket/vae")
    assert "NoCredentialsError: Unable to locate credentials)" in text
    assert time.monotonic() - started < 30


def test_half_of_the_credentials(s3_elsewhere, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    text = error_of("s3://bucket/vae")
    assert KEY not in text
    assert "credentials" in text


def test_a_folders_errors_are_its_own(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="none"),
        filesystems.open_filesystem(str(tmp_path)) as (files, path),
    ):
        files.ls(f"{path}/none")
