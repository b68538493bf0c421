"""Pusher: ships a blessed model to the push destination, all at once and only once."""

import importlib.metadata
import json
import logging
import pathlib
import platform
import shutil
import tempfile

import tensorflow as tf
from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components import data_gate, evaluator, infra_check, ingest, served_model
from components.evaluation import measure
from components.registry import listing, rolling_back
from components.registry.manifest import MANIFEST, VERDICT, digest_of, file_digests
from model.config import ModelConfig

logger = logging.getLogger(__name__)

# Properties of PushedModel, as TFX's own Pusher sets them.
PUSHED_PROPERTY = "pushed"
DESTINATION_PROPERTY = "pushed_destination"
VERSION_PROPERTY = "pushed_version"
REJECTION_PROPERTY = "rejection"  # of ours: why a model that is blessed was not pushed

_STACK = ("tfx", "tensorflow", "tf-keras", "tensorflow-probability", "vae-pipeline")


def stack() -> dict[str, str]:
    """Returns the versions of Python and of what matters most to a model."""
    packages = {name: importlib.metadata.version(name) for name in _STACK}
    return {"python": platform.python_version(), **packages}


@component
def Pusher(  # noqa: N802, a component
    model: InputArtifact[standard_artifacts.Model],
    blessing: InputArtifact[standard_artifacts.ModelBlessing],
    infra_blessing: InputArtifact[standard_artifacts.InfraBlessing],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    baseline: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    data_report: InputArtifact[standard_artifacts.ExampleStatistics],
    pushed_model: OutputArtifact[standard_artifacts.PushedModel],
    destination: Parameter[str],
    provenance: Parameter[str],
) -> None:
    """Pushes the model if it is blessed twice, and neither served nor rolled back from.

    Nor is it pushed when another version is served than when this run began: it was not
    measured against that one.

    Leaves the verdict, in JSON, in PushedModel's folder: for those who see no metadata.

    Args:
      model: the candidate.
      blessing: the Evaluator's.
      infra_blessing: InfraCheck's.
      evaluation: what the Evaluator measured; goes into the manifest.
      baseline: what it was measured against.
      examples: Ingest's, which know their data's fingerprint and their spans.
      data_report: DataGate's: the next run compares its data with these statistics.
      pushed_model: says whether, where and as which version it was pushed.
      destination: the folder of versions, or its URI.
      provenance: JSON of what the run knows of itself; goes into the manifest.
    """
    details = json.loads(provenance)
    found = evaluator.read_evaluation(evaluation.uri)
    manifest = {
        "elbo": {
            "elbo": found.candidate.elbo,
            "reconstruction": found.candidate.reconstruction,
            "kl": found.candidate.kl,
            "unit": "nats per image",
            "split": measure.SPLIT,
            "images": found.images,
        },
        "baseline": _baseline(baseline),
        "data_fingerprint": examples.get_string_custom_property(
            ingest.FINGERPRINT_PROPERTY
        ),
        "spans": json.loads(
            examples.get_string_custom_property(ingest.SPANS_PROPERTY) or "[]"
        ),
        **details,
        "stack": stack(),
    }
    version, rejection = None, ""
    if not model_utils.is_model_blessed(blessing):
        logger.info("not pushed: the Evaluator did not bless the model")
    elif not model_utils.is_infra_validated(infra_blessing):
        logger.info("not pushed: InfraCheck did not bless the model")
    else:
        model_dir = path_utils.serving_model_dir(model.uri)
        statistics = pathlib.Path(data_report.uri, data_gate.STATISTICS)
        version, rejection = _push(model_dir, statistics, destination, manifest)
    pushed_model.set_int_custom_property(PUSHED_PROPERTY, int(version is not None))
    if version is not None:
        pushed_model.set_string_custom_property(DESTINATION_PROPERTY, version.path)
        pushed_model.set_string_custom_property(VERSION_PROPERTY, str(version.number))
        # A copy, for those who don't see the destination.
        text = json.dumps(version.manifest, indent=2)
        pathlib.Path(pushed_model.uri, MANIFEST).write_text(text, encoding="utf-8")
    if rejection:
        pushed_model.set_string_custom_property(REJECTION_PROPERTY, rejection)
    config = details["config"]
    verdict = {
        "refusals": refusals(evaluation.uri, infra_blessing, pushed_model),
        "elbo": found.candidate.elbo,
        "baseline_elbo": found.baseline and found.baseline.elbo,
        "estimate": measure.estimate(
            measure.ELBO,
            config["gate"]["samples"],
            config["gate"]["seed"],
            found.images,
            ModelConfig(**config["model"]).binary,
        ),
        "pushed": version and version.path,
    }
    pathlib.Path(pushed_model.uri, VERDICT).write_text(
        json.dumps(verdict, indent=2), encoding="utf-8"
    )


def refusals(
    evaluation: str,
    infra_blessing: standard_artifacts.InfraBlessing,
    pushed_model: standard_artifacts.PushedModel,
) -> list[str]:
    """Returns why the model is not to be served, a sentence each.

    Args:
      evaluation: the Evaluator's output folder.
      infra_blessing: InfraCheck's.
      pushed_model: the Pusher's.
    """
    reasons = evaluator.refusals(evaluation)
    if not model_utils.is_infra_validated(infra_blessing):
        reason = infra_blessing.get_string_custom_property(infra_check.REASON_PROPERTY)
        reasons.append(f"InfraCheck: {reason}")
    if rejection := pushed_model.get_string_custom_property(REJECTION_PROPERTY):
        reasons.append(rejection)
    return reasons


def _push(
    model_dir: str, statistics: pathlib.Path, destination: str, manifest: dict
) -> tuple[listing.Version | None, str]:
    """Returns the new version, or None, and why a model that is good is refused."""
    # TensorFlow's own identity of a model: the files of two exports of the same graph
    # and weights differ in the numbers that name their functions.
    singleprint = tf.saved_model.experimental.read_fingerprint(model_dir).singleprint()
    current = listing.served(destination)
    if current is not None and current.manifest.get("singleprint") == singleprint:
        logger.info("not pushed: version %d is this very model", current.number)
        return None, ""
    digest = digest_of(file_digests(model_dir))
    if record := rolling_back.rejection(destination, digest, singleprint):
        reason = f"this very model is not to be served again: {record.told()}"
        logger.warning("not pushed: %s", reason)
        return None, reason
    measured = manifest["baseline"] and manifest["baseline"]["version"]
    if current is not None and current.number != measured:
        run_key = manifest["run_key"]  # empty on Kubeflow
        if run_key and current.manifest.get("run_key") == run_key:
            logger.info("not pushed: version %d is of the same inputs", current.number)
            return None, ""
        against = f"version {measured}" if measured else "nothing"
        reason = (
            f"version {current.number} is served since this began, which was measured "
            f"against {against}: the next run is measured against version "
            f"{current.number}"
        )
        logger.warning("not pushed: %s", reason)
        return None, reason
    manifest = {"singleprint": singleprint, **manifest}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(model_dir, folder, dirs_exist_ok=True)
        target = pathlib.Path(folder, data_gate.SERVED_STATISTICS)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(statistics, target)
        version = listing.push(folder, destination, manifest)
    logger.info("pushed version %d to %s", version.number, version.path)
    return version, ""


def _baseline(model: standard_artifacts.Model) -> dict | None:
    if served_model.is_none(model):
        return None
    path = path_utils.serving_model_dir(model.uri)
    return {
        "version": model.get_int_custom_property(served_model.VERSION_PROPERTY),
        "digest": digest_of(file_digests(path)),
    }
