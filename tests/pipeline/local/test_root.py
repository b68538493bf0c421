"""The files and folders of a root."""

import pathlib

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from pipeline.config.loading import PipelineConfig
from pipeline.config.sections import PushConfig
from pipeline.local import root
from pipeline.local.root import Root


def test_the_state_is_below_the_root():
    """Other releases and people expect the state in the root."""
    runs = Root(pathlib.Path("/runs"))
    assert str(runs.metadata) == "/runs/metadata.sqlite"
    assert str(runs.artifacts) == "/runs/artifacts"
    assert str(runs.checkpoints) == "/runs/checkpoints"


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("", "/runs/serving/vae"),
        ("/elsewhere", "/elsewhere/vae"),
        ("/elsewhere/", "/elsewhere/vae"),
        ("elsewhere", "{here}/elsewhere/vae"),
        ("file:///elsewhere", "/elsewhere/vae"),
        ("s3://bucket", "s3://bucket/vae"),
        ("s3://bucket/serving/", "s3://bucket/serving/vae"),
        ("minio://bucket/serving", "minio://bucket/serving/vae"),
    ],
)
def test_the_folder_of_versions(destination, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = PipelineConfig(push=PushConfig(destination=destination))
    runs = Root(pathlib.Path("/runs"))
    assert runs.destination(config) == expected.format(here=tmp_path)


def test_the_schema_is_the_reviewed_one():
    schema = schema_pb2.Schema()
    text_format.Parse(root.schema_file().read_text(encoding="utf-8"), schema)
    assert {"image", "label"} <= {feature.name for feature in schema.feature}
