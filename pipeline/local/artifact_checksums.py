"""Seals: the digests of what a step made, taken when it ended.

An artifact that comes from the cache must be what its step made: a disk may have lost
a part of it since. The seal is kept with the artifact in metadata.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from model.files import digests

_PROPERTY = "seal"  # JSON: the bytes and the SHA-256 of each file, by its path


def put(
    store: metadata_store.MetadataStore,
    artifacts: Sequence[metadata_store_pb2.Artifact],
) -> None:
    """Seals artifacts that their step has just made."""
    for artifact in artifacts:
        files = {
            name: [path.stat().st_size, digests.digest_file(path)]
            for name, path in _files(artifact.uri).items()
        }
        artifact.custom_properties[_PROPERTY].string_value = json.dumps(files)
    store.put_artifacts(artifacts)


def forget(
    store: metadata_store.MetadataStore, artifact: metadata_store_pb2.Artifact
) -> None:
    """Keeps an artifact from ever being used again; its files stay."""
    artifact.state = metadata_store_pb2.Artifact.DELETED
    store.put_artifacts([artifact])


def damage(artifact: metadata_store_pb2.Artifact) -> str:
    """Returns what is wrong with an artifact's files; empty if nothing is."""
    # To look up what is not there would add it, empty: ml-metadata ends the process.
    if _PROPERTY not in artifact.custom_properties:
        return (
            f"{artifact.uri} has no seal: its step was stopped before its end, or ran "
            "before there were seals"
        )
    sealed = json.loads(artifact.custom_properties[_PROPERTY].string_value)
    return _difference(artifact.uri, sealed)


def _difference(uri: str, sealed: Mapping[str, Sequence]) -> str:
    found = _files(uri)
    for name, (size, sha256) in sealed.items():
        path = pathlib.Path(uri, name)
        if name not in found:
            return f"{path} is missing"
        actual = path.stat().st_size
        if actual != size:
            return f"{path} has {actual:,} bytes, not {size:,}"
        if digests.digest_file(path) != sha256:
            return f"{path} has other content than when its step ended"
    for name in found:
        if name not in sealed:
            return f"{pathlib.Path(uri, name)} was added after its step ended"
    return ""


def _files(uri: str) -> dict[str, pathlib.Path]:
    folder = pathlib.Path(uri)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path for path in paths}
