"""The checksums of artifacts' files, and the damage that they reveal."""

import hashlib
import json

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from pipeline.local import artifact_checksums

DATA = bytes(range(256)) * 20


@pytest.fixture
def store():
    config = metadata_store_pb2.ConnectionConfig()
    config.fake_database.SetInParent()
    return metadata_store.MetadataStore(config)


@pytest.fixture
def artifact(store, tmp_path):
    """Returns an artifact with checksums, as the metadata store returns it."""
    folder = tmp_path / "examples" / "1"
    for name in ("Split-train/shard-0.gz", "Split-train/shard-1.gz", "info.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(DATA)
    (folder / "empty").touch()
    kind = store.put_artifact_type(metadata_store_pb2.ArtifactType(name="Examples"))
    made = metadata_store_pb2.Artifact(
        type_id=kind, uri=str(folder), state=metadata_store_pb2.Artifact.LIVE
    )
    (made.id,) = store.put_artifacts([made])
    artifact_checksums.store_checksums(store, [made])
    (found,) = store.get_artifacts()
    return found


def test_checksums_are_in_metadata_where_old_roots_have_them(artifact):
    files = json.loads(artifact.custom_properties["seal"].string_value)
    assert files == {
        name: [size, hashlib.sha256(data).hexdigest()]
        for name, size, data in (
            ("Split-train/shard-0.gz", 5120, DATA),
            ("Split-train/shard-1.gz", 5120, DATA),
            ("empty", 0, b""),
            ("info.json", 5120, DATA),
        )
    }
    assert artifact_checksums.find_damage(artifact) == ""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda path: path.write_bytes(DATA[:-1]), "has 5,119 bytes, not 5,120"),
        (lambda path: path.write_bytes(b""), "has 0 bytes, not 5,120"),
        (lambda path: path.unlink(), "is missing"),
        (
            lambda path: path.write_bytes(DATA[:99] + b"x" + DATA[100:]),
            "has changed since its step ended",
        ),
    ],
)
def test_damage_is_named(artifact, tmp_path, change, expected):
    path = tmp_path / "examples" / "1" / "Split-train" / "shard-1.gz"
    change(path)
    assert artifact_checksums.find_damage(artifact) == f"{path} {expected}"


def test_a_file_too_many_is_damage(artifact, tmp_path):
    path = tmp_path / "examples" / "1" / "Split-train" / "shard-2.gz"
    path.write_bytes(DATA)
    assert (
        artifact_checksums.find_damage(artifact)
        == f"{path} was added after its step ended"
    )


def test_an_artifact_without_checksums_is_damaged(artifact, store):
    del artifact.custom_properties["seal"]
    assert artifact_checksums.find_damage(artifact) == (
        f"{artifact.uri} has no checksums: its step was stopped before its end, or ran "
        "before checksums were stored"
    )
    artifact_checksums.discard_artifact(store, artifact)
    (found,) = store.get_artifacts()
    assert found.state == metadata_store_pb2.Artifact.DELETED


def test_a_discarded_artifact_is_not_live(artifact, store):
    artifact_checksums.discard_artifact(store, artifact)
    (found,) = store.get_artifacts()
    assert found.state == metadata_store_pb2.Artifact.DELETED
