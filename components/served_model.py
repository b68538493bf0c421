"""The ServedModel step: copies the served version from the registry as baseline."""

import logging
import os
import pathlib

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.registry import listing, version_numbers
from components.registry.manifest import MANIFEST, Manifest
from components.registry.signing import SigningSettings
from model.files import regular_files

logger = logging.getLogger(__name__)

VERSION_PROPERTY = "version"  # of the baseline; absent: there is none
DAMAGED_PROPERTY = "damaged"  # why there is no baseline although there are versions


@component
def ServedModel(  # noqa: N802, a component
    model: OutputArtifact[standard_artifacts.Model],
    destination: Parameter[str],
    fingerprint: Parameter[str],
    signing: Parameter[str] = "{}",
) -> None:
    """Copies the served version into `model`, or leaves `model` empty if there is none.

    The baseline is not the last model that metadata has as blessed, because after a
    rollback another version is served.

    Args:
      model: the baseline; a copy, so that it stays when its version is deleted. Its
        manifest is beside it, not among the model's files.
      destination: the folder or URI of the versions.
      fingerprint: identifies the served version as a part of the step's cache key;
        empty: only this step has access to the destination.
      signing: the name of the key that verifies versions, as SigningSettings.to_json
        writes it.
    """
    for message in version_numbers.describe_ignored_names(destination):
        logger.warning("%s", message)
    verifier = SigningSettings.from_json(signing).load_verifier(destination)
    version, damaged = listing.find_served_and_damaged(destination, verifier=verifier)
    for other in damaged:
        logger.warning("%s", other.describe(version))
    if version is None and damaged:
        model.set_string_custom_property(DAMAGED_PROPERTY, damaged[0].describe(None))
    if version is None:
        logger.info("nothing is served at %s: there is no baseline", destination)
        return
    listing.fetch_version(version, path_utils.serving_model_dir(model.uri))
    text = version.manifest.to_json()
    pathlib.Path(model.uri, MANIFEST).write_text(text, encoding="utf-8")
    model.set_int_custom_property(VERSION_PROPERTY, version.number)
    logger.info("the baseline is version %d at %s", version.number, destination)


def has_no_version(model: standard_artifacts.Model) -> bool:
    """Returns whether ServedModel found no baseline.

    Args:
      model: ServedModel's output.

    Raises:
      OSError: the output can't be read. To treat that as no baseline would make the
        gate bless more models.
    """
    version = model.get_int_custom_property(VERSION_PROPERTY)
    try:
        os.stat(path_utils.serving_model_dir(model.uri))
    except FileNotFoundError:
        if version:
            raise
        return True
    return False


def read_manifest(model: standard_artifacts.Model) -> Manifest:
    """Returns the manifest of the baseline.

    Args:
      model: ServedModel's output, which has a version.

    Raises:
      OSError: the manifest can't be read.
    """
    path = pathlib.Path(model.uri, MANIFEST)
    return Manifest.from_json(regular_files.read_bytes(path), model.uri)


def explain_no_version(model: standard_artifacts.Model) -> str:
    """Returns why ServedModel found no baseline.

    Args:
      model: ServedModel's output.
    """
    return model.get_string_custom_property(DAMAGED_PROPERTY) or "nothing was served"
