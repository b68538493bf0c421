"""ServedModel: gives the model that is being served now as the baseline, or none."""

import logging
import os

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.registry import listing

logger = logging.getLogger(__name__)

VERSION_PROPERTY = "version"  # of the baseline; absent when there is none
DAMAGED_PROPERTY = "damaged"  # why there is none, though versions are there


@component
def ServedModel(  # noqa: N802, a component
    model: OutputArtifact[standard_artifacts.Model],
    destination: Parameter[str],
    fingerprint: Parameter[str],
) -> None:
    """Copies the served version into `model`, or leaves it empty.

    What is served is the truth, not what metadata blessed last: they differ after a
    rollback.

    Args:
      model: the baseline; a copy, so that pruning versions leaves the lineage whole.
      destination: the push destination, a folder or a URI.
      fingerprint: of what is served, so that another baseline never comes from the
        cache; empty where only this step sees the destination.
    """
    version, damaged = listing.find_served_and_damaged(destination)
    for other in damaged:
        logger.warning("%s", other.describe(version))
    if version is None and damaged:
        model.set_string_custom_property(DAMAGED_PROPERTY, damaged[0].describe(None))
    if version is None:
        logger.info("nothing is served at %s: there is no baseline", destination)
        return
    listing.fetch_version(version, path_utils.serving_model_dir(model.uri))
    model.set_int_custom_property(VERSION_PROPERTY, version.number)
    logger.info("the baseline is version %d at %s", version.number, destination)


def is_none(model: standard_artifacts.Model) -> bool:
    """Whether ServedModel's output says that there is no baseline.

    Raises:
      OSError: the output can't be read: without its baseline a gate would bless more.
    """
    version = model.get_int_custom_property(VERSION_PROPERTY)
    try:
        os.stat(path_utils.serving_model_dir(model.uri))
    except FileNotFoundError:
        if version:
            raise
        return True
    return False


def why_none(model: standard_artifacts.Model) -> str:
    """Returns why there is no baseline."""
    return model.get_string_custom_property(DAMAGED_PROPERTY) or "nothing was served"
