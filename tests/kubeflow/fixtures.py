"""Fixtures for tests of the clients of Kubeflow's API server and object store."""

import boto3
import pytest

from pipeline.kubeflow import client
from tests.kubeflow import api_server
from tests.kubeflow.api_server import LIMITS


@pytest.fixture(scope="session")
def _kfp_server():
    with api_server.serve() as server:
        yield server


@pytest.fixture
def kfp(_kfp_server, monkeypatch, tmp_path):
    """Returns an empty API server; hides this machine's KFP credentials."""
    _kfp_server.reset()
    monkeypatch.setattr(
        client.kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json")
    )
    for variable in (
        client.TOKEN_FILE,
        "KF_PIPELINES_ENDPOINT",
        "KF_PIPELINES_UI_ENDPOINT",
        "KF_PIPELINES_IAP_OAUTH2_CLIENT_ID",
    ):
        monkeypatch.delenv(variable, raising=False)
    return _kfp_server


@pytest.fixture
def connection(kfp):
    """Returns a connection to the API server of the fixture `kfp`."""
    return client.connect(kfp.url, None, limits=LIMITS)


@pytest.fixture
def store(s3_elsewhere, _s3_server, monkeypatch):
    """Yields a client of an S3 server whose bucket `mlpipeline` is empty."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", _s3_server.url)
    client = boto3.client("s3")
    client.create_bucket(Bucket="mlpipeline")
    yield client
    for item in client.list_objects_v2(Bucket="mlpipeline").get("Contents", ()):
        client.delete_object(Bucket="mlpipeline", Key=item["Key"])
    client.delete_bucket(Bucket="mlpipeline")
