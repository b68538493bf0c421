"""Checksums of the steps' output artifacts, stored in ML Metadata.

TFX's cache does not check the files of an artifact. The disk may have lost or changed
some of them since the step ran.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from model.files import digests

# The artifacts' property with the checksums. JSON: the size in bytes and the SHA-256 of
# each file, by relative path. The metadata of existing roots contain this name.
_PROPERTY = "seal"


def store_checksums(
    store: metadata_store.MetadataStore,
    artifacts: Sequence[metadata_store_pb2.Artifact],
) -> None:
    """Computes the checksums of artifacts' files, and stores them in the metadata."""
    for artifact in artifacts:
        files = {
            name: [path.stat().st_size, digests.digest_file(path)]
            for name, path in _list_files(artifact.uri).items()
        }
        artifact.custom_properties[_PROPERTY].string_value = json.dumps(files)
    store.put_artifacts(artifacts)


def discard_artifact(
    store: metadata_store.MetadataStore, artifact: metadata_store_pb2.Artifact
) -> None:
    """Marks an artifact as deleted, so that the cache ignores it; its files stay."""
    artifact.state = metadata_store_pb2.Artifact.DELETED
    store.put_artifacts([artifact])


def find_damage(artifact: metadata_store_pb2.Artifact) -> str:
    """Returns how an artifact's files differ from its checksums, or an empty text."""
    # A protobuf map adds a key that is looked up, and ml-metadata aborts on the empty
    # value.
    if _PROPERTY not in artifact.custom_properties:
        return (
            f"{artifact.uri} has no checksums: its step was stopped before its end, or "
            "ran before checksums were stored"
        )
    expected = json.loads(artifact.custom_properties[_PROPERTY].string_value)
    return _find_difference(artifact.uri, expected)


def _find_difference(uri: str, expected: Mapping[str, Sequence]) -> str:
    files = _list_files(uri)
    for name, (size, sha256) in expected.items():
        path = pathlib.Path(uri, name)
        if name not in files:
            return f"{path} is missing"
        actual = path.stat().st_size
        if actual != size:
            return f"{path} has {actual:,} bytes, not {size:,}"
        if digests.digest_file(path) != sha256:
            return f"{path} has changed since its step ended"
    for name in files:
        if name not in expected:
            return f"{pathlib.Path(uri, name)} was added after its step ended"
    return ""


def _list_files(uri: str) -> dict[str, pathlib.Path]:
    folder = pathlib.Path(uri)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path for path in paths}
